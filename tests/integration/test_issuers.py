"""Foreign issuers over real sockets and files: bounded, cached, and "I don't know" when away."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sidecar.auth.issuers import (
    FetchedKeys,
    FetchLimits,
    FileKeys,
    IssuerKeys,
    Issuers,
    IssuerUnavailable,
)
from sidecar.core.jws import write_token
from sidecar.core.keys import Key
from sidecar.core.model import Denial
from sidecar.core.signed_tokens import NeedsKeys, SignedTokens, TrustedIssuer, VerifiedToken
from tests.conformance.jwt_cases import Bench, Party, make_party

NOW = 1_800_000_000
ISSUER = "https://login.example.com/"
OLD = make_party(ISSUER, "listener", is_own=False)
NEW = make_party(ISSUER, "listener", is_own=False)
ALGORITHMS = ("EdDSA", "ES256")
LIMITS = FetchLimits(timeout_seconds=0.3)

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Clock:
    """Time that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class JwksServer:
    """A key set server that behaves as told and counts the requests it gets."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.behave: Behaviour = publish(OLD)
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            await self.behave(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def answer(body: bytes, head: str = "HTTP/1.1 200 OK", extra: str = "") -> Behaviour:
    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"{head}\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body)
        await writer.drain()

    return behave


def publish(party: Party, kid: str = "") -> Behaviour:
    return answer(key_set(party, kid))


def key_set(party: Party, kid: str = "") -> bytes:
    """Return the party's key set; its EdDSA key under another name if ``kid`` says so."""
    keys = [party.key(algorithm).publish() for algorithm in ALGORITHMS]
    if kid:
        keys[0]["kid"] = kid
    return json.dumps({"keys": keys}).encode()


def endless(head: bytes, piece: bytes) -> Behaviour:
    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(piece)
            await writer.drain()

    return behave


async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def trickle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


FAILURES: dict[str, Behaviour] = {
    "slow": hang,
    "one byte at a time": trickle,
    "closing at once": hang_up,
    "endless in its body": endless(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"10000\r\n" + b" " * 65536 + b"\r\n",
    ),
    "endless without a length": endless(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 65536),
    "endless in its head": endless(b"HTTP/1.1 200 OK\r\n", b"X: " + b"x" * 60000 + b"\r\n"),
    "endless in its header fields": endless(b"HTTP/1.1 200 OK\r\n", b"X: x\r\n" * 10000),
    "endless in interim answers": endless(b"", b"HTTP/1.1 103 Early\r\n\r\n" * 1000),
    "a body of an interim answer": answer(
        key_set(OLD), head="HTTP/1.1 104 Early", extra=f"Content-Length: {len(key_set(OLD))}\r\n"
    ),
    "keys in an interim answer, before an empty body": endless(
        b"HTTP/1.1 199 Early\r\nContent-Length: %d\r\n\r\n" % len(key_set(OLD)) + key_set(OLD),
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ),
    "RTSP": answer(key_set(OLD), head="RTSP/1.0 200 OK"),
    "ICE": answer(key_set(OLD), head="ICE/1.0 200 OK"),
    "announcing a gigabyte": answer(b"{", extra="Content-Length: 1000000000\r\n"),
    "truncated": answer(key_set(OLD)[:-10]),
    "html": answer(b"<html>"),
    "not HTTP": endless(b"", b"SSH-2.0-x\r\n" * 1000),
    "empty": answer(b""),
    "an empty set": answer(b'{"keys": []}'),
    "an error": answer(key_set(OLD), head="HTTP/1.1 500 Oops"),
    "not found": answer(key_set(OLD), head="HTTP/1.1 404 Not Found"),
    "no content": answer(b"", head="HTTP/1.1 204 No Content"),
    "compressed": answer(key_set(OLD), extra="Content-Encoding: gzip\r\n"),
    "too large": answer(key_set(OLD)[:-1] + b" " * 300_000 + b"}"),
}


def pieces(*parts: bytes) -> Behaviour:
    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.001)

    return behave


