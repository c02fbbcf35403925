"""The ports of a demo: the usual ones, or the next that are free, with the reason."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from sidecar.cli import demo_ports
from sidecar.cli.demo_ports import choose_ports
from tests.ports import free_port

HOST = "127.0.0.1"


@pytest.fixture
def wanted(monkeypatch: pytest.MonkeyPatch) -> tuple[int, ...]:
    """Three ports of this test's own: demos of other tests have the usual ones."""
    first = free_port()
    ports = (first, free_port(), free_port())
    monkeypatch.setattr(demo_ports, "WANTED", ports)
    return ports


@pytest.fixture
def reserved() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_the_wanted_ports_need_no_reason(wanted: tuple[int, ...], reserved: ExitStack) -> None:
    assert choose_ports(HOST, reserved) == (wanted, "")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_one_that_is_taken_moves_all_three_and_is_named(
    number: int, wanted: tuple[int, ...], reserved: ExitStack
) -> None:
    with socket.create_server((HOST, wanted[number])):
        ports, why = choose_ports(HOST, reserved)
    assert {port - other for port, other in zip(ports, wanted, strict=True)} == {
        ports[0] - wanted[0]
    }
    assert ports[0] > wanted[0]
    assert why == (
        f"Not free: port {wanted[number]} (another program listens on it). "
        f"This demo listens on {', '.join(map(str, ports))} instead."
    )


def test_a_demo_that_has_chosen_and_does_not_listen_yet_keeps_its_ports(
    wanted: tuple[int, ...], reserved: ExitStack
) -> None:
    chosen = [choose_ports(HOST, reserved) for _ in range(5)]
    assert len({port for ports, _ in chosen for port in ports}) == 15
    assert chosen[0] == (wanted, "")
    for _, why in chosen[1:]:
        assert why.count("another demo has it") == 3


def test_ports_are_given_back(wanted: tuple[int, ...]) -> None:
    for _ in range(3):
        with ExitStack() as reserved:
            assert choose_ports(HOST, reserved) == (wanted, "")


def test_where_all_are_taken_any_free_port_does(
    wanted: tuple[int, ...], reserved: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_ports, "_MOST_TRIES", 1)
    with socket.create_server((HOST, wanted[0])):
        ports, why = choose_ports(HOST, reserved)
    assert wanted[0] not in ports
    assert str(ports[0]) in why
