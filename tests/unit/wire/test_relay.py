"""One exchange in memory: what each side gets, which side pauses the other, and each time-out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from time import monotonic

import pytest

from sidecar.core.errors import UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from sidecar.core.headers import WEBSOCKET
from sidecar.core.response_heads import build_response_head
from sidecar.wire.body_rate import WINDOW_SECONDS
from sidecar.wire.buffers import BufferBudget
from sidecar.wire.client import ClientConnection
from sidecar.wire.relay import LASTING_SECONDS, Relay, Timeouts
from sidecar.wire.requests import HeadCache, RequestLimits, RequestRefused
from sidecar.wire.upstream import UpstreamConnection
from tests.fake_transport import FakeTransport
from tests.unit.wire.test_client_turns import Turns

HEAD = b"POST /x HTTP/1.1\r\nHost: a\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LENGTH_6 = HEAD + b"Content-Length: 6\r\n\r\n"
GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
SENT = b"SENT HEAD\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
ANSWER = b"ANSWER HEAD\r\n\r\n"
SWITCH = b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
HANDSHAKE = b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
TIMEOUTS = Timeouts(response_seconds=100, idle_seconds=1000, body_seconds=10)


class Host:
    """A server that lets the test play the gateway."""

    limits = RequestLimits()
    header_timeout_seconds = 7.0
    buffers = BufferBudget()
    idle_timeout_seconds = 70.0
    closes_after_answers = False
    is_closing = False

    def __init__(self) -> None:
        self.line = Turns()
        self.turns = self.line.queue

    def new_head_cache(self) -> HeadCache:
        return HeadCache()

    def on_opened(self, connection: ClientConnection) -> None:
        return

    def on_closed(self, connection: ClientConnection) -> None:
        return

    def on_served(self, connection: ClientConnection) -> None:
        return

    async def serve(self, connection: ClientConnection) -> None:
        await asyncio.Event().wait()


@dataclass
class Stage:
    """A caller and an upstream, joined by a relay that has been started."""

    client: ClientConnection
    caller: FakeTransport
    upstream: UpstreamConnection
    service: FakeTransport
    relay: Relay
    line: Turns

    def says(self, data: bytes) -> None:
        self.client.data_received(data)

    def answers(self, data: bytes) -> None:
        self.upstream.data_received(data)

    @property
    def waits_seconds(self) -> float:
        return round(self.client.deadline - self.client.now())


async def joined(
    data: bytes,
    *,
    expects_continue: bool = False,
    is_tls: bool = False,
    starts: bool = True,
    timeouts: Timeouts = TIMEOUTS,
    now: Callable[[], float] = monotonic,
) -> Stage:
    loop = asyncio.get_running_loop()
    host = Host()
    client = ClientConnection(loop, host)
    client.now = now
    caller = FakeTransport(client)
    client.connection_made(caller)
    client.data_received(data)
    request = await client.next_request()
    assert request is not None
    upstream = UpstreamConnection(loop, "h:1", lambda connection: None)
    service = FakeTransport(upstream, is_tls=is_tls)
    upstream.connection_made(service)
    relay = Relay(client, upstream, request, timeouts, expects_continue)
    if starts:
        relay.start(SENT)
    return Stage(client, caller, upstream, service, relay, host.line)


# Turns.


async def test_a_fast_upload_is_not_read_on_until_its_turn_comes() -> None:
    stage = await joined(LENGTH_6 + b"ab")
    stage.line.is_over = True
    stage.says(b"c")
    assert stage.service.take() == SENT + b"abc"
    states = [stage.caller.is_paused]
    stage.line.is_over = False
    await asyncio.sleep(0)
    states.append(stage.caller.is_paused)
    assert states == [True, False]


async def test_a_fast_answer_is_not_read_on_until_its_callers_turn_comes() -> None:
    stage = await joined(GET)
    stage.answers(OK + b"Content-Length: 100\r\n\r\n")
    stage.relay.begin_answer(ANSWER, is_chunked=False)
    stage.line.is_over = True
    stage.answers(b"ab")
    states = [stage.service.is_paused]
    stage.relay.on_client_writable(True)
    states.append(stage.service.is_paused)
    stage.line.is_over = False
    await asyncio.sleep(0)
    states.append(stage.service.is_paused)
    assert states == [True, True, False]
    assert stage.caller.take() == ANSWER + b"ab"


SMALL_CHUNKS = b"10\r\n%b\r\n11\r\n%b\r\n" % (b"a" * 16, b"bc" + b"d" * 15)


async def test_a_body_of_small_chunks_is_read_over_many_turns_and_arrives_whole() -> None:
    chunks = SMALL_CHUNKS * 1000
    stage = await joined(CHUNKED + chunks + b"0\r\n\r\n")
    assert stage.caller.is_paused
    turns = 0
    while not stage.upstream.sent_whole_request:
        await asyncio.sleep(0)
        turns += 1
    assert turns > 5
    assert stage.service.take().count(b"bc") == 1000
    assert not stage.caller.is_paused


async def test_a_half_close_after_a_body_of_small_chunks_is_not_an_early_end() -> None:
    stage = await joined(CHUNKED + SMALL_CHUNKS * 1000)
    stage.says(b"0\r\n\r\n")
    assert stage.client.eof_received()
    while not stage.upstream.sent_whole_request:
        await asyncio.sleep(0)
    assert stage.relay.refusal is None


# The request's body.


async def test_a_body_is_forwarded_as_it_arrives() -> None:
    stage = await joined(LENGTH_6 + b"ab")
    assert stage.service.take() == SENT + b"ab"
    stage.says(b"cd")
    assert (stage.service.take(), stage.upstream.sent_whole_request) == (b"cd", False)
    stage.says(b"ef" + GET)
    assert (stage.service.take(), stage.upstream.sent_whole_request) == (b"ef", True)


async def test_chunks_are_reframed_and_end_once() -> None:
    stage = await joined(CHUNKED + b"2;ext=1\r\nab\r\n")
    assert stage.service.take() == SENT + b"2\r\nab\r\n"
    stage.says(b"3\r\nc")
    stage.says(b"de\r\n0\r\nX-Account: admin\r\n")
    stage.says(b"\r\n" + GET)
    assert stage.service.take() == b"1\r\nc\r\n2\r\nde\r\n0\r\n\r\n"


async def test_a_body_that_has_arrived_whole_is_sent_with_the_head() -> None:
    stage = await joined(CHUNKED + b"2\r\nab\r\n0\r\n\r\n")
    assert stage.service.take() == SENT + b"2\r\nab\r\n0\r\n\r\n"
    assert stage.upstream.sent_whole_request


async def test_a_slow_upstream_pauses_and_resumes_the_caller() -> None:
    stage = await joined(LENGTH_6 + b"ab")
    stage.upstream.pause_writing()
    states = [stage.caller.is_paused]
    stage.upstream.resume_writing()
    states.append(stage.caller.is_paused)
    assert states == [True, False]
    assert stage.waits_seconds == TIMEOUTS.body_seconds


async def test_a_body_that_turns_out_malformed_cuts_the_upstream_off() -> None:
    stage = await joined(CHUNKED + b"2\r\nab\r\n")
    stage.says(b"zz\r\n")
    assert stage.service.is_aborted
    assert stage.relay.refusal is not None
    assert stage.relay.refusal.code == "bad_request"
    with pytest.raises(UpstreamBroken):
        await stage.upstream.answered()


async def test_a_body_known_to_be_malformed_is_not_sent() -> None:
    stage = await joined(CHUNKED, starts=False)
    stage.says(b"zz\r\n")
    with pytest.raises(RequestRefused):
        stage.relay.start(SENT)
    assert stage.service.written == b""


async def test_a_caller_that_ends_within_its_body_cuts_the_upstream_off() -> None:
    stage = await joined(LENGTH_6 + b"ab")
    assert stage.client.eof_received()
    assert stage.service.is_aborted
    assert stage.relay.refusal is not None


# Waiting.


async def test_the_body_the_head_and_the_pieces_have_a_timeout_each() -> None:
    stage = await joined(LENGTH_6 + b"ab")
    assert stage.waits_seconds == TIMEOUTS.body_seconds
    stage.says(b"cdef")
    assert stage.waits_seconds == TIMEOUTS.response_seconds
    stage.answers(OK + b"Content-Length: 4\r\n\r\nab")
    stage.relay.begin_answer(ANSWER, is_chunked=False)
    assert stage.waits_seconds == TIMEOUTS.idle_seconds


async def test_an_upload_keeps_an_exchange_alive_that_is_being_answered() -> None:
    stage = await joined(CHUNKED)
    stage.answers(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    stage.relay.begin_answer(ANSWER, is_chunked=True)
    stage.client.deadline = 0.0
    stage.says(b"1\r\na\r\n")
    assert stage.waits_seconds == TIMEOUTS.idle_seconds


async def test_a_caller_too_slow_with_its_body_is_refused() -> None:
    stage = await joined(LENGTH_6)
    stage.client.on_deadline()
    assert stage.relay.refusal is not None
    assert stage.relay.refusal.code == "request_timeout"


async def test_an_upstream_too_slow_to_take_the_body_is_timed_out() -> None:
    stage = await joined(LENGTH_6)
    stage.upstream.pause_writing()
    stage.client.on_deadline()
    with pytest.raises(UpstreamTimeout):
        await stage.upstream.answered()


async def test_an_upstream_too_slow_to_answer_is_timed_out() -> None:
    stage = await joined(GET)
    stage.client.on_deadline()
    assert not await stage.upstream.answered_soon()
    assert stage.waits_seconds == TIMEOUTS.response_seconds - LASTING_SECONDS
    stage.client.on_deadline()
    with pytest.raises(UpstreamTimeout):
        await stage.upstream.answered()


async def test_a_stalled_response_is_aborted() -> None:
    stage = await joined(GET)
    stage.answers(OK + b"Content-Length: 4\r\n\r\nab")
    stage.relay.begin_answer(ANSWER, is_chunked=False)
    stage.client.on_deadline()
    with pytest.raises(UpstreamBroken):
        await stage.upstream.finished()


# Expect: 100-continue.


async def test_the_upstreams_100_is_forwarded_once() -> None:
    stage = await joined(LENGTH_6, expects_continue=True)
    assert stage.relay.awaits_continue
    stage.answers(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
    assert stage.caller.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert not stage.relay.awaits_continue


async def test_after_a_second_of_silence_the_100_is_the_sidecars_own() -> None:
    stage = await joined(LENGTH_6, expects_continue=True)
    assert stage.waits_seconds == 1
    stage.client.on_deadline()
    assert stage.caller.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert stage.waits_seconds == TIMEOUTS.body_seconds
    stage.answers(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert stage.caller.take() == b""


@pytest.mark.parametrize("body", [b"a", b"abcdef"])
async def test_a_caller_that_does_not_wait_gets_no_100(body: bytes) -> None:
    stage = await joined(LENGTH_6, expects_continue=True)
    stage.says(body)
    stage.answers(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert stage.caller.take() == b""


async def test_an_early_answer_takes_the_place_of_the_100() -> None:
    stage = await joined(LENGTH_6, expects_continue=True)
    stage.answers(b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
    assert stage.relay.awaits_continue
    stage.relay.begin_answer(ANSWER, is_chunked=False)
    assert stage.caller.take() == ANSWER
    stage.says(b"abcdef")
    assert not stage.upstream.sent_whole_request
    assert not stage.upstream.is_reusable


async def test_an_unsolicited_100_is_dropped_and_a_103_is_forwarded() -> None:
    stage = await joined(GET)
    stage.answers(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    assert stage.caller.take() == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


async def test_a_caller_of_http_1_0_gets_no_interim_answer() -> None:
    stage = await joined(b"GET / HTTP/1.0\r\n\r\n")
    stage.answers(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    assert stage.caller.take() == b""


# The answer's body.


async def test_a_response_is_forwarded_as_it_arrives() -> None:
    stage = await joined(GET)
    stage.answers(OK + b"Content-Length: 4\r\n\r\na")
    head = await stage.upstream.answered()
    assert head.length == 4
    stage.relay.begin_answer(ANSWER, is_chunked=False)
    assert stage.caller.take() == ANSWER + b"a"
    stage.answers(b"bcd")
    assert stage.caller.take() == b"bcd"
    await stage.upstream.finished()
    assert stage.relay.relayed_bytes == 4


async def test_chunks_to_the_caller_end_once_whatever_follows() -> None:
    """Bytes or a close after the end, before the gateway runs, must not end the body twice."""
    stage = await joined(GET)
    stage.answers(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    stage.relay.begin_answer(ANSWER, is_chunked=True)
    stage.answers(b"2\r\nab\r\n0\r\n\r\n")
    stage.answers(b"HTTP/1.1 200 OK\r\n")
    stage.upstream.eof_received()
    assert stage.caller.take() == ANSWER + b"2\r\nab\r\n0\r\n\r\n"
    await stage.upstream.finished()
    assert not stage.upstream.is_reusable


async def test_a_body_until_the_close_becomes_chunks() -> None:
    stage = await joined(GET)
    stage.answers(OK + b"\r\nab")
    stage.relay.begin_answer(ANSWER, is_chunked=True)
    assert stage.caller.take() == ANSWER + b"2\r\nab\r\n"
    assert not stage.upstream.eof_received()
    assert stage.caller.take() == b"0\r\n\r\n"
    await stage.upstream.finished()


async def test_a_response_that_is_cut_short_never_gets_a_last_chunk() -> None:
    stage = await joined(GET)
    stage.answers(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
    stage.relay.begin_answer(ANSWER, is_chunked=True)
    stage.upstream.eof_received()
    stage.upstream.connection_lost(None)
    assert stage.caller.take() == ANSWER + b"2\r\nab\r\n"
    with pytest.raises(UpstreamBroken):
        await stage.upstream.finished()


async def test_a_slow_caller_pauses_and_resumes_the_upstream() -> None:
    stage = await joined(GET)
    stage.answers(OK + b"Content-Length: 4\r\n\r\na")
    stage.client.pause_writing()
    states = [stage.service.is_paused]  # before the head is passed on there is nothing to stop
    stage.relay.begin_answer(ANSWER, is_chunked=False)
    states.append(stage.service.is_paused)
    stage.client.resume_writing()
    states.append(stage.service.is_paused)
    assert states == [False, True, False]


async def test_a_connection_that_closes_without_a_byte_counts_as_unreachable() -> None:
    stage = await joined(GET)
    stage.upstream.connection_lost(ConnectionResetError())
    with pytest.raises(UpstreamUnreachable):
        await stage.upstream.answered()


async def test_a_connection_that_closes_within_a_head_counts_as_broken() -> None:
    stage = await joined(GET)
    stage.answers(b"HTTP/1.1 2")
    stage.upstream.eof_received()
    with pytest.raises(UpstreamBroken):
        await stage.upstream.answered()


# Tunnels.


async def tunnelled(stage: Stage) -> None:
    stage.answers(SWITCH)
    head = await stage.upstream.answered()
    assert stage.upstream.reader.is_upgraded
    stage.relay.begin_tunnel(
        build_response_head(head.status, head.reason, head.headers, connection=WEBSOCKET)
    )
    stage.caller.take()
    stage.service.take()


async def test_bytes_before_the_101_are_held_until_it() -> None:
    stage = await joined(HANDSHAKE + b"early")
    stage.says(b" bird")
    assert stage.service.take() == SENT
    stage.answers(SWITCH + b"hi")
    stage.answers(b" there")
    stage.relay.begin_tunnel(ANSWER)
    assert stage.caller.take() == ANSWER + b"hi there"
    assert stage.service.take() == b"early bird"


async def test_a_tunnel_passes_bytes_both_ways_and_waits_for_either() -> None:
    stage = await joined(HANDSHAKE)
    await tunnelled(stage)
    stage.says(b"GET / HTTP/1.1\r\n\r\n")
    assert stage.service.take() == b"GET / HTTP/1.1\r\n\r\n"
    stage.client.deadline = 0.0
    stage.answers(b"\x00\x01")
    assert stage.caller.take() == b"\x00\x01"
    assert stage.waits_seconds == TIMEOUTS.idle_seconds


async def test_a_tunnels_back_pressure_goes_both_ways() -> None:
    stage = await joined(HANDSHAKE)
    await tunnelled(stage)
    stage.upstream.pause_writing()
    stage.client.pause_writing()
    assert (stage.caller.is_paused, stage.service.is_paused) == (True, True)
    stage.upstream.resume_writing()
    stage.client.resume_writing()
    assert (stage.caller.is_paused, stage.service.is_paused) == (False, False)


async def test_the_callers_half_close_is_forwarded_and_the_other_direction_stays_open() -> None:
    stage = await joined(HANDSHAKE)
    await tunnelled(stage)
    assert stage.client.eof_received()
    assert stage.service.is_ended
    stage.answers(b"bye")
    assert stage.caller.take() == b"bye"


async def test_towards_tls_there_is_no_half_close_so_the_tunnel_ends() -> None:
    stage = await joined(HANDSHAKE, is_tls=True)
    await tunnelled(stage)
    stage.client.eof_received()
    assert stage.service.is_aborted


@pytest.mark.parametrize("is_tls", [False, True])
async def test_the_upstreams_end_ends_the_tunnel(is_tls: bool) -> None:
    stage = await joined(HANDSHAKE, is_tls=is_tls)
    await tunnelled(stage)
    assert stage.upstream.eof_received() is not is_tls, "TLS knows no half-close"
    await stage.upstream.finished()


async def test_a_stalled_tunnel_is_cut() -> None:
    stage = await joined(HANDSHAKE)
    await tunnelled(stage)
    stage.client.on_deadline()
    with pytest.raises(UpstreamBroken):
        await stage.upstream.finished()


# The least rate.

RATE = 1000
RATED = Timeouts(response_seconds=1e4, idle_seconds=1e4, body_seconds=1e4, least_body_bytes=RATE)
UPLOAD = HEAD + b"Content-Length: 9000000\r\n\r\n"
DOWNLOAD = OK + b"Content-Length: 9000000\r\n\r\n"
EVENTS = OK + b"content-type: Text/Event-Stream ; charset=utf-8\r\n\r\ndata: 1\n\n"


class Clock:
    """The time, and the sweep that calls a client's ``on_deadline`` (``wire.deadlines``)."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, stage: Stage, seconds: float) -> None:
        """Let time pass, with a sweep each second."""
        for _ in range(round(seconds)):
            self.now += 1.0
            if stage.client.deadline <= self.now:
                stage.client.on_deadline()


