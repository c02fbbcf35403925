"""Masks tokens in text that a caller chose, so that no log repeats them.

These are recognised by their form, even if percent-encoded several times:

- whatever begins with the prefix of the sidecar's access tokens, truncated tokens included;
- 64 letters, digits and ``_`` with a valid checksum: an access token with any prefix;
- JWTs, by the first characters of a JSON object in base64url.

An imported token can look like anything, so it is recognised only if the same request carries it as
its credential (``hide_credential``). Passwords are not masked in paths: a mask in place of an
ordinary word would reveal the password.
"""

from __future__ import annotations

import base64
import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from sidecar.core.model import Credential, Denial, Form, PasswordCredential, TokenCredential
from sidecar.core.tokens import TOKEN_CHARS, Shape, classify

MASKED: Final = "[masked]"

_BASIC: Final = Form.BASIC  # a module constant, as an enumeration look-up costs 0.1 µs
_MIN_SECRET_CHARS: Final = 8
_MIN_JWT_HEADER_CHARS: Final = 16
_TO_URL_ALPHABET: Final = str.maketrans("+/", "-_")
_MAX_ENCODINGS: Final = 4  # as many levels as a path may have (targets)
# An encoded character that a token can hold, or an encoded percent sign.
_may_encode_token: Final = re.compile(
    r"%(?:25|2[DdEe]|3[0-9Dd]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff])"
).search
_LONG_WORD: Final = re.compile(r"(?<![A-Za-z0-9_])[A-Za-z0-9_]{64,}")
_DOTTED: Final = re.compile(r"(?<![A-Za-z0-9_=.-])[A-Za-z0-9_=.-]{64,}")
# How a JSON object begins in base64url: {" or { followed by white space.
_find_jwt: Final = re.compile(r"e(?:y[AJ]|w[0ko])").search


def hide_tokens(text: str, prefix: str) -> str:
    """Return a path, or any other text without white space, with its tokens masked.

    ``prefix`` is the one of the sidecar's access tokens. Nearly always the text comes back
    unchanged after a few checks; otherwise the time is linear in its length. A segment with a
    percent-encoded token is returned decoded.
    """
    if "%" in text and _may_encode_token(text):
        return _hide_encoded(text, prefix)
    if len(text) < TOKEN_CHARS and not (prefix and prefix in text):
        return text
    return _hide_plain(text, prefix)


def hide_credential(path: str, credential: Credential | Denial | None) -> str:
    """Return a path with the token masked that the same request carries as its credential."""
    if not isinstance(credential, TokenCredential):
        return path
    secret = credential.secret
    if len(secret) > len(path):
        return path
    hidden = _hide(path, secret)
    if credential.form is _BASIC:
        for spelled in _in_basic(credential, path):
            hidden = _hide(hidden, spelled)
    return hidden


def _hide(path: str, secret: str) -> str:
    """Return a path with a secret masked, also if it is percent-encoded."""
    if secret in path:
        return path.replace(secret, MASKED)
    if "%" in path:
        decoded = _decode(path)
        if secret in decoded:
            return decoded.replace(secret, MASKED)
    return path


def is_repeated(text: str, credential: Credential | Denial | None) -> bool:
    """Tell whether a text contains a credential's secret, plain or as HTTP Basic encodes it."""
    if isinstance(credential, TokenCredential):
        return credential.secret in text or any(
            spelled in text for spelled in _in_basic(credential, text)
        )
    if not isinstance(credential, PasswordCredential):
        return False
    pair = f"{credential.account}:{credential.password}"
    is_long = len(credential.password) >= _MIN_SECRET_CHARS
    return (is_long and credential.password in text) or any(
        spelled in text
        for encoding in ("utf-8", "latin-1")
        for spelled in _as_base64(pair.encode(encoding, "replace"))
    )


def _in_basic(credential: TokenCredential, text: str) -> list[str]:
    """Return how HTTP Basic may spell a token, as far as ``text`` has room for it."""
    secret = credential.secret
    if len(text) * 3 < len(secret) * 4:
        return []
    pairs = [f"{secret}:", f":{secret}"]
    if credential.account:
        pairs.append(f"{credential.account}:{secret}")
    return [spelled for pair in pairs for spelled in _as_base64(pair.encode("utf-8", "replace"))]


def _as_base64(raw: bytes) -> list[str]:
    """Return both spellings of base64, in its own alphabet and in that of URLs, unpadded."""
    standard = base64.b64encode(raw).rstrip(b"=").decode("ascii")
    in_urls = standard.translate(_TO_URL_ALPHABET)
    return [standard] if in_urls == standard else [standard, in_urls]


def _hide_encoded(text: str, prefix: str) -> str:
    """Mask tokens in each decoded segment; a segment without tokens stays as it came."""
    segments = text.split("/")
    for place, segment in enumerate(segments):
        decoded = _decode(segment)
        hidden = _hide_plain(decoded, prefix)
        if hidden != decoded:
            segments[place] = hidden
    return "/".join(segments)


def _decode(text: str) -> str:
    for _ in range(_MAX_ENCODINGS):
        decoded = unquote(text, encoding="latin-1")
        if decoded == text:
            break
        text = decoded
    return text


def _hide_plain(text: str, prefix: str) -> str:
    if prefix and prefix in text:
        text = _prefixed(prefix).sub(prefix + MASKED, text)
    if len(text) >= TOKEN_CHARS and max(map(len, text.split("/"))) >= TOKEN_CHARS:
        text = _LONG_WORD.sub(_hide_in_word, text)
        if "." in text and _find_jwt(text) is not None:
            text = _DOTTED.sub(_hide_jwts, text)
    return text


@lru_cache(maxsize=8)
def _prefixed(prefix: str) -> re.Pattern[str]:
    return re.compile(re.escape(prefix) + r"[A-Za-z0-9_]{8,}")


def _hide_in_word(found: re.Match[str]) -> str:
    """Mask an access token at either end of a word, and keep the rest."""
    word = found[0]
    if _is_access_token(word[:TOKEN_CHARS]):
        return MASKED + word[TOKEN_CHARS:]
    if _is_access_token(word[-TOKEN_CHARS:]):
        return word[:-TOKEN_CHARS] + MASKED
    return word


def _is_access_token(text: str) -> bool:
    return classify(text, "") is Shape.ACCESS


def _hide_jwts(found: re.Match[str]) -> str:
    """Mask each JWT header and up to two parts after it, anywhere in a dotted word."""
    parts, kept = found[0].split("."), []
    place = 0
    while place < len(parts):
        part = parts[place]
        start = _find_jwt(part)
        if start is not None and len(part) - start.start() >= _MIN_JWT_HEADER_CHARS:
            kept.append(part[: start.start()] + MASKED)
            place += 3
        else:
            kept.append(part)
            place += 1
    return ".".join(kept)