def staying(behave: Behaviour) -> Behaviour:
    async def behave_and_stay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await behave(reader, writer)
        await reader.read()

    return behave_and_stay


SUCCESSES: dict[str, Behaviour] = {
    "ending with its connection": pieces(b"HTTP/1.0 200 OK\r\n\r\n", key_set(OLD)),
    "chunked": pieces(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(key_set(OLD)), key_set(OLD)),
    ),
    "with interim answers before it": pieces(
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 2,
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(key_set(OLD)),
        key_set(OLD),
    ),
    "a byte at a time": pieces(*(bytes([b]) for b in b"HTTP/1.1 200 OK\r\n\r\n"), key_set(OLD)),
    "on a connection that stays": staying(publish(OLD)),
    "with more after it": pieces(
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(key_set(OLD))
        + key_set(OLD)
        + b"HTTP/1.1 500 Oops\r\nContent-Encoding: gzip\r\n\r\nrubbish"
    ),
}


@pytest.fixture
async def server() -> AsyncIterator[JwksServer]:
    jwks = JwksServer()
    listening = await asyncio.start_server(jwks.serve, "127.0.0.1", 0)
    jwks.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/jwks.json"
    yield jwks
    listening.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(server: JwksServer, clock: Clock) -> FetchedKeys:
    return FetchedKeys(ISSUER, server.url, ALGORITHMS, LIMITS, clock)


def make_issuers(source: IssuerKeys) -> Issuers:
    trusted = TrustedIssuer(ISSUER, "listener", ALGORITHMS, source)
    return Issuers(SignedTokens("sidecar", "listener", 10, (), (trusted,)), {ISSUER: source})


def token_of(party: Party, kid: str = "EdDSA-1") -> str:
    return Bench(party, "acme", "j1", NOW, 10).with_header(kid=kid)


@asynccontextmanager
async def started(issuers: Issuers) -> AsyncIterator[Issuers]:
    issuers.start()
    yield issuers
    await issuers.close()


async def wait_until(holds: Callable[[], object]) -> None:
    while not holds():
        await asyncio.sleep(0.005)


async def test_the_first_token_waits_for_the_keys_and_the_next_do_not(
    server: JwksServer, keys: FetchedKeys
) -> None:
    issuers = make_issuers(keys)
    assert isinstance(await issuers.verify(token_of(OLD), NOW), VerifiedToken)
    server.behave = hang
    assert isinstance(await issuers.verify(token_of(OLD), NOW), VerifiedToken)
    assert len(server.requests) == 1


async def test_a_hundred_first_tokens_share_one_fetch(
    server: JwksServer, keys: FetchedKeys
) -> None:
    issuers = make_issuers(keys)
    verdicts = await asyncio.gather(*(issuers.verify(token_of(OLD), NOW) for _ in range(100)))
    assert all(isinstance(verdict, VerifiedToken) for verdict in verdicts)
    assert len(server.requests) == 1


async def test_a_caller_that_leaves_does_not_stop_the_fetch_of_the_others(
    server: JwksServer, keys: FetchedKeys
) -> None:
    issuers = make_issuers(keys)
    first = asyncio.create_task(issuers.verify(token_of(OLD), NOW))
    second = asyncio.create_task(issuers.verify(token_of(OLD), NOW))
    await wait_until(lambda: server.requests)
    first.cancel()
    assert isinstance(await second, VerifiedToken)
    assert len(server.requests) == 1


async def test_the_request_carries_nothing_but_what_it_needs(
    server: JwksServer, keys: FetchedKeys
) -> None:
    await make_issuers(keys).verify(token_of(OLD), NOW)
    head = server.requests[0].decode().lower()
    assert head.startswith("get /jwks.json http/1.1\r\n")
    assert "accept-encoding: identity" in head
    assert "cookie" not in head
    assert "authorization" not in head


@pytest.mark.parametrize("success", SUCCESSES.values(), ids=SUCCESSES.keys())
async def test_any_whole_answer_will_do(
    server: JwksServer, keys: FetchedKeys, success: Behaviour
) -> None:
    server.behave = success
    assert isinstance(await make_issuers(keys).verify(token_of(OLD), NOW), VerifiedToken)


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for localhost, signed by itself, and its key."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    begin = datetime.now(UTC) - timedelta(days=1)
    certificate = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(private, hashes.SHA256())
    )
    paths = folder / "tls.crt", folder / "tls.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


