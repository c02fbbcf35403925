"""Messages between supervisor and workers arrive whole and in order, however they are cut."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.workers.channel import Frames, Message, WorkerChannel, encode
from sidecar.workers.supervisor_link import SupervisorLink

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=10,
)
messages = st.lists(st.tuples(st.text(), plain), max_size=5)


@given(messages, st.data())
def test_messages_arrive_as_they_were_sent_however_they_are_cut(
    sent: list[Message], data: st.DataObject
) -> None:
    frames, stream = Frames(), b"".join(map(encode, sent))
    received: list[Message] = []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        received += frames.receive(stream[:cut])
        stream = stream[cut:]
    assert received == sent
    assert frames.rest == b""


@pytest.mark.parametrize("bad", [b"\xff\xff\xff\xff", b"\0\0\0\1N", encode(())])
def test_a_bad_frame_is_refused(bad: bytes) -> None:
    with pytest.raises(ValueError, match="not a"):
        Frames().receive(bad)


@pytest.fixture
def ends() -> Iterator[tuple[WorkerChannel, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield WorkerChannel(ours), theirs


def test_the_supervisor_never_waits_for_a_worker_that_does_not_read(
    ends: tuple[WorkerChannel, socket.socket],
) -> None:
    """The channel keeps what it can't send now, and sends it when there is room."""
    channel, other = ends
    for number in range(200):
        channel.send("told", number, "x" * 10_000)
    assert channel.unsent
    other.setblocking(False)
    frames = Frames()
    received: list[Message] = []
    while channel.unsent or len(received) < 200:
        received += frames.receive(other.recv(1 << 20))
        channel.flush()
    assert [message[1] for message in received] == list(range(200))


def test_the_last_messages_of_a_closed_channel_are_received(
    ends: tuple[WorkerChannel, socket.socket],
) -> None:
    channel, other = ends
    other.sendall(encode(("beat", {})))
    other.close()
    assert channel.receive() == [("beat", {})]
    assert not channel.is_open
    channel.send("retire")
    assert channel.unsent == b""


def test_a_channel_can_be_continued_in_the_middle_of_a_message(
    ends: tuple[WorkerChannel, socket.socket],
) -> None:
    """As it must when an upgrade replaces the supervisor's program."""
    channel, other = ends
    frame = encode(("ask", 7))
    other.sendall(frame[:5])
    assert channel.receive() == []
    successor = WorkerChannel(channel.sock, channel.frames.rest, encode(("told", 1)))
    other.sendall(frame[5:])
    assert successor.receive() == [("ask", 7)]
    successor.flush()
    assert Frames().receive(other.recv(100)) == [("told", 1)]


async def test_an_answer_reaches_the_request_that_has_its_number(
    ends: tuple[WorkerChannel, socket.socket],
) -> None:
    channel, other = ends
    heard: list[Message] = []
    link = await SupervisorLink.open(other, heard.append)
    first, second = (asyncio.create_task(link.ask()) for _ in range(2))
    asked: list[Message] = []
    while len(asked) < 2:
        await asyncio.sleep(0.01)
        asked += channel.receive()
    channel.send("slots", (1,))
    for _, number in reversed(asked):
        channel.send("told", number, {}, [f"reason {number}"], None, 0, 2)
    assert (await first).reasons == ["reason 0"]
    assert (await second).reasons == ["reason 1"]
    assert heard == [("slots", (1,))]
    channel.close()
    await asyncio.wait_for(link.lost.wait(), 5)


async def test_a_worker_gives_up_on_a_supervisor_that_does_not_answer(
    ends: tuple[WorkerChannel, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.workers.supervisor_link.ANSWER_SECONDS", 0.05)
    link = await SupervisorLink.open(ends[1], lambda _: None)
    overview = await link.ask()
    assert (overview.reasons, overview.snapshot) == (["the supervisor does not answer"], {})
    await link.close()
