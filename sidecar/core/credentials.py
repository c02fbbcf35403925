"""Extracts the credential of a request, in any form, and removes it from the query.

Where the specifications leave room, these rules apply:

- A token is readable if it is 16 to 16384 visible ASCII characters; its shape says later what kind
  of token it is (``tokens.classify``).
- Query pairs are split at ``&`` alone. Names are percent-decoded and compared case-sensitively:
  ``%61ccess_token`` matches; ``ACCESS_TOKEN``, ``access_token[]`` and ``;access_token`` do not.
  Values are percent-decoded; ``+`` is a plus sign.
- The same token twice is one credential, in the first of the forms bearer, header and query.
- Two different credentials, or a readable one beside an unreadable one, are ambiguous
  (RFC 6750 section 3.1). So are ``Authorization`` lines that differ in any byte.
- An empty slot counts only if there is no other credential, and is malformed then.
- All slots count, whether or not the route accepts their form (``accept`` decides that).
- HTTP Basic is an account and a password, even if either looks like a token.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from typing import Final, NamedTuple
from urllib.parse import unquote, unquote_to_bytes

from sidecar.core.headers import Scan
from sidecar.core.model import Credential, Denial, Form, PasswordCredential, TokenCredential
from sidecar.core.tokens import MAX_JWT_CHARS, MIN_OPAQUE_CHARS

# `credential_faults.spell_out` says in which place, and what is wrong there.
MALFORMED: Final = Denial("malformed_credentials", "The credential can't be read.")
EMPTY: Final = Denial("malformed_credentials", "The credential is empty.")
AMBIGUOUS: Final = Denial(
    "ambiguous_credentials", "The request carries more than one credential, and they differ."
)

_BEARER: Final = Form.BEARER  # a module constant, as an enumeration look-up costs 0.1 µs
MAX_BASIC_BYTES: Final = 4096
_MAX_ENCODED_CHARS: Final = 3 * MAX_JWT_CHARS

_VISIBLE: Final = rb"[\x21-\x7e]{%d,%d}" % (MIN_OPAQUE_CHARS, MAX_JWT_CHARS)
_parse_bearer: Final = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +(" + _VISIBLE + rb") *").fullmatch
_parse_basic: Final = re.compile(rb"[Bb][Aa][Ss][Ii][Cc] +([A-Za-z0-9+/]+={0,2}) *").fullmatch
_is_scheme_alone: Final = re.compile(rb"(?: *(?:bearer|basic))? *", re.IGNORECASE).fullmatch
_is_token: Final = re.compile(_VISIBLE).fullmatch
_has_control: Final = re.compile(r"[\x00-\x1f\x7f]").search
# A byte order mark, quotes around all of it, or a variable that was not expanded as the account:
# no account has such a name, so this is a slip and no guess.
_is_misquoted: Final = re.compile(
    r"\ufeff.*|([\"']).*\1|(?:\$\{[^:]*\}|\{\{[^:]*\}\}|<[^:]*>|\$\w+|%\w+%):.*", re.DOTALL
).fullmatch


class Extracted(NamedTuple):
    """The credential that was found, and the rest of the query."""

    credential: Credential | Denial | None
    """The one credential; a denial if it can't be used; ``None`` if the request carries none."""
    query: str | None
    """The rest, byte for byte. The same object if nothing was removed, so ``""`` is a bare ``?`` as
    sent. ``None`` if there was no query or nothing is left: then send no ``?``."""