async def uploading(clock: Clock, *, expects_continue: bool = False) -> Stage:
    return await joined(UPLOAD, expects_continue=expects_continue, timeouts=RATED, now=clock)


async def downloading(clock: Clock, answer: bytes = DOWNLOAD) -> Stage:
    stage = await joined(GET, timeouts=RATED, now=clock)
    stage.answers(answer)
    stage.relay.begin_answer(ANSWER, is_chunked=False)
    return stage


async def held_up(clock: Clock) -> Stage:
    """Return a download whose caller has stopped reading."""
    stage = await downloading(clock)
    stage.answers(bytes(100_000))
    stage.caller.unsent_bytes = 100_000
    stage.client.pause_writing()
    return stage


def code_of(stage: Stage) -> str:
    return stage.relay.refusal.code if stage.relay.refusal is not None else ""


@pytest.mark.parametrize("bytes_a_second", [0, 1, RATE // 2])
async def test_an_upload_below_the_minimum_rate_is_refused_and_cut(bytes_a_second: int) -> None:
    clock = Clock()
    stage = await uploading(clock)
    for _ in range(round(WINDOW_SECONDS * 2.5)):
        if stage.service.is_aborted:
            break
        if bytes_a_second:
            stage.says(bytes(bytes_a_second))
        clock.advance(stage, 1)
    assert (code_of(stage), stage.service.is_aborted) == ("request_timeout", True)
    with pytest.raises(UpstreamBroken):
        await stage.upstream.answered()


async def test_an_upload_at_the_minimum_rate_may_last_for_ever() -> None:
    clock = Clock()
    stage = await uploading(clock)
    for _ in range(1000):
        stage.says(bytes(RATE + 10))
        clock.advance(stage, 1)
    assert code_of(stage) == ""


async def test_a_pause_is_forgiven_to_an_upload_that_was_fast_before() -> None:
    clock = Clock()
    stage = await uploading(clock)
    for _ in range(5):
        clock.advance(stage, WINDOW_SECONDS - 5)
        stage.says(bytes(RATE * round(WINDOW_SECONDS)))
    assert code_of(stage) == ""
    clock.advance(stage, WINDOW_SECONDS * 2 + 2)
    assert code_of(stage) == "request_timeout"


async def test_a_burst_does_not_pay_for_more_than_one_window() -> None:
    clock = Clock()
    stage = await uploading(clock)
    stage.says(bytes(RATE * 1000))
    clock.advance(stage, 2 * WINDOW_SECONDS + 4)
    assert code_of(stage) == "request_timeout"


async def test_time_in_which_the_service_takes_no_body_is_not_the_callers() -> None:
    clock = Clock()
    stage = await uploading(clock)
    stage.upstream.pause_writing()
    clock.advance(stage, WINDOW_SECONDS * 3)
    assert code_of(stage) == ""
    stage.upstream.resume_writing()
    clock.advance(stage, WINDOW_SECONDS - 2)
    assert code_of(stage) == ""
    clock.advance(stage, 4)
    assert code_of(stage) == "request_timeout"


async def test_time_until_the_100_is_not_the_callers() -> None:
    clock = Clock()
    stage = await uploading(clock, expects_continue=True)
    assert stage.relay.client_rate() is None
    clock.advance(stage, 2)
    assert stage.caller.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    clock.advance(stage, WINDOW_SECONDS - 2)
    assert code_of(stage) == ""


async def test_a_caller_that_does_not_take_its_answer_is_cut() -> None:
    clock = Clock()
    stage = await held_up(clock)
    clock.advance(stage, WINDOW_SECONDS * 2)
    assert code_of(stage) == "slow_reader"
    with pytest.raises(UpstreamBroken):
        await stage.upstream.finished()


async def test_a_caller_that_takes_its_answer_slowly_but_fast_enough_is_not_cut() -> None:
    clock = Clock()
    stage = await held_up(clock)
    for _ in range(90):
        stage.caller.unsent_bytes -= RATE + 10
        clock.advance(stage, 1)
    assert code_of(stage) == ""


async def test_time_in_which_the_service_has_nothing_to_say_is_not_the_callers() -> None:
    clock = Clock()
    stage = await downloading(clock)
    clock.advance(stage, WINDOW_SECONDS * 5)
    assert (code_of(stage), stage.relay.client_rate()) == ("", None)


async def test_an_upload_that_continues_after_its_response_must_keep_the_rate_too() -> None:
    clock = Clock()
    stage = await uploading(clock)
    stage.answers(DOWNLOAD)
    stage.relay.begin_answer(ANSWER, is_chunked=False)
    clock.advance(stage, WINDOW_SECONDS + 2)
    assert code_of(stage) == "request_timeout"


async def test_an_event_stream_has_no_minimum_rate() -> None:
    clock = Clock()
    stage = await downloading(clock, EVENTS)
    stage.client.pause_writing()
    clock.advance(stage, WINDOW_SECONDS * 5)
    assert (code_of(stage), stage.relay.client_rate()) == ("", inf)


async def test_a_tunnel_has_no_minimum_rate() -> None:
    clock = Clock()
    stage = await joined(HANDSHAKE, timeouts=RATED, now=clock)
    await tunnelled(stage)
    stage.client.pause_writing()
    clock.advance(stage, WINDOW_SECONDS * 5)
    assert (code_of(stage), stage.relay.client_rate()) == ("", inf)


async def test_without_a_minimum_rate_only_silence_counts() -> None:
    clock = Clock()
    stage = await joined(UPLOAD, timeouts=TIMEOUTS, now=clock)
    for _ in range(200):
        stage.says(b"a")
        clock.advance(stage, TIMEOUTS.body_seconds / 2)
    assert code_of(stage) == ""


async def test_the_client_rate_tells_the_pool_how_fast_a_client_moves() -> None:
    """``None``: the client is not to blame, so the exchange is not ended for another."""
    clock = Clock()
    fast, slow = await uploading(clock), await uploading(clock)
    assert fast.relay.client_rate() is None, "it has only just begun"
    told = []
    for _ in range(3):
        fast.says(bytes(5000))
        slow.says(b"a")
        clock.now += 1.0
        told.append((fast.relay.client_rate(), slow.relay.client_rate()))
    assert told == [(5000.0, 1.0)] * 3
    fast.upstream.pause_writing()
    assert fast.relay.client_rate() is None, "it is the service that takes no more"
    slow.says(bytes(9_000_000 - slow.relay.request.received_bytes))
    assert slow.relay.client_rate() is None, "all has come; the service has yet to answer"


async def test_a_readers_rate_is_that_of_its_systems_acknowledgements() -> None:
    clock = Clock()
    stage = await held_up(clock)
    clock.now += 1.0
    assert stage.relay.client_rate() == 0.0
    stage.caller.unsent_bytes -= 3000
    clock.now += 1.0
    assert stage.relay.client_rate() == 3000.0
    stage.client.resume_writing()
    assert stage.relay.client_rate() is None