@pytest.mark.parametrize("is_known", [True, False])
async def test_an_https_server_must_show_a_certificate_that_the_machine_trusts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_known: bool,
) -> None:
    certificate, private = write_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, private)
    listening = await asyncio.start_server(JwksServer().serve, "127.0.0.1", 0, ssl=context)
    port = listening.sockets[0].getsockname()[1]
    if is_known:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    source = FetchedKeys(ISSUER, f"https://localhost:{port}/jwks.json", ALGORITHMS)
    if is_known:
        assert isinstance(await make_issuers(source).verify(token_of(OLD), NOW), VerifiedToken)
    else:
        with pytest.raises(IssuerUnavailable):
            await make_issuers(source).verify(token_of(OLD), NOW)
        assert "certificate verify failed" in caplog.text
    listening.close()


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
async def test_a_server_that_is_no_use_is_i_do_not_know_in_bounded_time_and_memory(
    server: JwksServer, keys: FetchedKeys, failure: Behaviour
) -> None:
    server.behave = failure
    issuers = make_issuers(keys)
    tracemalloc.start()
    try:
        with pytest.raises(IssuerUnavailable) as caught:
            await asyncio.wait_for(issuers.verify(token_of(OLD), NOW), 5)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()
    assert caught.value.code == "store_unavailable"


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
async def test_known_keys_outlive_any_failure_of_their_server(
    server: JwksServer, keys: FetchedKeys, clock: Clock, failure: Behaviour
) -> None:
    issuers = make_issuers(keys)
    await issuers.verify(token_of(OLD), NOW)
    server.behave = failure
    with pytest.raises(IssuerUnavailable):
        await issuers.verify(token_of(OLD, kid="unknown"), NOW)
    assert isinstance(await issuers.verify(token_of(OLD), NOW), VerifiedToken)
    clock.seconds += 3599
    assert isinstance(await issuers.verify(token_of(OLD), NOW), VerifiedToken)


async def test_an_hour_after_the_last_good_fetch_keys_are_not_believed_any_more(
    server: JwksServer, keys: FetchedKeys, clock: Clock
) -> None:
    issuers = make_issuers(keys)
    await issuers.verify(token_of(OLD), NOW)
    server.behave = FAILURES["an error"]
    clock.seconds += 3600
    with pytest.raises(IssuerUnavailable):
        await issuers.verify(token_of(OLD), NOW)
    server.behave = publish(OLD)
    clock.seconds += LIMITS.retry_seconds
    assert isinstance(await issuers.verify(token_of(OLD), NOW), VerifiedToken)


async def test_no_redirect_is_followed(server: JwksServer, keys: FetchedKeys) -> None:
    target = f"Location: {server.url}\r\n"
    server.behave = answer(key_set(OLD), head="HTTP/1.1 302 Found", extra=target)
    with pytest.raises(IssuerUnavailable):
        await make_issuers(keys).verify(token_of(OLD), NOW)
    assert len(server.requests) == 1


async def test_a_server_that_is_gone_is_i_do_not_know(clock: Clock) -> None:
    source = FetchedKeys(ISSUER, "http://127.0.0.1:1/jwks", ALGORITHMS, LIMITS, clock)
    with pytest.raises(IssuerUnavailable, match="are unavailable"):
        await make_issuers(source).verify(token_of(OLD), NOW)


async def test_without_keys_a_fetch_is_tried_again_only_after_a_pause(
    server: JwksServer, keys: FetchedKeys, clock: Clock
) -> None:
    issuers = make_issuers(keys)
    server.behave = FAILURES["an error"]
    for _ in range(20):
        with pytest.raises(IssuerUnavailable):
            await issuers.verify(token_of(OLD), NOW)
    assert len(server.requests) == 1
    server.behave = publish(OLD)
    clock.seconds += LIMITS.retry_seconds
    assert isinstance(await issuers.verify(token_of(OLD), NOW), VerifiedToken)


