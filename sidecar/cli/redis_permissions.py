"""Which commands Redis denies its user, of those that the sidecar needs.

A user with the least rights may not ask (``ACL DRYRUN``), so each command is tried, on one key that
lasts some seconds, and so that it changes nothing: Redis checks permissions before arguments.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

Command = tuple[str | int, ...]
AskAll = Callable[[Sequence[Command]], Awaitable[Sequence[Any]]]
"""Sends commands, in any order; returns the replies, with redis-py's exceptions among them."""

_PROBE_SECONDS: Final = 10

# With the rule of the ACL that allows each. `KEY` is a text: what wants a hash or a sorted set
# refuses it, even if the permission is there.
_TRIES: Final[tuple[tuple[str, Command], ...]] = (
    ("get", ("GET", "KEY")),
    ("mget", ("MGET", "KEY")),
    ("set", ("SET", "KEY", "1", "EX", _PROBE_SECONDS)),
    ("pttl", ("PTTL", "KEY")),
    ("pexpire", ("PEXPIRE", "KEY", "soon")),
    ("scan", ("SCAN", "0", "MATCH", "KEY", "COUNT", 1)),
    ("eval", ("EVAL", "return 0", 1, "KEY")),
    ("incrby", ("INCRBY", "KEY", "one")),
    ("hget", ("HGET", "KEY", "field")),
    ("hset", ("HSET", "KEY", "field", "value", "odd")),
    ("hdel", ("HDEL", "KEY", "field")),
    ("hlen", ("HLEN", "KEY")),
    ("hscan", ("HSCAN", "KEY", "0")),
    ("hmget", ("HMGET", "KEY", "field")),
    ("zadd", ("ZADD", "KEY", "much", "member")),
    ("zrem", ("ZREM", "KEY", "member")),
    ("zremrangebyscore", ("ZREMRANGEBYSCORE", "KEY", "low", "high")),
    ("zremrangebyrank", ("ZREMRANGEBYRANK", "KEY", "low", "high")),
    ("zrevrangebyscore", ("ZREVRANGEBYSCORE", "KEY", "high", "low")),
    ("del", ("DEL", "KEY")),
)
_CLUSTER_TRIES: Final[tuple[tuple[str, Command], ...]] = (
    ("asking", ("ASKING",)),
    ("cluster|info", ("CLUSTER", "INFO")),
    ("cluster|slots", ("CLUSTER", "SLOTS")),
)
NEEDED: Final = tuple(rule for rule, _ in _TRIES)
NEEDED_IN_CLUSTER: Final = tuple(rule for rule, _ in _CLUSTER_TRIES)

ANY_KEY: Final = "the keys"
"""Stands for every key that begins with the prefix."""


async def denied(ask_all: AskAll, prefix: str, *, is_cluster: bool = False) -> tuple[str, ...]:
    """Return the rules that the user lacks, in the order of the documentation, or ``ANY_KEY``."""
    from redis.exceptions import NoPermissionError

    key = f"{prefix}probe:permissions"
    tries = _TRIES + (_CLUSTER_TRIES if is_cluster else ())
    replies = await ask_all(
        [tuple(key if word == "KEY" else word for word in words) for _, words in tries]
    )
    found = [
        ANY_KEY if "to access" in str(reply) else rule
        for (rule, _), reply in zip(tries, replies, strict=True)
        if isinstance(reply, NoPermissionError)
    ]
    return tuple(dict.fromkeys(found))
