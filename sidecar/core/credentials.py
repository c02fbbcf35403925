"""Credentials: what a request carries, in whichever form, and how it is taken out of the query.

The readings, where more than one would be possible:

- A token is readable when it is 16 to 8192 visible ASCII characters; what it is, is told by its
  shape later (``tokens.classify``).
- Query pairs are split at ``&`` alone. Names are percent-decoded and compared as they are, case
  included: ``%61ccess_token`` is one, ``ACCESS_TOKEN``, ``access_token[]`` and ``;access_token``
  are not. Values are percent-decoded; ``+`` is a plus sign.
- The same token twice is one credential, in the first of bearer, header and query.
- Two different credentials, or a readable one beside an unreadable one, are ambiguous
  (RFC 6750 section 3.1). So are ``Authorization`` lines that differ in any byte.
- An empty slot counts only where nothing else is there, and then as malformed.
- All slots count, whether or not the route accepts their form (``accept`` judges that).
- HTTP Basic is an account and a password, also when either looks like a token.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from sidecar.core.headers import Scan
from sidecar.core.model import Credential, Denial, Form, PasswordCredential, TokenCredential
from sidecar.core.tokens import MAX_JWT_CHARS, MIN_OPAQUE_CHARS

MALFORMED: Final = Denial("malformed_credentials", "The credential can't be read.")
EMPTY: Final = Denial("malformed_credentials", "The credential is empty.")
AMBIGUOUS: Final = Denial(
    "ambiguous_credentials", "The request carries more than one credential, and they differ."
)
MISSING: Final = Denial("missing_credentials", "The request carries no credential.")

_BEARER: Final = Form.BEARER  # a name of the module: looking an enumeration up costs 0.1 µs
_MAX_BASIC_BYTES: Final = 4096
_MAX_ENCODED_CHARS: Final = 3 * MAX_JWT_CHARS

_VISIBLE: Final = rb"[\x21-\x7e]{%d,%d}" % (MIN_OPAQUE_CHARS, MAX_JWT_CHARS)
_parse_bearer: Final = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +(" + _VISIBLE + rb") *").fullmatch
_parse_basic: Final = re.compile(rb"[Bb][Aa][Ss][Ii][Cc] +([A-Za-z0-9+/]+={0,2}) *").fullmatch
_is_scheme_alone: Final = re.compile(rb"(?: *(?:bearer|basic))? *", re.IGNORECASE).fullmatch
_is_token: Final = re.compile(_VISIBLE).fullmatch
_has_control: Final = re.compile(r"[\x00-\x1f\x7f]").search


class Extracted(NamedTuple):
    """What was found, and what is left of the query."""

    credential: Credential | Denial | None
    """The one credential; why there is none to be had; or ``None``: the request carries none."""
    query: str | None
    """Byte for byte what remains. The same object if nothing was taken out, so ``""`` stands for a
    bare ``?`` as sent; ``None`` when there was no query or nothing remains: then send no ``?``."""


class CredentialRules:
    """Where tokens are looked for besides ``Authorization``; built once.

    ``headers`` are header names (case does not matter), ``query`` parameter names (it does).
    """

    __slots__ = ("_has_any", "_is_name", "_names", "headers")

    def __init__(self, headers: tuple[str, ...], query: tuple[str, ...]) -> None:
        self.headers: Final = headers
        self._names: Final = frozenset(query)
        names = "|".join(_spellings(name) for name in query) or "(?!)"
        self._is_name = re.compile(names).fullmatch
        self._has_any = re.compile(rf"(?:^|&)(?:{names})(?![^=&])").search

    def extract(self, scan: Scan, query: str | None) -> Extracted:
        """Find the credential in all its forms, and take it out of ``query`` (as sent)."""
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

    def strip_query(self, query: str) -> str | None:
        """Return the query without credentials: the same object if there are none, else the rest.

        ``None`` when nothing remains.
        """
        return self._split(query)[0] if self._has_any(query) else query

    def _split(self, query: str) -> tuple[str | None, list[str]]:
        """Return what remains, and the credentials' values as sent."""
        kept, values = [], []
        for pair in query.split("&"):
            name, _, value = pair.partition("=")
            if name in self._names or ("%" in name and self._is_name(name)):
                values.append(value)
            else:
                kept.append(pair)
        return "&".join(kept) or None, values


def _spellings(name: str) -> str:
    """Return a regular expression of all ways to percent-encode a parameter's name.

    Matching beats decoding: a query of thousands of encoded names costs its sender as much.
    """
    return "".join(
        f"(?:{re.escape(chr(byte))}|(?i:%{byte:02x}))" if byte < 0x80 else f"(?i:%{byte:02x})"
        for byte in name.encode()
    )


def accept(credential: Credential | Denial | None, forms: frozenset[Form]) -> Credential | Denial:
    """Judge what was extracted by the forms that a route accepts.

    Nothing, or a form that the route does not accept, is ``missing_credentials``.
    """
    if credential is None:
        return MISSING
    if isinstance(credential, Denial):
        return credential
    form = credential.form if isinstance(credential, TokenCredential) else Form.BASIC
    if form in forms:
        return credential
    accepted = ", ".join(sorted(forms)) or "none"
    return Denial(
        "missing_credentials",
        f"A credential in the form {form} is not accepted here; accepted: {accepted}.",
    )


def _weigh(scan: Scan, query_values: list[str]) -> Credential | Denial | None:
    """Make one credential of all that was found, or say why that can't be."""
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
    """Return what makes two credentials the same: a token's secret, whatever slot it came in."""
    return credential.secret if isinstance(credential, TokenCredential) else credential


def read_authorization(value: bytes) -> Credential | Denial:
    """Read one value of ``Authorization``: a bearer token (RFC 6750 section 2.1) or Basic."""
    if bearer := _parse_bearer(value):
        return TokenCredential(_BEARER, bearer[1].decode("ascii"))
    if len(value) <= _MAX_BASIC_BYTES and (basic := _parse_basic(value)):
        return _read_basic(basic[1])
    return EMPTY if _is_scheme_alone(value) else MALFORMED


def is_bearer(stem: bytes) -> bool:
    """Tell whether ``Authorization`` that begins so and goes on visibly holds a bearer token."""
    return stem.lower() == b"bearer "


def read_bearer(secret: bytes) -> Credential | Denial:
    """Read a bearer token that stands alone: at least 16 visible ASCII characters."""
    if len(secret) > MAX_JWT_CHARS:
        return MALFORMED
    return TokenCredential(_BEARER, secret.decode("ascii"))


def _read_basic(encoded: bytes) -> PasswordCredential | Denial:
    """Read account and password as RFC 7617 has it, in UTF-8; the password may hold colons."""
    try:
        text = binascii.a2b_base64(encoded, strict_mode=True).decode()
    except ValueError:
        return MALFORMED
    account, colon, password = text.partition(":")
    if not account or not colon or _has_control(text):
        return MALFORMED
    return PasswordCredential(account, password)


def read_token(value: bytes, form: Form) -> TokenCredential | Denial:
    """Read a token from any other slot than ``Authorization``."""
    if not value:
        return EMPTY
    if not _is_token(value):
        return MALFORMED
    return TokenCredential(form, value.decode("ascii"))