async def judge(issuers: Issuers, token: str) -> str:
    """Return what becomes of a token: ``passes``, ``refused`` or ``not known``."""
    try:
        verdict = await issuers.verify(token, NOW)
    except IssuerUnavailable:
        return "not known"
    return "refused" if isinstance(verdict, Denial) else "passes"


async def name_unknown_kids(issuers: Issuers, count: int, stem: str = "made-up") -> list[str]:
    """Be a stranger who makes ``kid``s up; return what became of its tokens."""
    made_up = (token_of(OLD, kid=f"{stem}-{number}") for number in range(count))
    return [await judge(issuers, token) for token in made_up]


async def test_made_up_kids_cause_a_few_fetches_a_minute(
    server: JwksServer, keys: FetchedKeys, clock: Clock
) -> None:
    issuers = make_issuers(keys)
    await issuers.verify(token_of(OLD), NOW)
    most = LIMITS.unknown_key_fetches
    found = await name_unknown_kids(issuers, 50)
    assert found == ["refused"] * most + ["not known"] * (50 - most)
    assert len(server.requests) == 1 + most
    for _ in range(60):
        clock.seconds += 1
        await name_unknown_kids(issuers, 5, f"at-{clock.seconds}")
    assert len(server.requests) == 1 + most + 60 / LIMITS.unknown_key_seconds


async def test_no_stranger_can_have_a_new_keys_tokens_refused(
    server: JwksServer, keys: FetchedKeys, clock: Clock
) -> None:
    issuers = make_issuers(keys)
    await issuers.verify(token_of(OLD), NOW)
    await name_unknown_kids(issuers, 1)
    server.behave = publish(NEW, kid="new")
    assert await judge(issuers, token_of(NEW, kid="new")) == "passes"


async def test_a_new_keys_tokens_are_not_known_until_the_next_fetch_however_many_are_spent(
    server: JwksServer, keys: FetchedKeys, clock: Clock
) -> None:
    issuers = make_issuers(keys)
    await issuers.verify(token_of(OLD), NOW)
    await name_unknown_kids(issuers, 50)
    server.behave = publish(NEW, kid="new")
    assert await judge(issuers, token_of(NEW, kid="new")) == "not known"
    clock.seconds += LIMITS.unknown_key_seconds
    await name_unknown_kids(issuers, 1, "later")
    assert await judge(issuers, token_of(NEW, kid="new")) == "passes"


async def test_a_refused_kid_is_refused_for_a_while_without_a_fetch(
    server: JwksServer, keys: FetchedKeys, clock: Clock
) -> None:
    issuers = make_issuers(keys)
    await issuers.verify(token_of(OLD), NOW)
    stray = token_of(NEW, kid="of-another-system")
    for fetches in (2, 3):
        assert {await judge(issuers, stray) for _ in range(20)} == {"refused"}
        assert len(server.requests) == fetches
        clock.seconds += LIMITS.unknown_key_seconds


async def test_a_withdrawn_key_in_use_stays_refused_while_a_stranger_spends_all_fetches(
    server: JwksServer, keys: FetchedKeys, clock: Clock
) -> None:
    issuers = make_issuers(keys)
    await issuers.verify(token_of(OLD), NOW)
    assert await judge(issuers, token_of(OLD, kid="withdrawn")) == "refused"
    for _ in range(60):
        clock.seconds += 1
        await name_unknown_kids(issuers, 300, f"at-{clock.seconds}")
        assert await judge(issuers, token_of(OLD, kid="withdrawn")) == "refused"


async def test_what_is_remembered_of_unknown_kids_is_bounded(
    server: JwksServer, keys: FetchedKeys, clock: Clock
) -> None:
    issuers = make_issuers(keys)
    await issuers.verify(token_of(OLD), NOW)
    for start in range(5):
        clock.seconds += 5
        tokens = [token_of(OLD, kid=f"{start}-{number}") for number in range(300)]
        await asyncio.gather(*(judge(issuers, token) for token in tokens))
    assert len(keys._absent) + len(keys._asked) <= 3 * LIMITS.most_unknown_keys


