"""The attacks, as data: groups F (fairness) and X (exhaustion) of the hostile cases.

``opening`` and ``drip`` say what an attack sends. In them, ``{token}`` stands for a valid token of
the attacker's own account, and each ``{fresh}`` for a new unknown token with a correct checksum.
``attacker`` sends the bytes; ``stage`` measures the effects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tests.fairness.honest import HEALTH, KEPT, NEW

KIB = 1024
MIB = 1024 * 1024

REFUSED = b"GET /z HTTP/1.1\r\nHost: a\r\n\r\n"
HIT = b"GET /v1/dynamic/listener/a1 HTTP/1.1\r\nHost: a\r\naccess_token: {token}\r\n\r\n"
FRESH = b"GET /v1/dynamic/listener/a1 HTTP/1.1\r\nHost: a\r\naccess_token: {fresh}\r\n\r\n"
PUBLIC, PROTECTED = b"/public/a", b"/v1/dynamic/listener/a1"
WEBSOCKET = (
    b"GET /v1/dynamic/listener/socket HTTP/1.1\r\nHost: a\r\naccess_token: {token}\r\n"
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SMALL_FRAME = b"\x82\x81\x01\x02\x03\x04z"
"""A masked binary WebSocket frame of one byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """What an attack sends, over how many connections, and how often."""

    name: str
    says: str
    stage: str = "plain"
    """The configuration of the proxy: a key of ``stage.SETTINGS``."""
    connections: int = 1
    addresses: int = 1
    """The number of source addresses."""
    opening: Callable[[], bytes] = bytes
    """Makes the bytes that begin each round, sent as fast as possible."""
    copies: int = 1
    """How many times in a row a round sends the opening."""
    answers: int = 0
    """A round ends after this many answers; 0: only when the connection closes."""
    drip: bytes = b""
    drip_seconds: float = 1.0
    """Sent after the opening, once every ``drip_seconds``, until the end."""
    read_bytes: int = 0
    """0: read answers as they come; else this many bytes every ``drip_seconds``."""
    keeps: bool = True
    """The next round uses the same connection, as long as it is open."""
    reopens: bool = True
    """A connection that the proxy closed is replaced …"""
    reopen_seconds: float = 1.0
    """… this much later: most attacks are about what is sent, not about opening connections."""
    resets: bool = False
    """The attacker resets the connection, which ends the round, once the opening is sent."""
    most_rounds: int = 10**9
    """The limit for all connections together."""
    seconds: float = 8.0
    along: str = ""
    """What else happens during the attack: the name of a method of ``stage.Along``."""
    most_held: int = 1_000_000
    """How many of its connections may be open at the end."""
    judged: tuple[str, ...] = (KEPT, NEW, HEALTH)
    """Which askers must be served during the attack; afterwards all must be. If an attack takes all
    the connections that are allowed, new ones are refused by design."""
    store_is_away: bool = False
    """Redis can't answer during the attack, so answers may say that it is unavailable."""

    @property
    def group(self) -> str:
        return self.name.split(" ", 1)[0]


