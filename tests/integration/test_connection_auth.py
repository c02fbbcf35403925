"""Services that authenticate connections (NTLM, Negotiate): each stays with the one who signed in.

The service here is as careless as real ones are: once a connection has signed in, whatever comes
over it is that user's.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import ip_network

import pytest

from sidecar.core.trusted_proxies import TrustedProxies
from tests.in_process import OK, Peer, Proxy, on_uvloop, request, running_proxy

SCHEMES = ("NTLM", "Negotiate", "negotiate")


async def sign_in(peer: Peer) -> None:
    """Play the service: two legs of a handshake make the connection the user's."""
    user, has_greeted = b"", False
    while head := await peer.until(b"\r\n\r\n"):
        scheme, _, data = _authorization(head).partition(b" ")
        if data == b"hello":
            has_greeted = True
            await peer.send(_answer(b"401 Unauthorized", b"who", scheme + b" challenge"))
        elif data.startswith(b"i-am-") and has_greeted:
            user = data.removeprefix(b"i-am-")
            await peer.send(_answer(b"200 OK", b"hello " + user))
        elif user:
            await peer.send(_answer(b"200 OK", b"hello " + user))
        else:
            await peer.send(_answer(b"401 Unauthorized", b"who", b"NTLM"))


def _authorization(head: bytes) -> bytes:
    _, _, rest = head.partition(b"Authorization: ")
    return rest.split(b"\r\n")[0]


def _answer(status: bytes, body: bytes, challenge: bytes = b"") -> bytes:
    fields = b"WWW-Authenticate: " + challenge + b"\r\n" if challenge else b""
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, fields, len(body), body)


def public(*fields: str, path: str = "/public/x") -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: a", *fields, "", ""]).encode()


async def ask(caller: Peer, *fields: str) -> bytes:
    await caller.send(public(*fields))
    return (await caller.response())[1]


async def signed_in(proxy: Proxy, user: str, scheme: str = "NTLM") -> Peer:
    """Return a caller that has signed in as ``user``."""
    caller = await proxy.caller()
    assert await ask(caller) == b"who"
    assert await ask(caller, f"Authorization: {scheme} hello") == b"who"
    assert await ask(caller, f"Authorization: {scheme} i-am-{user}") == b"hello " + user.encode()
    return caller


@pytest.mark.parametrize("scheme", SCHEMES)
@on_uvloop
async def test_a_handshake_goes_over_one_connection_and_its_caller_keeps_it(scheme: str) -> None:
    async with running_proxy(sign_in, forward_credentials=True) as proxy:
        caller = await signed_in(proxy, "alice", scheme)
        assert [await ask(caller) for _ in range(3)] == [b"hello alice"] * 3
        assert len(proxy.upstream.peers) == 1


@pytest.mark.parametrize("scheme", SCHEMES)
@on_uvloop
async def test_a_stranger_never_gets_the_answer_made_for_the_one_before(scheme: str) -> None:
    async with running_proxy(sign_in, forward_credentials=True) as proxy:
        alice = await signed_in(proxy, "alice", scheme)
        stranger = await proxy.caller()
        assert await ask(stranger) == b"who"
        bob = await signed_in(proxy, "bob", scheme)
        assert [await ask(one) for one in (alice, stranger, bob)] == [
            b"hello alice",
            b"who",
            b"hello bob",
        ]


@on_uvloop
async def test_a_handshake_without_a_challenge_before_binds_as_well() -> None:
    """Clients that know the service begin with their first leg, and some answers say nothing."""

    async def quiet(peer: Peer) -> None:
        user = b""
        while head := await peer.until(b"\r\n\r\n"):
            user = _authorization(head).removeprefix(b"Negotiate ") or user
            await peer.send(_answer(b"200 OK", b"hello " + user))

    async with running_proxy(quiet, forward_credentials=True) as proxy:
        alice, stranger = await proxy.caller(), await proxy.caller()
        assert await ask(alice, "Authorization: Negotiate alice") == b"hello alice"
        assert await ask(stranger) == b"hello "
        assert await ask(alice) == b"hello alice"


