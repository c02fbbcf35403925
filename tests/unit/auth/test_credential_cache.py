"""A credential is read and hashed once, and kept only if it's likely to come again."""

from __future__ import annotations

import base64
import os

from sidecar.auth.credential_cache import CachedCredential, CachedCredentials, CredentialSlot
from sidecar.core.credentials import CredentialRules
from sidecar.core.model import Denial, Form, PasswordCredential, TokenCredential
from sidecar.core.tokens import digest, generate

RULES = CredentialRules(("access_token",), (), ("Bearer", "Token", ""), token_prefix="sct_")


def slot_behind(stem: bytes) -> CredentialSlot:
    slot = CredentialSlot.in_authorization(RULES, stem)
    assert slot is not None
    return slot


BEARER = slot_behind(b"Bearer ")
HEADER = CredentialSlot.in_token_header(RULES)
BASIC = slot_behind(b"Basic ")
ACME, OTHER = (CredentialSlot.beside(RULES, name) for name in (b"acme", b"other"))
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


def test_a_token_is_one_credential_behind_any_scheme_for_tokens_or_none() -> None:
    credentials = CachedCredentials()
    known = credentials.get(BEARER, TOKEN)
    credentials.put(known)
    for stem in (b"", b"token ", b"TOKEN\t", b"Bearer   "):
        assert credentials.get(slot_behind(stem), TOKEN) is known


def test_nothing_is_read_behind_a_scheme_that_is_not() -> None:
    for stem in (b"Digest ", b"jwt_token ", b"Bearer: ", b"Basic: "):
        assert CredentialSlot.in_authorization(RULES, stem) is None


def test_the_same_secret_in_two_slots_is_two_entries_wherever_its_meaning_differs() -> None:
    credentials = CachedCredentials()
    secret = b"YWNtZTpwYXNzd29yZA=="
    for slot in (BEARER, HEADER, BASIC, ACME, OTHER):
        credentials.put(credentials.get(slot, secret))
    text = secret.decode()
    assert [credentials.get(slot, secret).credential for slot in (BEARER, HEADER)] == [
        TokenCredential(Form.BEARER, text),
        TokenCredential(Form.HEADER, text),
    ]
    assert [credentials.get(slot, secret).credential for slot in (BASIC, ACME, OTHER)] == [
        PasswordCredential("acme", "password"),
        PasswordCredential("acme", text),
        PasswordCredential("other", text),
    ]
    assert repr(credentials) == "<CachedCredentials 5>"


def test_a_token_in_basic_and_in_the_pair_is_cached_with_its_user_name() -> None:
    credentials = CachedCredentials()
    token = generate("sct_", os.urandom)
    encoded = base64.b64encode(f"acme:{token}".encode())
    for slot, secret in ((BASIC, encoded), (ACME, token.encode())):
        cached = credentials.get(slot, secret)
        assert cached.credential == TokenCredential(Form.BASIC, token, "acme")
        assert cached.digest == digest(token)
        credentials.put(cached)
        assert credentials.get(slot, secret) is cached
