"""Exceptions: faults that callers see as an answer, and errors that admins see.

A *denial* ("no") is a value, ``sidecar.core.model.Denial``. A *fault* means "I don't know" or "it
does not work"; its ``code`` selects the one answer to it (``sidecar.core.problems``).
"""

from __future__ import annotations

from typing import ClassVar


class Fault(Exception):
    """The base of all faults that are answered to a caller.

    ``code`` names the answer. The message is for logs and admins, and never holds a secret.
    """

    code: ClassVar[str]
    source: ClassVar[str]
    """Who caused it: ``store``, ``issuer``, ``upstream`` or ``sidecar``."""


class StoreUnavailable(Fault):
    """Redis did not answer in time, or refused: 503, never 401."""

    code = "store_unavailable"
    source = "store"


class Overloaded(Fault):
    """A bounded queue (hashing pool, upstream connections) is full: 503 with ``Retry-After``."""

    code = "overloaded"
    source = "sidecar"


class UpstreamFault(Fault):
    """The base of faults of the service behind the proxy."""

    source = "upstream"


class UpstreamUnreachable(UpstreamFault):
    """No connection could be opened, or an idle one had closed and a retry is not safe: 502."""

    code = "upstream_unreachable"


class UpstreamBroken(UpstreamFault):
    """The upstream's response is not valid HTTP/1.1 (RFC 9112), or ended early: 502."""

    code = "upstream_broken"


class UpstreamTimeout(UpstreamFault):
    """The upstream took longer than ``connect_timeout`` or ``response_timeout``: 504."""

    code = "upstream_timeout"


class UsageError(Exception):
    """An admin's request can't be carried out; the message says what to do (exit status 2)."""


class ConfigurationError(UsageError):
    """The configuration file has problems: one line each, ``file:line:column: text``."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class NameTaken(Exception):
    """The account already has a live token of this name."""

    code: ClassVar[str] = "name_taken"