async def test_keys_that_were_asked_for_before_a_token_came_do_not_refuse_it(
    server: JwksServer, keys: FetchedKeys
) -> None:
    issuers = make_issuers(keys)
    await issuers.verify(token_of(OLD), NOW)
    answered = asyncio.Event()
    before = publish(OLD)

    async def answer_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answered.wait()
        await before(reader, writer)

    server.behave = answer_late
    stranger = asyncio.create_task(judge(issuers, token_of(OLD, kid="made-up")))
    await wait_until(lambda: len(server.requests) == 2)
    server.behave = publish(NEW, kid="new")
    callers = [asyncio.create_task(judge(issuers, token_of(NEW, kid="new"))) for _ in range(100)]
    await asyncio.sleep(0)
    answered.set()
    assert await stranger == "refused"
    assert {await caller for caller in callers} == {"passes"}
    assert len(server.requests) == 3


async def test_a_signature_that_does_not_fit_a_known_key_causes_no_fetch(
    server: JwksServer, keys: FetchedKeys
) -> None:
    issuers = make_issuers(keys)
    await issuers.verify(token_of(OLD), NOW)
    assert await judge(issuers, token_of(NEW)) == "refused"
    assert len(server.requests) == 1


async def test_a_new_key_is_found_by_the_first_token_that_it_signed(
    server: JwksServer, keys: FetchedKeys, clock: Clock
) -> None:
    async with started(make_issuers(keys)) as issuers:
        await wait_until(lambda: keys.find("EdDSA-1"))
        server.behave = publish(NEW, kid="new")
        assert isinstance(await issuers.verify(token_of(NEW, kid="new"), NOW), VerifiedToken)
    assert len(server.requests) == 2


async def test_a_withdrawn_key_verifies_nothing_after_the_next_fetch(
    server: JwksServer, keys: FetchedKeys, clock: Clock
) -> None:
    issuers = make_issuers(keys)
    await issuers.verify(token_of(OLD), NOW)
    server.behave = publish(NEW, kid="new")
    clock.seconds += 60
    await issuers.verify(token_of(NEW, kid="new"), NOW)
    assert isinstance(await issuers.verify(token_of(OLD), NOW), Denial)


async def test_keys_are_fetched_before_they_are_asked_for_and_again_in_the_background(
    server: JwksServer, clock: Clock
) -> None:
    often = replace(LIMITS, refresh_seconds=0.02)
    source = FetchedKeys(ISSUER, server.url, ALGORITHMS, often, clock)
    async with started(make_issuers(source)) as issuers:
        await wait_until(lambda: len(server.requests) >= 3)
        assert isinstance(await issuers.verify(token_of(OLD), NOW), VerifiedToken)