def repeated(piece: bytes, size: int) -> bytes:
    """Repeat a piece as often as it fits into so many bytes."""
    return piece * (size // len(piece))


def upload(target: bytes, framing: bytes, credential: bytes = b"") -> bytes:
    """Return the head of a POST."""
    return b"POST %b HTTP/1.1\r\nHost: a\r\n%b%b\r\n\r\n" % (target, credential, framing)


def chunks(data: bytes, size: int, total: int) -> bytes:
    """Return data of a total size as chunks of one size, with the last chunk."""
    whole, rest = divmod(size, len(data))
    assert not rest, "a chunk holds the data a whole number of times"
    one = b"%x\r\n%b\r\n" % (size, data * whole)
    return one * (total // size) + b"0\r\n\r\n"


def _upload_of_chunks(
    target: bytes, credential: bytes, data: bytes, size: int, total: int
) -> bytes:
    return upload(target, CHUNKED, credential) + chunks(data, size, total)


CHUNKED = b"Transfer-Encoding: chunked"
LENGTH = b"Content-Length: %d"
MINE = b"access_token: {token}\r\n"

CHUNK_DATA = {
    "CR LF CR LF": (b"\r\n" * 2, 64 * KIB, 6 * MIB),
    "0 CR LF CR LF": (b"0\r\n\r\n", 64 * KIB - 1, 6 * MIB),
    "one byte each": (b"x", 1, MIB),
}
"""The data of a chunk, its size, and the total size."""


def _long_head(size: int) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(
        b"X-%06d: %b\r\n" % (number, b"y" * 1000) for number in range(size // 1012)
    )


def _pipelined_refusals() -> list[Attack]:
    count = 255 * KIB // len(REFUSED)
    once = [
        Attack(
            name=f"F1 {connections} x 255 KiB",
            says=f"{count} refusals in one piece, again and again",
            connections=connections,
            opening=partial(repeated, REFUSED, 255 * KIB),
            answers=count,
        )
        for connections in (1, 8, 40)
    ]
    many = 23 * MIB // (len(REFUSED) * count)
    long = Attack(
        name="F1 23 MB",
        says="23 MB of refusals in one go",
        opening=partial(repeated, REFUSED, 255 * KIB),
        copies=many,
        answers=count * many,
        most_rounds=1,
        seconds=40,
    )
    return [*once, long]


def _pipelined_others() -> list[Attack]:
    sent = {
        "hits": HIT,
        "refused tokens": FRESH.replace(b"{fresh}", b"sct_" + b"0" * 60),
        "bodies by length": upload(PUBLIC, LENGTH % 10) + b"0123456789",
        "chunked bodies": upload(PUBLIC, CHUNKED) + b"a\r\n0123456789\r\n0\r\n\r\n",
        "refused bodies": upload(b"/z", LENGTH % 10) + b"0123456789",
    }
    many = [
        Attack(
            name=f"F2 {name}",
            says="the same, on 40 connections",
            connections=40,
            opening=partial(repeated, piece, 128 * KIB),
            answers=128 * KIB // len(piece),
        )
        for name, piece in sent.items()
    ]
    late = Attack(
        name="F2 408s",
        says="2000 requests at a time that nobody ends",
        stage="hasty",
        connections=2000,
        opening=partial(bytes, REFUSED[:-2]),
        addresses=8,
    )
    return [*many, late]


def _chunk_data() -> list[Attack]:
    targets = {"public": (PUBLIC, b""), "no token": (PROTECTED, b""), "token": (PROTECTED, MINE)}
    return [
        Attack(
            name=f"F3 {what}, {where}",
            says=f"{total // MIB} MiB of it on 4 connections, again and again",
            connections=4,
            opening=partial(_upload_of_chunks, target, credential, data, size, total),
            answers=1,
            reopen_seconds=0.05,
        )
        for what, (data, size, total) in CHUNK_DATA.items()
        for where, (target, credential) in targets.items()
    ]


def _ever_new_tokens() -> list[Attack]:
    """A kept-alive connection sends one request at a time, or eight."""
    floods = [
        # name, addresses, at a time, seconds, what else happens
        ("one address", 1, 1, 60.0, "revoke"),
        ("one address, 8 at a time", 1, 8, 20.0, "revoke"),
        ("50 addresses", 50, 1, 20.0, "revoke"),
        ("50 addresses, 8 at a time", 50, 8, 20.0, "revoke"),
        ("CLIENT KILL", 50, 1, 20.0, "client_kill"),
        ("CLIENT KILL, 8 at a time", 50, 8, 20.0, "client_kill"),
    ]
    return [
        Attack(
            name=f"F4 {name}",
            says="1500 connections with ever new tokens of a right checksum",
            connections=1500,
            addresses=addresses,
            opening=partial(bytes, FRESH * at_a_time),
            answers=at_a_time,
            seconds=seconds,
            along=along,
        )
        for name, addresses, at_a_time, seconds, along in floods
    ]


def _slow_bodies() -> list[Attack]:
    big = LENGTH % (100 * MIB)
    get = b"GET %b/big/%d HTTP/1.1\r\nHost: a\r\n%b\r\n"
    uploads = {
        "uploads, stranger": upload(PUBLIC, big),
        "uploads, account": upload(PROTECTED, big, MINE),
    }
    downloads = {
        "downloads, stranger": get % (PUBLIC, 100 * MIB, b""),
        "downloads, account": get % (PROTECTED, 100 * MIB, MINE),
    }
    return [
        *(
            Attack(
                name=f"F5 {name}",
                says="512 at a byte a second; of an account, from fifty addresses",
                connections=512,
                addresses=50 if "account" in name else 1,
                opening=partial(bytes, head),
                drip=b"x",
                seconds=15,
            )
            for name, head in uploads.items()
        ),
        *(
            Attack(
                name=f"F5 {name}",
                says="512 at a byte a second; of an account, from fifty addresses",
                connections=512,
                addresses=50 if "account" in name else 1,
                opening=partial(bytes, head),
                read_bytes=1,
                seconds=15,
            )
            for name, head in downloads.items()
        ),
    ]


def _unfinished() -> list[Attack]:
    return [
        Attack(
            name="F6 6000 heads",
            says="heads of 29 KiB that never end",
            connections=6000,
            addresses=8,
            opening=partial(_long_head, 29 * KIB),
            seconds=12,
        ),
        Attack(
            name="F6 9900 heads",
            says="as many as there may be connections, less those of the honest",
            connections=9900,
            addresses=8,
            opening=partial(_long_head, 29 * KIB),
            seconds=15,
        ),
        Attack(
            name="F7 10000 of 10000",
            says="TLS connections that never shake hands",
            stage="tls",
            connections=10_000,
            addresses=8,
            seconds=15,
            judged=(KEPT, HEALTH),
        ),
        Attack(
            name="F7 1500 of 20",
            says="the same, where there may be but 20",
            stage="tls, 20",
            connections=1500,
            most_held=20,
            seconds=12,
            judged=(KEPT, HEALTH),
        ),
        Attack(
            name="F7 1500, 64 each",
            says="the same, where there may be but 64 of each address",
            stage="tls, 64 each",
            connections=1500,
            most_held=64,
            seconds=12,
        ),
    ]


def _others() -> list[Attack]:
    return [
        Attack(
            name="F8 outages",
            says="Redis away, back for a second, away",
            seconds=45,
            connections=0,
            along="two_outages",
            store_is_away=True,
        ),
        Attack(
            name="F9 frames",
            says="WebSocket frames of one byte on 8 tunnels, as fast as they are taken",
            connections=8,
            opening=partial(bytes, WEBSOCKET),
            drip=repeated(SMALL_FRAME, 256 * KIB),
            drip_seconds=0.0,
        ),
    ]


FAIRNESS = [
    *_pipelined_refusals(),
    *_pipelined_others(),
    *_chunk_data(),
    *_ever_new_tokens(),
    *_slow_bodies(),
    *_unfinished(),
    *_others(),
]

EXHAUSTION = [
    Attack(
        name="X1 slow heads",
        says="500 at ten bytes a second",
        connections=500,
        opening=partial(bytes, b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: "),
        drip=b"y",
        drip_seconds=0.1,
    ),
    Attack(
        name="X2 slow chunks",
        says="200 uploads in chunks of a byte, ten a second",
        connections=200,
        opening=partial(upload, PUBLIC, CHUNKED),
        drip=b"1\r\nx\r\n",
        drip_seconds=0.1,
    ),
    Attack(
        name="X3 slow readers",
        says="64 of an answer of 50 MiB, 4 KiB each tenth of a second",
        connections=64,
        opening=partial(bytes, b"GET /public/big/%d HTTP/1.1\r\nHost: a\r\n\r\n" % (50 * MIB)),
        read_bytes=4 * KIB,
        drip_seconds=0.1,
    ),
    *(
        Attack(
            name=f"X4 {name}",
            says="on 64 connections, again and again",
            connections=64,
            opening=partial(bytes, head),
            answers=1,
            keeps=False,
        )
        for name, head in {
            "64 KiB header": b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"y" * 64 * KIB),
            "1000 headers": b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n" % (b"X-Y: z\r\n" * 1000),
            "64 KiB URL": b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"y" * 64 * KIB),
        }.items()
    ),
    Attack(
        name="X4 dribbled",
        says="a header of 64 KiB in pieces of 200 bytes, 50 a second, on 200 connections",
        connections=200,
        opening=partial(bytes, b"GET / HTTP/1.1\r\nHost: a\r\nX: "),
        drip=b"y" * 200,
        drip_seconds=0.02,
    ),
    Attack(
        name="X5 200 in a segment",
        says="200 pipelined requests at a time, on 64 connections",
        connections=64,
        opening=partial(bytes, HIT * 200),
        answers=200,
    ),
    Attack(
        name="X6 descriptors",
        says="idle connections, more than there may be descriptors",
        stage="few descriptors",
        connections=1200,
        reopens=False,
        judged=(KEPT,),
    ),
    Attack(
        name="X7 compressed",
        says="8 MiB of zeros, compressed, on 8 connections, again and again",
        connections=8,
        opening=partial(
            bytes,
            upload(PUBLIC, b"Content-Encoding: gzip\r\n" + LENGTH % 8192) + b"\x1f\x8b" * 4096,
        ),
        answers=1,
    ),
    Attack(
        name="X8 random tokens",
        says="100000 of them, over 64 connections",
        connections=64,
        opening=partial(bytes, FRESH),
        answers=1,
        most_rounds=100_000,
        seconds=40,
    ),
    Attack(
        name="X9 resets",
        says="10000 connections that are reset in the middle of a request",
        connections=50,
        addresses=8,
        opening=partial(bytes, HIT + HIT[:40]),
        resets=True,
        most_rounds=10_000,
        seconds=30,
    ),
]

ATTACKS = {attack.name: attack for attack in (*FAIRNESS, *EXHAUSTION)}