class CredentialRules:
    """Where tokens are looked for besides ``Authorization``; built once.

    ``headers`` are header names (case-insensitive), ``query`` are parameter names (case-sensitive).
    """

    __slots__ = ("_has_any", "_is_name", "_names", "headers", "query")

    def __init__(self, headers: tuple[str, ...], query: tuple[str, ...]) -> None:
        self.headers: Final = headers
        self.query: Final = query
        self._names: Final = frozenset(query)
        names = "|".join(_spellings(name) for name in query) or "(?!)"
        self._is_name = re.compile(names).fullmatch
        self._has_any = re.compile(rf"(?:^|&)(?:{names})(?![^=&])").search

    def extract(self, scan: Scan, query: str | None) -> Extracted:
        """Find the credential in any form, and remove it from ``query`` (as sent)."""
        values: list[str] = []
        if query and self._has_any(query):
            query, values = self._split(query)
        if not values and not scan.credentials:
            lines = scan.authorization
            if not lines:
                return Extracted(None, query)
            if len(lines) == 1:
                return Extracted(read_authorization(lines[0]), query)
        return Extracted(_weigh(scan, values), query)

    def are_in(self, query: str) -> bool:
        """Tell whether a query holds a credential."""
        return self._has_any(query) is not None

    def are_in_query_of(self, target: str) -> bool:
        """Tell whether the query of a request target holds a credential."""
        return "?" in target and self._has_any(target.partition("?")[2]) is not None

    def values_in(self, query: str) -> list[tuple[str, bytes]]:
        """Return the parameters of a query that hold credentials: name and value, both decoded."""
        return [
            (unquote(name), unquote_to_bytes(value))
            for name, _, value in (pair.partition("=") for pair in query.split("&"))
            if name in self._names or self._is_name(name)
        ]

    def _split(self, query: str) -> tuple[str | None, list[str]]:
        """Return the rest of the query, and the credentials' values as sent."""
        kept, values = [], []
        for pair in query.split("&"):
            name, _, value = pair.partition("=")
            if name in self._names or ("%" in name and self._is_name(name)):
                values.append(value)
            else:
                kept.append(pair)
        return "&".join(kept) or None, values


def _spellings(name: str) -> str:
    """Return a regular expression that matches every percent-encoding of a parameter's name.

    Matching is cheaper than decoding thousands of encoded names in a hostile query.
    """
    return "".join(
        f"(?:{re.escape(chr(byte))}|(?i:%{byte:02x}))" if byte < 0x80 else f"(?i:%{byte:02x})"
        for byte in name.encode()
    )


def _weigh(scan: Scan, query_values: list[str]) -> Credential | Denial | None:
    """Reduce all that was found to one credential, or say why that is impossible."""
    if len(set(scan.authorization)) > 1:
        return AMBIGUOUS
    found = [*_read_all(scan, query_values)]
    if len(found) == 1:
        return found[0]
    filled = [credential for credential in found if credential is not EMPTY]
    if not filled:
        return EMPTY if found else None
    if len({_essence(credential) for credential in filled}) > 1:
        return AMBIGUOUS
    return filled[0]


def _read_all(scan: Scan, query_values: list[str]) -> Iterator[Credential | Denial]:
    for line in scan.authorization[:1]:
        yield read_authorization(line)
    for value in scan.credentials:
        yield read_token(value, Form.HEADER)
    for text in query_values:
        is_bounded = len(text) <= _MAX_ENCODED_CHARS
        yield read_token(unquote_to_bytes(text), Form.QUERY) if is_bounded else MALFORMED


def _essence(credential: Credential | Denial) -> object:
    """Return what makes two credentials equal: for a token, its secret alone, in any slot."""
    return credential.secret if isinstance(credential, TokenCredential) else credential


def read_authorization(value: bytes) -> Credential | Denial:
    """Read one value of ``Authorization``: a bearer token (RFC 6750 section 2.1) or Basic."""
    if bearer := _parse_bearer(value):
        return TokenCredential(_BEARER, bearer[1].decode("ascii"))
    if len(value) <= MAX_BASIC_BYTES and (basic := _parse_basic(value)):
        return _read_basic(basic[1])
    return EMPTY if _is_scheme_alone(value) else MALFORMED


def is_bearer(stem: bytes) -> bool:
    """Tell whether ``Authorization`` holds a bearer token if visible characters follow ``stem``."""
    return stem.lower() == b"bearer "


def read_bearer(secret: bytes) -> Credential | Denial:
    """Read a bearer token without its scheme; it is at least 16 visible ASCII characters."""
    if len(secret) > MAX_JWT_CHARS:
        return MALFORMED
    return TokenCredential(_BEARER, secret.decode("ascii"))


def _read_basic(encoded: bytes) -> PasswordCredential | Denial:
    """Read account and password in UTF-8 (RFC 7617); the password may contain colons."""
    try:
        text = binascii.a2b_base64(encoded, strict_mode=True).decode()
    except ValueError:
        return MALFORMED
    account, colon, password = text.partition(":")
    if not account or not colon or _has_control(text) or _is_misquoted(text):
        return MALFORMED
    return PasswordCredential(account, password)


def read_token(value: bytes, form: Form) -> TokenCredential | Denial:
    """Read a token from any other slot than ``Authorization``."""
    if not value:
        return EMPTY
    if not _is_token(value):
        return MALFORMED
    return TokenCredential(form, value.decode("ascii"))
