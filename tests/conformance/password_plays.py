"""Group B, the parts with a memory: who fails, from where, and what everybody is told then.

A play is a list of steps; each is made anew on a connection of its own. ``{account}`` is an account
that no other play uses, ``{net}`` and ``{net6}`` are networks of its own: one proxy serves all.
The proxy bans after ``FAILURES`` and believes ``X-Forwarded-For`` of 127.0.0.1 alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FAILURES: Final = 4
PASSWORD: Final = "correct:horse:b\u00e4ttery"

OK: Final = "200"
BAD_TOKEN: Final = "401 invalid_token"
WRONG: Final = "401 invalid_password"
UNREADABLE: Final = "401 malformed_credentials"
BANNED: Final = "429 too_many_failures"


@dataclass(frozen=True, slots=True)
class Token:
    """A token: ``good`` (of another account), ``unknown``, ``checksum``, ``revoked``, ``jwt``."""

    kind: str = "good"


@dataclass(frozen=True, slots=True)
class Password:
    """An account's name and a password; what stands in braces, ``test_passwords`` fills in."""

    password: str = "wrong {n}"
    name: str = "{account}"


RIGHT: Final = Password(PASSWORD)
GUESS: Final = Password()


@dataclass(frozen=True, slots=True)
class Step:
    """``times`` requests that must all be answered ``answer``.

    ``client`` stands in ``X-Forwarded-For``; ``peer`` is the address that the connection is from.
    """

    client: str
    sent: Token | Password
    answer: str
    times: int = 1
    peer: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Play:
    """A name (the item of the list and what is special) and what happens in it."""

    name: str
    steps: tuple[Step, ...]


def guesses(client: str, times: int = FAILURES, sent: Token | Password = GUESS) -> Step:
    """Return failures that are still looked at."""
    return Step(client, sent, BAD_TOKEN if isinstance(sent, Token) else WRONG, times)


def spellings(name: str, *others: str) -> tuple[Play, ...]:
    """Return plays in which a ban is met under another spelling of the account's name."""
    return tuple(
        Play(
            f"B9 {name}: {other!r}",
            (
                *(guesses(f"{{net}}.{i}", 1) for i in range(FAILURES)),
                Step("{net}.99", Password(PASSWORD, other), BANNED),
            ),
        )
        for other in others
    )


