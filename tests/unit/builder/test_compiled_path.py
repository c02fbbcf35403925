"""The list of compiled modules: it names modules that exist, and none of a hit's is forgotten."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from builder.compiled_path import COMPILED
from sidecar.program import is_compiled
from tests.in_process import TOKEN, on_uvloop, request, running_proxy

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "sidecar"

# What a hit runs that stays plain, and why.
PLAIN = {
    "store/memory": "the tests' store",
    "core/credential_faults": "asked of imported tokens that no cache knows, as here",
    "core/kinds": "docs quote its docstrings, which mypyc drops",
}


@pytest.mark.parametrize("name", COMPILED)
def test_each_module_of_the_list_is_there(name: str) -> None:
    assert (PACKAGE / f"{name}.py").is_file()


def test_no_module_stands_there_twice() -> None:
    assert [name for name, count in Counter(COMPILED).items() if count > 1] == []


@pytest.mark.skipif(is_compiled(), reason="a profiler sees no calls of compiled functions")
@on_uvloop
async def test_every_module_that_a_hit_runs_is_in_the_list() -> None:
    ran: set[str] = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        file = Path(frame.f_code.co_filename)
        if event == "call" and file.is_relative_to(PACKAGE):
            ran.add(str(file.relative_to(PACKAGE).with_suffix("")))

    async with running_proxy() as proxy:
        caller = await proxy.caller()
        for turn in range(4):
            if turn == 3:  # what happens once, such as a connection to the upstream, is no hit
                sys.setprofile(note)
            await caller.send(request(token=TOKEN))
            head, _ = await caller.response()
            assert head.startswith(b"HTTP/1.1 200")
        sys.setprofile(None)
    assert "proxy/gateway" in ran
    assert ran - set(COMPILED) - set(PLAIN) == set()
