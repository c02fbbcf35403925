"""What a start says of itself, and that it holds no password."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sidecar.config.load import load
from sidecar.program import describe_program
from sidecar.runtime.start_report import describe_start

STORES = {
    "redis://u:hunter2@h": "redis://h:6379",
    "rediss://:hunter2@h:1/3?ssl_check_hostname=false": "rediss://h:1/3",
    "unix:///run/r.sock?password=hunter2": "unix:///run/r.sock",
    "redis+sentinel://:hunter2@h1,h2/main?sentinel_password=hunter2": (
        "redis+sentinel://h1:26379,h2:26379/main"
    ),
    "redis+cluster://:hunter2@h1,h2": "redis+cluster://h1:6379,h2:6379",
    "embedded": "embedded in {directory}/data",
}


def report(directory: Path, store: str, **more: Any) -> list[str]:
    file = directory / "sidecar.yaml"
    lines = ["upstreams: {a: {url: 'http://h'}}", "routes: [{path: /x}]"]
    lines += [f"store: {{url: '{store}'}}", *(f"{key}: {text}" for key, text in more.items())]
    file.write_text("\n".join(lines))
    return list(describe_start(load(file, {}), file, 2))


@pytest.mark.parametrize(("url", "shown"), STORES.items(), ids=STORES)
def test_the_store_is_named_without_user_and_password(url: str, shown: str, tmp_path: Path) -> None:
    lines = report(tmp_path, url)
    expected = shown.format(directory=tmp_path.resolve())
    assert lines[1] == f"configuration {tmp_path}/sidecar.yaml; store {expected}"
    assert "hunter2" not in "\n".join(lines)


def test_the_program_is_named_with_how_it_runs(tmp_path: Path) -> None:
    assert report(tmp_path, "redis://h")[0] == (
        f"auth-sidecar {describe_program()}, process {os.getpid()}, workers: 2"
    )


def test_every_listener_is_named(tmp_path: Path) -> None:
    lines = report(
        tmp_path,
        "redis://h",
        listen="{address: 'unix:/run/p.sock'}",
        portal="{address: '127.0.0.1:1'}",
        operations="{address: '[::1]:2'}",
    )
    assert lines[2].startswith("listeners: ")
    assert {"unix:/run/p.sock", "127.0.0.1:1", "[::1]:2"} == {
        part.rpartition(" on ")[2] for part in lines[2].split(", ")
    }
