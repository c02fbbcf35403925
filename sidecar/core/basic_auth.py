"""What the form *basic* holds: an account and a password, or a token where a client has no other
place for one.

The form has two spellings: ``Authorization: Basic`` with the base64 of ``account:password``
(RFC 7617), and a pair of header fields, one for each. Both are read alike:

- If the user name or the password is empty, the other one is a token, provided that it has at least
  the length of one.
- If both are there, and the password is one of our own access tokens with a right checksum or a JWT
  with a header, it is a token, and the user name must prove to be its account's
  (``auth.authenticator``). No password is mistaken for one: chance makes a right checksum once in
  56 billion, and a JWT's header is JSON.
- Everything else is an account and a password. A password may contain colons, an account may not.

Clumsy encodings of a good credential are accepted: base64 without padding or in the URL alphabet,
and Latin-1 instead of UTF-8, unless the bytes are UTF-8.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

from sidecar.core.model import Credential, Denial, Form, PasswordCredential, TokenCredential
from sidecar.core.tokens import MAX_JWT_CHARS, MIN_OPAQUE_CHARS, Shape, classify

# `credential_faults.spell_out` says in which place, and what is wrong there.
MALFORMED: Final = Denial("malformed_credentials", "The credential can't be read.")

MAX_PAIR_BYTES: Final = 3072
"""Of account, colon and password together."""
MAX_BASIC_BYTES: Final = 22_528
"""Of a whole value of ``Authorization``: room for the longest JWT in base64, with an account."""

WHITE_SPACE: Final = " \t\r\n\v\f"

_BASIC: Final = Form.BASIC  # a module constant, as an enumeration look-up costs 0.1 µs
_FROM_URL_ALPHABET: Final = bytes.maketrans(b"-_", b"+/")
_is_token: Final = re.compile(rf"[\x21-\x7e]{{{MIN_OPAQUE_CHARS},{MAX_JWT_CHARS}}}").fullmatch
_has_control: Final = re.compile(r"[\x00-\x1f\x7f]").search
# A byte order mark, quotes around all of it, or a variable that was not expanded as the account:
# no account has such a name, so this is a slip and no guess.
_is_misquoted: Final = re.compile(
    r"(?:\ufeff|\xff\xfe|\xfe\xff|\xef\xbb\xbf).*|([\"']).*\1"
    r"|(?:\$\{[^:]*\}|\{\{[^:]*\}\}|<[^:]*>|\$\w+|%\w+%):.*",
    re.DOTALL,
).fullmatch


def read_basic(encoded: bytes, token_prefix: str | None) -> Credential | Denial:
    """Read what follows the scheme in ``Authorization: Basic``.

    ``token_prefix`` is that of our access tokens; ``None``: no token is looked for.
    """
    raw = decode_base64(encoded)
    if raw is None:
        return MALFORMED
    account, colon, password = raw.partition(b":")
    return read_pair(account, password, token_prefix) if colon else MALFORMED


def read_pair(account: bytes, password: bytes, token_prefix: str | None) -> Credential | Denial:
    """Read a user name and a password; see ``read_basic``."""
    user, secret = _decode(account, password)
    if token_prefix is not None:
        token = _find_token(user.strip(WHITE_SPACE), secret.strip(WHITE_SPACE), token_prefix)
        if token is not None:
            return token
    if not user or _has_control(user) or _has_control(secret):
        return MALFORMED
    if len(account) + len(password) >= MAX_PAIR_BYTES or _is_misquoted(f"{user}:{secret}"):
        return MALFORMED
    return PasswordCredential(user, secret)


def decode_base64(encoded: bytes) -> bytes | None:
    """Decode base64 in either alphabet, padded rightly or not at all; ``None`` for all else."""
    standard = encoded.translate(_FROM_URL_ALPHABET)
    if not standard.endswith(b"="):
        standard += b"=" * (-len(standard) % 4)
    try:
        return binascii.a2b_base64(standard, strict_mode=True)
    except ValueError:
        return None


def _decode(account: bytes, password: bytes) -> tuple[str, str]:
    """Decode both as UTF-8, or both as Latin-1."""
    try:
        return account.decode(), password.decode()
    except UnicodeDecodeError:
        return account.decode("latin-1"), password.decode("latin-1")


def _find_token(user: str, secret: str, prefix: str) -> TokenCredential | None:
    """Return the token in a user name and a password, if there is one."""
    if not secret:
        return TokenCredential(_BASIC, user) if _is_token(user) else None
    if not user:
        return TokenCredential(_BASIC, secret) if _is_token(secret) else None
    shape = classify(secret, prefix)
    if shape is Shape.ACCESS or (shape is Shape.JWT and has_jwt_header(secret.encode())):
        return TokenCredential(_BASIC, secret, user)
    return None


def has_jwt_header(value: bytes) -> bool:
    """Tell whether the first of several parts is the header of a JWT, or of an encrypted one."""
    first, dot, _ = value.partition(b".")
    if not dot or not first.startswith(b"e"):
        return False
    try:
        header = binascii.a2b_base64(first.translate(_FROM_URL_ALPHABET) + b"==")
    except ValueError:
        return False
    return b'"alg"' in header
