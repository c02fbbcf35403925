"""A credential is read and hashed once, and kept only if it's likely to come again."""

from __future__ import annotations

from sidecar.auth.credential_cache import CachedCredential, CachedCredentials, CredentialSlot
from sidecar.core.model import Denial, Form, PasswordCredential, TokenCredential
from sidecar.core.tokens import digest

BEARER = CredentialSlot(b"Bearer ")
HEADER = CredentialSlot(b"")
TOKEN = b"another-token-of-another-shop"


def test_only_a_token_has_a_digest() -> None:
    text = TOKEN.decode()
    assert CachedCredential(TokenCredential(Form.BEARER, text)).digest == digest(text)
    assert CachedCredential(PasswordCredential("a", "b")).digest == ""
    assert CachedCredential(Denial("malformed_credentials", "")).digest == ""
    assert CachedCredential(None).digest == ""


def test_credentials_that_are_read_and_not_cached_evict_nothing() -> None:
    """However many of them come."""
    credentials = CachedCredentials()
    known = credentials.get(BEARER, TOKEN)
    credentials.put(known)
    for number in range(20_000):
        credentials.get(BEARER, b"a-token-that-comes-once-%d" % number)
    assert repr(credentials) == "<CachedCredentials 1>"
    assert credentials.get(BEARER, TOKEN) is known


def test_the_cache_is_bounded() -> None:
    credentials = CachedCredentials()
    for number in range(20_000):
        credentials.put(credentials.get(BEARER, b"a-token-that-is-kept-%d" % number))
    assert repr(credentials) in {f"<CachedCredentials {kept}>" for kept in range(1, 4097)}


def test_one_token_in_a_header_and_as_bearer_is_two_credentials() -> None:
    credentials = CachedCredentials()
    for slot in (BEARER, HEADER):
        credentials.put(credentials.get(slot, TOKEN))
    forms = [credentials.get(slot, TOKEN).credential for slot in (BEARER, HEADER)]
    text = TOKEN.decode()
    assert forms == [TokenCredential(Form.BEARER, text), TokenCredential(Form.HEADER, text)]
    assert repr(credentials) == "<CachedCredentials 2>"


def test_a_credential_of_more_than_two_kibibytes_is_not_cached() -> None:
    credentials = CachedCredentials()
    credentials.put(credentials.get(BEARER, b"t" * 2049))
    assert repr(credentials) == "<CachedCredentials 0>"
