"""Extracts the credential of a request, in any form, and removes it from the query.

Where the specifications leave room, these rules apply:

- A token is readable if it is 16 to 16384 visible ASCII characters; its shape says later what kind
  of token it is (``tokens.classify``). White space around it counts for nothing.
- ``Authorization`` holds a token after one of the configured schemes, in any case and with any
  spaces or tabs in between, or with no scheme at all if ``""`` is among them.
- Query pairs are split at ``&`` alone. Names are percent-decoded and compared case-sensitively:
  ``%61ccess_token`` matches; ``ACCESS_TOKEN``, ``access_token[]`` and ``;access_token`` do not.
  Values are percent-decoded; ``+`` is a plus sign.
- A pair of user name and password is a credential if the field of the password is there. What the
  pair and HTTP Basic hold, ``core.basic_auth`` decides.
- The same token twice is one credential, in the first of the forms bearer, header, query and basic.
- Two different credentials, or a readable one beside an unreadable one, are ambiguous
  (RFC 6750 section 3.1). So are ``Authorization`` lines that differ in any byte, and fields of the
  pair that do.
- An empty slot counts only if there is no other credential, and is malformed then.
- All slots count, whether or not the route accepts their form (``accept`` decides that).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple
from urllib.parse import unquote, unquote_to_bytes

from sidecar.core.basic_auth import MALFORMED as MALFORMED
from sidecar.core.basic_auth import MAX_BASIC_BYTES, WHITE_SPACE, read_basic, read_pair
from sidecar.core.headers import PasswordFields, Scan
from sidecar.core.model import Credential, Denial, Form, TokenCredential
from sidecar.core.tokens import MAX_JWT_CHARS, MIN_OPAQUE_CHARS

EMPTY: Final = Denial("malformed_credentials", "The credential is empty.")
AMBIGUOUS: Final = Denial(
    "ambiguous_credentials", "The request carries more than one credential, and they differ."
)

_BEARER: Final = Form.BEARER  # module constants, as an enumeration look-up costs 0.1 µs
_BASIC: Final = Form.BASIC
_MAX_ENCODED_CHARS: Final = 3 * MAX_JWT_CHARS
_WHITE_SPACE: Final = WHITE_SPACE.encode()

_VISIBLE: Final = rb"[\x21-\x7e]{%d,%d}" % (MIN_OPAQUE_CHARS, MAX_JWT_CHARS)
_parse_basic: Final = re.compile(
    rb"[ \t]*[Bb][Aa][Ss][Ii][Cc][ \t]+([A-Za-z0-9+/_-]+={0,2})[ \t]*"
).fullmatch
_is_token: Final = re.compile(_VISIBLE).fullmatch


class Extracted(NamedTuple):
    """The credential that was found, and the rest of the query."""

    credential: Credential | Denial | None
    """The one credential; a denial if it can't be used; ``None`` if the request carries none."""
    query: str | None
    """The rest, byte for byte. The same object if nothing was removed, so ``""`` is a bare ``?`` as
    sent. ``None`` if there was no query or nothing is left: then send no ``?``."""


