"""Sockets outlive who listens on them: what waits for one process is accepted by another."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final, cast

import pytest

from sidecar.wire.listening import Listeners, Slots, bind, close_all, extend
from tests.in_process import on_uvloop

WAIT_SECONDS: Final = 20.0


class Naming(asyncio.Protocol):
    """Says who accepted the connection, and closes it."""

    def __init__(self, name: bytes) -> None:
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writable = cast(asyncio.WriteTransport, transport)
        writable.write(self._name)
        writable.close()


@pytest.fixture
def slots() -> Iterator[Slots]:
    made = bind("127.0.0.1", 0, None, 2)
    yield made
    close_all(made)


def duplicate(slots: Slots) -> Slots:
    """Return the descriptors that a forked process would have."""
    return [[one.dup() for one in slot] for slot in slots]


def address_of(slots: Slots) -> tuple[str, int]:
    address: tuple[str, int] = slots[0][0].getsockname()
    return address


async def ask(address: tuple[str, int]) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    said = await asyncio.wait_for(reader.read(), WAIT_SECONDS)
    writer.close()
    return said


@on_uvloop
async def test_what_waits_for_a_slot_without_a_process_is_accepted_by_the_others() -> None:
    """Connections are there before anybody accepts, and while nobody does any more."""
    slots = bind("127.0.0.1", 0, None, 2)
    waiting = [socket.create_connection(address_of(slots)) for _ in range(32)]
    listeners = Listeners({"proxy": duplicate(slots)}, 0)
    await listeners.open("proxy", lambda: Naming(b"first"))
    asked = [asyncio.to_thread(said_to, one) for one in waiting]
    await asyncio.sleep(0.2)
    await listeners.take_over([1])
    assert await asyncio.gather(*asked) == [b"first"] * 32
    await listeners.take_over([])
    other = Listeners({"proxy": duplicate(slots)}, 1)
    await other.open("proxy", lambda: Naming(b"second"))
    answers = [await ask(address_of(slots)) for _ in range(64)]
    assert set(answers) == {b"first", b"second"}
    listeners.close_all()
    other.close_all()
    close_all(slots)


def said_to(waiting: socket.socket) -> bytes:
    waiting.settimeout(WAIT_SECONDS)
    with waiting:
        return waiting.recv(100)


@on_uvloop
async def test_once_all_descriptors_are_closed_callers_are_refused() -> None:
    slots = bind("127.0.0.1", 0, None, 2)
    listeners = Listeners({"proxy": duplicate(slots)}, 0)
    await listeners.open("proxy", lambda: Naming(b"first"))
    address = address_of(slots)
    close_all(slots)
    listeners.close("proxy")
    async with asyncio.timeout(WAIT_SECONDS):  # the loop closes the socket later
        while not await is_refused(address):
            await asyncio.sleep(0.01)


async def is_refused(address: tuple[str, int]) -> bool:
    try:
        _, writer = await asyncio.open_connection(*address)
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # accepted just before it was closed
        return False
    writer.close()
    return False


def test_a_unix_socket_is_one_for_all_slots_and_one_left_behind_is_replaced(
    tmp_path: Path,
) -> None:
    path = str(tmp_path / "socket")
    close_all(bind("", 0, path, 2))
    slots = bind("", 0, path, 2)
    assert slots[0] == slots[1]
    with pytest.raises(OSError, match="Address already in use"):
        bind("", 0, path, 2)
    extend(slots, 3)
    assert slots[2] == slots[0]
    close_all(slots)


def test_more_slots_can_be_bound_later_at_the_same_address(slots: Slots) -> None:
    extend(slots, 4)
    assert {one.getsockname() for slot in slots for one in slot} == {address_of(slots)}
    assert len(slots) == 4


def test_an_address_in_use_is_refused_even_if_it_would_be_shared(slots: Slots) -> None:
    with pytest.raises(OSError, match="Address already in use"):
        bind(*address_of(slots), None, 2)


def test_every_address_of_a_name_is_listened_on() -> None:
    slots = bind("localhost", 0, None, 2)
    found = {info[0] for info in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    assert {one.family for one in slots[0]} == found
    assert len({len(slot) for slot in slots}) == 1
    close_all(slots)
