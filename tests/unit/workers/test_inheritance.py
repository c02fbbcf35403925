"""What one program writes, the next one in its process reads: sockets, workers and counts."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from sidecar.workers.inheritance import (
    INHERITED,
    Inheritance,
    InheritedWorker,
    adopt_sockets,
    inherit,
)


@pytest.fixture
def descriptors() -> Iterator[list[int]]:
    """Return open descriptors, which a new program could inherit."""
    opened = [os.memfd_create("inherited", 0) for _ in range(4)]
    yield opened
    for descriptor in opened:
        os.close(descriptor)


def test_the_next_program_reads_what_this_one_has_written(descriptors: list[int]) -> None:
    """It makes the descriptors close-on-exec: other programs must not get them."""
    listening, channel, pipe, lock = descriptors
    worker = InheritedWorker(7, 1, 0, channel, False, b"rest", b"", {"connections": {(): 2.0}})
    written = Inheritance(
        {"proxy": ("127.0.0.1:8080", [[listening]])},
        [worker],
        {"requests": {("/x", "GET"): 3.0}},
        generation=4,
        refused=1,
        write_lock=lock,
        store={"pipe": pipe, "lock": pipe},
    )
    environ = {INHERITED: str(written.write())}
    assert inherit(environ) == written
    assert environ == {}
    assert not any(map(os.get_inheritable, descriptors))


def test_an_ordinary_start_inherits_nothing() -> None:
    assert inherit({}) is None


def test_slots_that_share_a_socket_share_its_object() -> None:
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as other:
        shared, single = os.dup(one.fileno()), os.dup(other.fileno())
    slots = adopt_sockets([[shared], [shared, single]])
    assert [[sock.fileno() for sock in slot] for slot in slots] == [[shared], [shared, single]]
    assert slots[0][0] is slots[1][0]
    for sock in {*slots[0], *slots[1]}:
        sock.close()