async def test_an_issuer_that_is_away_at_start_is_asked_until_it_is_back(
    server: JwksServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sidecar.auth.issuers")
    server.behave = hang_up
    soon = replace(LIMITS, retry_seconds=0.02)
    source = FetchedKeys(ISSUER, server.url, ALGORITHMS, soon, clock)
    async with started(make_issuers(source)):
        await wait_until(lambda: len(server.requests) >= 5)
        server.behave = publish(OLD)
        await wait_until(lambda: source.find("EdDSA-1"))
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_closing_lets_waiting_callers_have_their_answer(
    server: JwksServer, keys: FetchedKeys
) -> None:
    server.behave = hang
    issuers = make_issuers(keys)
    issuers.start()
    await wait_until(lambda: server.requests)
    caller = asyncio.create_task(issuers.verify(token_of(OLD), NOW))
    await asyncio.sleep(0)
    await issuers.close()
    await issuers.close()
    with pytest.raises(IssuerUnavailable):
        await caller


async def test_a_known_key_is_judged_without_waiting_while_a_fetch_hangs(
    server: JwksServer, keys: FetchedKeys, clock: Clock
) -> None:
    issuers = make_issuers(keys)
    await issuers.verify(token_of(OLD), NOW)
    server.behave = hang
    clock.seconds += 60
    stranger = asyncio.create_task(issuers.verify(token_of(OLD, kid="unknown"), NOW))
    await wait_until(lambda: len(server.requests) == 2)
    honest = issuers.verify(token_of(OLD), NOW)
    with pytest.raises(StopIteration) as finished:
        honest.send(None)
    assert isinstance(finished.value.value, VerifiedToken)
    with pytest.raises(IssuerUnavailable):
        await stranger


async def test_no_failure_is_logged_with_the_url_or_what_the_server_sent(
    server: JwksServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    server.behave = answer(b"LEAKED-BODY", head="HTTP/1.1 200 LEAKED-REASON")
    source = FetchedKeys(ISSUER, f"{server.url}?key=LEAKED-QUERY", ALGORITHMS, LIMITS, clock)
    with pytest.raises(IssuerUnavailable) as caught:
        await make_issuers(source).verify(token_of(OLD), NOW)
    assert "not strict JSON" in caplog.text
    assert "LEAKED" not in caplog.text + str(caught.value)


async def test_why_keys_can_not_be_had_is_logged_again_when_it_changes(
    server: JwksServer, keys: FetchedKeys, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for failure in ("an error", "an error", "html", "html"):
        server.behave = FAILURES[failure]
        with pytest.raises(IssuerUnavailable):
            await keys.seek("EdDSA-1")
        clock.seconds += LIMITS.retry_seconds
    reasons = [record.getMessage().rpartition(": ")[2] for record in caplog.records]
    assert reasons == ["the server answered 500", "not strict JSON"]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("file:///etc/passwd", "http or https"),
        ("ftp://example.com/jwks", "http or https"),
        ("example.com/jwks", "http or https"),
        ("https:///jwks", "with a host"),
        ("https://example.com:99999/", "host or port"),
        ("https://example.com/jw ks", "visible ASCII"),
        ("https://exämple.com/jwks", "visible ASCII"),
        ("https://user:secret@example.com/jwks", "user or password"),
    ],
)
def test_a_url_that_is_no_public_web_address_is_refused_at_start(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        FetchedKeys(ISSUER, url, ALGORITHMS)
    assert "secret" not in str(caught.value)


def test_a_shared_secret_is_never_asked_for_by_url() -> None:
    with pytest.raises(ValueError, match="from a file"):
        FetchedKeys(ISSUER, "https://example.com/jwks", ("HS256",))


ENCRYPTION = OLD.key("ES256").publish() | {"use": "enc"}
ODD = {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "odd"}
MIXED = [ENCRYPTION, *(OLD.key(algorithm).publish() for algorithm in ALGORITHMS), ODD]


async def test_keys_that_are_not_used_are_logged_once_a_set_and_shut_out_nobody(
    server: JwksServer, keys: FetchedKeys, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server.behave = answer(json.dumps({"keys": MIXED}).encode())
    assert isinstance(await make_issuers(keys).verify(token_of(OLD), NOW), VerifiedToken)
    for _ in range(3):
        await keys._refresh()
    (line,) = caplog.records
    assert line.levelname == "WARNING"
    assert line.getMessage() == (
        f"keys of issuer {ISSUER!r} are skipped: key 1: its use is not sig; "
        "key 4: its members do not form a valid key"
    )
    server.behave = answer(json.dumps({"keys": MIXED[:-1]}).encode())
    await keys._refresh()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_a_set_none_of_whose_keys_can_be_used_is_i_do_not_know(
    server: JwksServer, keys: FetchedKeys
) -> None:
    server.behave = answer(json.dumps({"keys": [ENCRYPTION, ODD]}).encode())
    with pytest.raises(IssuerUnavailable):
        await make_issuers(keys).verify(token_of(OLD), NOW)


def write(path: Path, content: bytes) -> None:
    """Replace a file as a ConfigMap or an editor does: another inode under the same name."""
    path.with_suffix(".new").write_bytes(content)
    os.replace(path.with_suffix(".new"), path)


@pytest.fixture
def jwks_file(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set(OLD))
    return path


async def test_keys_from_a_file_verify_and_a_changed_file_is_read_again(jwks_file: Path) -> None:
    source = FileKeys(ISSUER, jwks_file, ALGORITHMS, replace(LIMITS, file_poll_seconds=0.01))
    async with started(make_issuers(source)) as issuers:
        assert isinstance(await issuers.verify(token_of(OLD), NOW), VerifiedToken)
        write(jwks_file, key_set(NEW, kid="new"))
        await wait_until(lambda: source.find("new"))
        assert isinstance(await issuers.verify(token_of(OLD), NOW), Denial)


async def test_an_unknown_kid_looks_at_the_file_at_once(jwks_file: Path) -> None:
    issuers = make_issuers(FileKeys(ISSUER, jwks_file, ALGORITHMS))
    write(jwks_file, key_set(NEW, kid="new"))
    assert isinstance(await issuers.verify(token_of(NEW, kid="new"), NOW), VerifiedToken)


@pytest.mark.parametrize("content", [b"", b"{", b'{"keys": []}', b" " * 300_000, None])
async def test_a_file_gone_wrong_leaves_the_old_keys_in_force_and_is_logged_once(
    jwks_file: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    issuers = make_issuers(FileKeys(ISSUER, jwks_file, ALGORITHMS))
    if content is None:
        jwks_file.unlink()
    else:
        write(jwks_file, content)
    for _ in range(3):
        assert isinstance(await issuers.verify(token_of(OLD, kid="unknown"), NOW), Denial)
    assert isinstance(await issuers.verify(token_of(OLD), NOW), VerifiedToken)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    write(jwks_file, key_set(NEW, kid="new"))
    assert isinstance(await issuers.verify(token_of(NEW, kid="new"), NOW), VerifiedToken)


async def test_keys_of_a_file_that_are_not_used_are_logged_once_and_shut_out_nobody(
    jwks_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jwks_file.write_bytes(json.dumps({"keys": MIXED}).encode())
    source = FileKeys(ISSUER, jwks_file, ALGORITHMS)
    FileKeys(ISSUER, jwks_file, ALGORITHMS)  # as a reload makes one, and drops it again
    for _ in range(3):  # as a reload starts the one that it keeps
        async with started(make_issuers(source)) as issuers:
            await asyncio.sleep(0)
            assert isinstance(await issuers.verify(token_of(OLD), NOW), VerifiedToken)
            assert isinstance(await issuers.verify(token_of(OLD, kid="unknown"), NOW), Denial)
    (line,) = caplog.records
    assert "key 4: its members do not form a valid key" in line.getMessage()
    write(jwks_file, json.dumps({"keys": MIXED[1:]}).encode())
    await source.seek("unknown")
    assert "key 3: its members do not form" in caplog.records[-1].getMessage()


async def test_a_file_may_hold_the_shared_secret_of_the_system_that_is_replaced(
    tmp_path: Path,
) -> None:
    path = tmp_path / "jwks.json"
    path.write_text('{"keys": [{"kty": "oct", "kid": "s", "k": "' + "c2VjcmV0" * 6 + '"}]}')
    source = FileKeys(ISSUER, path, ("HS256",))
    trusted = TrustedIssuer(ISSUER, "listener", ("HS256",), source)
    judge = SignedTokens("sidecar", "listener", 10, (), (trusted,))
    token = sign_with(Key("s", "HS256", b"secret" * 6, b"secret" * 6))
    assert isinstance(judge.verify_now(token, NOW), VerifiedToken)
    stranger = sign_with(Key("s2", "HS256", b"secret" * 6, b"secret" * 6))
    assert isinstance(judge.verify_now(stranger, NOW), NeedsKeys)


def sign_with(key: Key) -> str:
    return write_token(Bench(OLD, "acme", "j", NOW, 10).claims(), key)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file"), (b"{", "not strict JSON"), (b'{"keys": []}', "no usable key")],
)
def test_a_file_that_cannot_be_used_is_refused_at_start_by_name(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "jwks.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"jwks\.json: .*{reason}"):
        FileKeys(ISSUER, path, ALGORITHMS)