class CredentialRules:
    """Where credentials are looked for; built once.

    ``headers`` are header names (case-insensitive), ``query`` are parameter names (case-sensitive),
    ``schemes`` are those of ``Authorization`` that precede a token (case-insensitive; empty: none
    need precede it), and ``pair`` are the fields of user name and password, if they are read.
    ``token_prefix`` is that of our own access tokens; without it, HTTP Basic is an account and a
    password, even if either looks like a token.
    """

    __slots__ = (
        "_has_any",
        "_is_name",
        "_is_scheme_alone",
        "_names",
        "_parse_token",
        "_token_prefix",
        "_token_schemes",
        "headers",
        "pair",
        "query",
        "scheme",
        "takes_bare_tokens",
    )

    def __init__(
        self,
        headers: tuple[str, ...],
        query: tuple[str, ...],
        schemes: tuple[str, ...] = ("Bearer",),
        pair: PasswordFields | None = None,
        token_prefix: str | None = None,
    ) -> None:
        self.headers: Final = headers
        self.query: Final = query
        self.pair: Final = pair
        self.takes_bare_tokens: Final = "" in schemes
        named = [scheme for scheme in schemes if scheme]
        self._token_schemes: Final = frozenset(scheme.lower().encode() for scheme in named)
        first = named[0] if named else "Bearer"
        self.scheme: Final = "Bearer" if b"bearer" in self._token_schemes else first
        """The scheme that callers are told to use for a token."""
        self._token_prefix: Final = token_prefix
        self._parse_token = re.compile(_authorization_with_token(named, "" in schemes)).fullmatch
        self._is_scheme_alone = re.compile(
            rb"[ \t]*(?:%b)?[ \t]*" % _one_of(["Basic", *named])
        ).fullmatch
        self._names: Final = frozenset(query)
        names = "|".join(_spellings(name) for name in query) or "(?!)"
        self._is_name = re.compile(names).fullmatch
        self._has_any = re.compile(rf"(?:^|&)(?:{names})(?![^=&])").search

    def extract(self, scan: Scan, query: str | None) -> Extracted:
        """Find the credential in any form, and remove it from ``query`` (as sent)."""
        values: list[str] = []
        if query and self._has_any(query):
            query, values = self._split(query)
        if not values and not scan.credentials and not scan.passwords:
            lines = scan.authorization
            if not lines:
                return Extracted(None, query)
            if len(lines) == 1:
                return Extracted(self.read_authorization(lines[0]), query)
        return Extracted(self._weigh(scan, values), query)

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

    def precedes_token(self, stem: bytes) -> bool:
        """Tell whether what precedes a word in ``Authorization`` makes a token of that word."""
        scheme = stem.strip(b" \t").lower()
        return scheme in self._token_schemes if scheme else self.takes_bare_tokens

    def read_authorization(self, value: bytes) -> Credential | Denial:
        """Read one value of ``Authorization``: a token (RFC 6750 section 2.1) or Basic."""
        if self._is_scheme_alone(value):
            return EMPTY
        token = self._parse_token(value)
        if token is not None:
            return TokenCredential(_BEARER, token[1].decode("ascii"))
        basic = _parse_basic(value) if len(value) <= MAX_BASIC_BYTES else None
        return MALFORMED if basic is None else read_basic(basic[1], self._token_prefix)

    def read_pair(self, account: bytes, password: bytes) -> Credential | Denial:
        """Read the values of the two fields of user name and password."""
        if not account and not password:
            return EMPTY
        return read_pair(account, password, self._token_prefix)

    def _weigh(self, scan: Scan, query_values: list[str]) -> Credential | Denial | None:
        """Reduce all that was found to one credential, or say why that is impossible."""
        if len(set(scan.authorization)) > 1 or len(set(scan.passwords)) > 1:
            return AMBIGUOUS
        if scan.passwords and len(set(scan.user_names)) > 1:
            return AMBIGUOUS
        found = [*self._read_all(scan, query_values)]
        if len(found) == 1:
            return found[0]
        filled = [credential for credential in found if credential is not EMPTY]
        if not filled:
            return EMPTY if found else None
        if len({_essence(credential) for credential in filled}) > 1:
            return AMBIGUOUS
        return _merge(filled)

    def _read_all(self, scan: Scan, query_values: list[str]) -> Iterator[Credential | Denial]:
        for line in scan.authorization[:1]:
            yield self.read_authorization(line)
        for value in scan.credentials:
            yield read_token(value, Form.HEADER)
        for text in query_values:
            is_bounded = len(text) <= _MAX_ENCODED_CHARS
            yield read_token(unquote_to_bytes(text), Form.QUERY) if is_bounded else MALFORMED
        for password in scan.passwords[:1]:
            if scan.user_names:
                yield self.read_pair(scan.user_names[0], password)
            else:
                yield MALFORMED if password else EMPTY

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


def _one_of(schemes: list[str]) -> bytes:
    """Return a regular expression that matches each of these schemes in any case, or nothing."""
    names = b"|".join(re.escape(scheme.encode()) for scheme in schemes)
    return rb"(?i:%b)" % names if names else rb"(?!)"


def _authorization_with_token(schemes: list[str], may_be_bare: bool) -> bytes:
    """Return a regular expression for ``Authorization`` with a token, its first group."""
    before = rb"(?:%b[ \t]+)%b" % (_one_of(schemes), b"?" if may_be_bare else b"")
    return rb"[ \t]*%b(%b)[ \t]*" % (before, _VISIBLE)


def _spellings(name: str) -> str:
    """Return a regular expression that matches every percent-encoding of a parameter's name.

    Matching is cheaper than decoding thousands of encoded names in a hostile query.
    """
    return "".join(
        f"(?:{re.escape(chr(byte))}|(?i:%{byte:02x}))" if byte < 0x80 else f"(?i:%{byte:02x})"
        for byte in name.encode()
    )


def _essence(credential: Credential | Denial) -> object:
    """Return what makes two credentials equal: for a token, its secret alone, in any slot."""
    return credential.secret if isinstance(credential, TokenCredential) else credential


def _merge(found: list[Credential | Denial]) -> Credential | Denial:
    """Return the one credential that all of these are, with the user name that came with it."""
    named = {one.account for one in found if isinstance(one, TokenCredential) and one.account}
    first = found[0]
    if not isinstance(first, TokenCredential):
        return first
    if len(named) > 1:
        return AMBIGUOUS
    forms = [one.form for one in found if isinstance(one, TokenCredential)]
    form = next((form for form in forms if form is not _BASIC), _BASIC)
    return TokenCredential(form, first.secret, "".join(named))


def read_bearer(secret: bytes) -> Credential | Denial:
    """Read a token without its scheme; it is at least 16 visible ASCII characters."""
    if len(secret) > MAX_JWT_CHARS:
        return MALFORMED
    return TokenCredential(_BEARER, secret.decode("ascii"))


def read_token(value: bytes, form: Form) -> TokenCredential | Denial:
    """Read a token from any other slot than ``Authorization``."""
    if not _is_token(value):
        value = value.strip(_WHITE_SPACE)
        if not value:
            return EMPTY
        if not _is_token(value):
            return MALFORMED
    return TokenCredential(form, value.decode("ascii"))
