"""Faults: what went wrong, whose fault it is, and whether to try again.

A *denial* ("no") is a value, ``sidecar.core.model.Denial``. What stands here is "I don't know" and
"it does not work": the gateway turns each into one answer, by ``code``
(``sidecar.proxy.answers``).
"""

from __future__ import annotations

from typing import ClassVar


class Fault(Exception):
    """The base of all faults that end in an answer to a caller.

    ``code`` names the answer. The message is for the log and for admins; it never holds a secret.
    """

    code: ClassVar[str]
    source: ClassVar[str]
    """Whose fault: ``store``, ``upstream`` or ``sidecar``."""


class StoreUnavailable(Fault):
    """Redis did not answer in time, or answered that it can't: 503, never 401."""

    code = "store_unavailable"
    source = "store"


class Overloaded(Fault):
    """A bounded queue (hashing pool, upstream connections) is full: 503 with ``Retry-After``."""

    code = "overloaded"
    source = "sidecar"


class UpstreamFault(Fault):
    """The base of what goes wrong with the service behind."""

    source = "upstream"


class UpstreamUnreachable(UpstreamFault):
    """No connection could be made, or the kept one had gone and trying again is not safe: 502."""

    code = "upstream_unreachable"


class UpstreamBroken(UpstreamFault):
    """The upstream's answer is not HTTP/1.1 as RFC 9112 has it, or ended early: 502."""

    code = "upstream_broken"


class UpstreamTimeout(UpstreamFault):
    """The upstream took longer than ``connect_timeout`` or ``response_timeout``: 504."""

    code = "upstream_timeout"


class UsageError(Exception):
    """An admin asked for what can't be done; the message says what to do instead (status 2)."""


class ConfigurationError(UsageError):
    """The configuration file has problems: one line each, ``file:line:column: text``."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class NameTaken(Exception):
    """The account already has a live token of this name."""
