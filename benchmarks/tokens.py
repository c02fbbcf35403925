"""The tokens of the benchmark: made like real ones, and written to Redis in bulk.

The sidecar finds records under its own keys, indexed by account just as ``sidecar token create``
does it. The other peers find the bare name of the account under ``bench:`` and the base64 of the
same SHA-256.
"""

from __future__ import annotations

import base64
import hashlib
import io
import marshal
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.processes import BenchError
from benchmarks.redis_server import Command
from sidecar.core.model import TokenKind, TokenRecord
from sidecar.core.tokens import digest, generate, new_id
from sidecar.store import record
from sidecar.store.index import reservation

PREFIX = "sct_"
KEY_PREFIX = "sidecar:"
LIFETIME_SECONDS = 30 * 86400


@dataclass(frozen=True, slots=True)
class Holder:
    """The calling account, with its password and a token; ``repr`` shows neither."""

    account: str = "bench"
    password: str = field(default_factory=lambda: os.urandom(12).hex(), repr=False)
    token: str = field(default_factory=lambda: generate(PREFIX, os.urandom), repr=False)

    @property
    def bearer(self) -> str:
        """The header line that carries the token."""
        return f"Authorization: Bearer {self.token}"

    @property
    def basic(self) -> str:
        """The header line that carries the account's name and password (RFC 7617)."""
        pair = base64.b64encode(f"{self.account}:{self.password}".encode()).decode()
        return f"Authorization: Basic {pair}"


def mint(count: int) -> list[str]:
    """Generate tokens that are in no store."""
    return [generate(PREFIX, os.urandom) for _ in range(count)]


def spoil(token: str) -> str:
    """Return the token with another last character, which makes its checksum wrong."""
    return token[:-1] + ("0" if token[-1] != "0" else "1")


def save(tokens: Iterable[str], path: Path) -> Path:
    """Write tokens to a file, one per line, for the load to send in turn."""
    path.write_text("".join(f"{token}\n" for token in tokens))
    return path


def peers_commands(tokens: Iterable[str], account: str) -> Iterator[Command]:
    """Return the commands after which every peer finds the account of these tokens."""
    for token in tokens:
        key = base64.b64encode(hashlib.sha256(token.encode()).digest())
        yield (b"SET", b"bench:" + key, account.encode(), b"EX", b"%d" % LIFETIME_SECONDS)


def sidecar_key(token: str) -> bytes:
    """Return the key of a token's record."""
    return record_key(digest(token))


def record_key(token_digest: str) -> bytes:
    """Return the key of the record of a token with this digest."""
    return f"{KEY_PREFIX}token:{token_digest}".encode()


def sidecar_commands(
    tokens: Iterable[str], account: str, *, lifetime_seconds: float = LIFETIME_SECONDS
) -> Iterator[Command]:
    """Return the commands after which the sidecar knows these tokens and lists them by account.

    They write what ``sidecar.store.redis`` writes, but skip its checks before and after, which
    would take minutes for a million tokens. A test keeps the two in step.
    """
    now = time.time()
    index = f"{KEY_PREFIX}account:{account}".encode()
    for token in tokens:
        known = _record(token, account, now, lifetime_seconds)
        yield tuple(map(_as_bytes, reservation(index, known, now)))
        lifetime_ms = b"%d" % (lifetime_seconds * 1000)
        yield (b"SET", sidecar_key(token), record.encode(known), b"PX", lifetime_ms)


def commands_of(
    root: Path, tokens: Iterable[str], account: str, *, lifetime_seconds: float
) -> Iterator[Command]:
    """Return ``sidecar_commands`` as the code at ``root`` has them: a record's format may differ.

    Raises ``BenchError`` if that code has no such benchmark.
    """
    script = _SCRIPT.format(account=account, lifetime_seconds=lifetime_seconds)
    asked = subprocess.run(
        [sys.executable, "-P", "-c", script],
        env={**os.environ, "PYTHONPATH": str(root)},
        input="\n".join(tokens).encode(),
        stdout=subprocess.PIPE,
        check=False,
    )
    if asked.returncode:
        raise BenchError(f"{root} does not write the records of tokens (status {asked.returncode})")
    answer = io.BytesIO(asked.stdout)
    while answer.tell() < len(asked.stdout):
        yield marshal.load(answer)


_SCRIPT: Final = """
import marshal, sys
from benchmarks.tokens import sidecar_commands
tokens = sys.stdin.read().split()
for command in sidecar_commands(tokens, {account!r}, lifetime_seconds={lifetime_seconds!r}):
    marshal.dump(tuple(command), sys.stdout.buffer)
"""


def _as_bytes(part: str | bytes | int) -> bytes:
    return part if isinstance(part, bytes) else str(part).encode()


def _record(token: str, account: str, now: float, lifetime_seconds: float) -> TokenRecord:
    token_id = new_id(os.urandom)
    return TokenRecord(
        id=token_id,
        account=account,
        name=f"bench {token_id}",
        kind=TokenKind.ACCESS,
        digest=digest(token),
        created_at=float(int(now)),
        expires_at=_end(now, lifetime_seconds),
    )


def _end(now: float, lifetime_seconds: float) -> float:
    """Return when a token expires: after whole days from a whole second, like a real token, or
    after exactly the given time if that is shorter."""
    is_real = lifetime_seconds % 86400 == 0
    return int(now) + lifetime_seconds if is_real else round(now + lifetime_seconds, 3)