@on_uvloop
async def test_the_connection_closes_with_its_callers() -> None:
    async with running_proxy(sign_in, forward_credentials=True) as proxy:
        caller = await signed_in(proxy, "alice")
        assert proxy.pool.open_count == 1
        await caller.close()
        await proxy.settle(lambda: proxy.pool.open_count == 0)


def _rely_on_a_proxy(proxy: Proxy) -> None:
    """Believe what the peer says of whom it speaks for."""
    gateway = proxy.gateway
    gateway.rules = replace(
        gateway.rules, trusted_proxies=TrustedProxies([ip_network("127.0.0.1")])
    )


@on_uvloop
async def test_a_proxy_that_speaks_for_another_caller_does_not_get_the_connection() -> None:
    async with running_proxy(sign_in, forward_credentials=True) as proxy:
        _rely_on_a_proxy(proxy)
        front = await proxy.caller()
        alice, other = "X-Forwarded-For: 203.0.113.1", "X-Forwarded-For: 203.0.113.2"
        await ask(front, alice, "Authorization: NTLM hello")
        assert await ask(front, alice, "Authorization: NTLM i-am-alice") == b"hello alice"
        assert await ask(front, alice) == b"hello alice"
        assert await ask(front, other) == b"who"
        assert await ask(front, alice) == b"who"


@on_uvloop
async def test_a_challenge_binds_where_credentials_are_not_forwarded_too() -> None:
    async with running_proxy(sign_in) as proxy:
        first, second = await proxy.caller(), await proxy.caller()
        assert await ask(first, "Authorization: NTLM hello") == b"who"
        assert await ask(second) == b"who"
        assert len(proxy.upstream.peers) == 2
        assert b"NTLM hello" not in proxy.upstream.received[0]


@on_uvloop
async def test_other_credentials_do_not_cost_a_connection_each() -> None:
    async with running_proxy(forward_credentials=True) as proxy:
        for _ in range(5):
            caller = await proxy.caller()
            await caller.send(request())
            assert (await caller.response())[1] == b"ok"
        assert len(proxy.upstream.peers) == 1


@on_uvloop
async def test_connections_that_wait_for_their_caller_are_no_reason_to_refuse_another() -> None:
    """Each is closed when its place is needed: its caller signs in anew, nobody gets a 503."""
    async with running_proxy(
        sign_in, forward_credentials=True, max_connections=3, connect_timeout="2s"
    ) as proxy:
        callers = [await signed_in(proxy, f"user{number}") for number in range(6)]
        assert proxy.pool.open_count <= 3
        answers = [await ask(caller) for caller in callers]
        assert set(answers) <= {b"who", *(b"hello user%d" % number for number in range(6))}
        assert all(
            answer in (b"who", b"hello user%d" % number) for number, answer in enumerate(answers)
        )


@on_uvloop
async def test_a_bound_connection_that_has_closed_meanwhile_is_replaced() -> None:
    async def once(peer: Peer) -> None:
        await peer.until(b"\r\n\r\n")
        await peer.send(_answer(b"401 Unauthorized", b"who", b"NTLM"))

    async with running_proxy(once, forward_credentials=True) as proxy:
        caller = await proxy.caller()
        assert [await ask(caller) for _ in range(4)] == [b"who"] * 4
        await proxy.settle(lambda: proxy.pool.open_count == 0)
        (connection,) = proxy.server._connections
        assert len(connection.bound) <= 1


@on_uvloop
async def test_an_answer_that_nobody_took_binds_nobody_else() -> None:
    """A caller leaves within its handshake; the connection goes with it."""
    gate = asyncio.Event()

    async def late(peer: Peer) -> None:
        while await peer.until(b"\r\n\r\n"):
            await gate.wait()
            await peer.send(OK)

    async with running_proxy(late, forward_credentials=True) as proxy:
        caller = await proxy.caller()
        await caller.send(public("Authorization: NTLM hello"))
        await proxy.settle(lambda: len(proxy.upstream.peers) == 1)
        caller.reset()
        gate.set()
        await proxy.settle(lambda: proxy.pool.open_count == 0)
        other = await proxy.caller()
        assert await ask(other) == b"ok"
        assert len(proxy.upstream.peers) == 2