PLAYS: Final = (
    Play(
        "B9 a client that guesses passwords is banned, with the right one too",
        (
            guesses("{net}.1", FAILURES),
            Step("{net}.1", GUESS, BANNED),
            Step("{net}.1", RIGHT, BANNED, 2),
            Step("{net}.1", Token("unknown"), BANNED),
            Step("{net}.1", Token(), OK, 5),
        ),
    ),
    Play(
        "B9 an account is banned by failures from everywhere, and its ban bans nobody else",
        (
            *(guesses(f"{{net}}.{i}", 1) for i in range(FAILURES)),
            Step("{net}.50", RIGHT, BANNED),
            Step("{net}.50", Token("unknown"), BAD_TOKEN),
            Step("{net}.51", Password("x", "nobody of {account}"), WRONG),
            Step("{net}.50", Token(), OK),
        ),
    ),
    Play(
        "B9 failures of others do not shut out an account from where it has signed in",
        (
            Step("{net}.7", RIGHT, OK),
            *(guesses(f"{{net}}.{i}", 1) for i in range(20, 20 + FAILURES)),
            Step("{net}.8", RIGHT, BANNED),
            Step("{net}.7", RIGHT, OK),
            guesses("{net}.7", FAILURES),
            Step("{net}.7", RIGHT, BANNED),
        ),
    ),
    Play(
        "B9 a banned guesser is not told which password somebody else uses right now",
        (
            Step("{net}.7", RIGHT, OK),
            guesses("{net}.9", FAILURES),
            Step("{net}.9", GUESS, BANNED),
            Step("{net}.9", RIGHT, BANNED),
        ),
    ),
    *(
        Play(
            f"B9 a client is banned for tokens: {kind}",
            (
                guesses("{net}.1", FAILURES, Token(kind)),
                Step("{net}.1", Token(kind), BANNED),
                Step("{net}.1", RIGHT, BANNED),
                Step("{net}.1", Token(), OK),
                Step("{net}.2", Token(kind), BAD_TOKEN),
            ),
        )
        for kind in ("unknown", "checksum", "revoked", "jwt")
    ),
    Play(
        "B6 a letter moved from the name to the password is another pair, and none is remembered",
        (
            Step("{net}.1", RIGHT, OK),
            Step("{net}.1", Password("{rest}:" + PASSWORD, "{head}"), WRONG),
            Step("{net}.1", Password(PASSWORD[1:], "{account}:" + PASSWORD[0]), WRONG),
            Step("{net}.1", RIGHT, OK),
        ),
    ),
    Play(
        "B9 what is missing or unreadable is no failure",
        (
            Step("{net}.1", Token("short"), UNREADABLE, 3 * FAILURES),
            Step("{net}.1", Token("empty"), UNREADABLE, 3 * FAILURES),
            Step("{net}.1", Token("none"), "401 missing_credentials", 3 * FAILURES),
            Step("{net}.1", Token("two"), "400 ambiguous_credentials", 3 * FAILURES),
            Step("{net}.1", RIGHT, OK),
        ),
    ),
    Play(
        "B9 a good token that may not pass is no failure",
        (
            Step("{net}.1", Token("elsewhere"), "403 not_allowed", 3 * FAILURES),
            Step("{net}.1", RIGHT, OK),
        ),
    ),
    Play(
        "B9 a forged X-Forwarded-For of an untrusted peer is not looked at",
        (
            *(
                Step(f"{{net}}.{i}", Token("unknown"), BAD_TOKEN, peer="127.1.1.1")
                for i in range(FAILURES)
            ),
            Step("{net}.99", Token("unknown"), BANNED, peer="127.1.1.1"),
            Step("{net}.99", Token("unknown"), BAD_TOKEN),
        ),
    ),
    Play(
        "B9 what a caller puts before the trusted proxy's word does not count",
        (
            *(
                Step(f"203.0.113.{i}, {{net}}.1", Token("unknown"), BAD_TOKEN)
                for i in range(FAILURES)
            ),
            Step("203.0.113.99, {net}.1", Token("unknown"), BANNED),
        ),
    ),
    Play(
        "B9 an IPv6 client is its /64",
        (
            *(
                Step(f"2001:db8:{{net6}}:5::{i:x}", Token("unknown"), BAD_TOKEN)
                for i in range(1, FAILURES + 1)
            ),
            Step("2001:db8:{net6}:5:ffff:0:1:2", Token("unknown"), BANNED),
            Step("2001:db8:{net6}:6::1", Token("unknown"), BAD_TOKEN),
        ),
    ),
    Play(
        "B9 an IPv4 address written as IPv6 is the same client",
        (
            guesses("::ffff:{net}.1", FAILURES, Token("unknown")),
            Step("{net}.1", Token("unknown"), BANNED),
        ),
    ),
    *spellings("case", "{ACCOUNT}"),
    *spellings("dots", "{account}.", ".{account}", "{dotted}"),
    *spellings("wide letters", "{wide}"),
    Play(
        "B9 NFC and NFD are one account",
        (
            *(
                guesses(f"{{net}}.{i}", 1, Password("x", "caf\u00e9 {account}"))
                for i in range(FAILURES)
            ),
            Step("{net}.99", Password("x", "cafe\u0301 {account}"), BANNED),
        ),
    ),
    Play(
        "B9 an account that does not exist is banned as one that does",
        (
            *(
                guesses(f"{{net}}.{i}", 1, Password("x", "ghost-{account}"))
                for i in range(FAILURES)
            ),
            Step("{net}.99", Password("x", "ghost-{account}"), BANNED),
        ),
    ),
)
