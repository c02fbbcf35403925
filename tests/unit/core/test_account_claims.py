"""Which account a JWT is for, in the shapes that Kubernetes, Auth0, SPIFFE, Azure and Keycloak use.

The tokens are PyJWT's, so that no code of ours made them.
"""

from __future__ import annotations

from typing import Any

import jwt
import pytest

from sidecar.core.account_claims import AccountClaim
from sidecar.core.key_documents import load_key
from sidecar.core.keys import KeyRing, generate_key
from sidecar.core.model import Denial
from sidecar.core.signed_tokens import SignedTokens, TrustedIssuer, VerifiedToken

NOW = 1_800_000_000
PEM = generate_key("ES256")

KUBERNETES = {
    "iss": "https://kubernetes.default.svc.cluster.local",
    "aud": ["listener"],
    "sub": "system:serviceaccount:shop:erp",
    "kubernetes.io": {
        "namespace": "shop",
        "pod": {"name": "erp-0", "uid": "6f3c1d0e-9a1f-4c2b-8a54-2e8c5e0b7b1d"},
        "serviceaccount": {"name": "erp", "uid": "b5c9d2f4-1c1e-4c1c-9a0c-4b0a3f8e2d11"},
    },
}
AUTH0 = {
    "iss": "https://shop.eu.auth0.com/",
    "aud": ["listener", "https://shop.eu.auth0.com/userinfo"],
    "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
    "azp": "2f9qKs7Yw1nE",
    "https://example.com/account": "acme",
    "https://example.com/shops": ["acme"],
}
MACHINE = {**AUTH0, "sub": "2f9qKs7Yw1nE@clients", "gty": "client-credentials"}
SPIFFE = {
    "iss": "https://oidc-discovery.example.org",
    "aud": ["listener"],
    "sub": "spiffe://example.org/ns/shop/sa/erp",
}
AZURE = {
    "iss": "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0",
    "aud": "listener",
    "sub": "0f1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9",
    "oid": "0f1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9",
    "azp": "11112222-bbbb-3333-cccc-4444dddd5555",
    "appid": "11112222-bbbb-3333-cccc-4444dddd5555",
    "roles": ["Listener.Call"],
}
KEYCLOAK = {
    "iss": "https://login.example.com/realms/shop",
    "aud": "listener",
    "sub": "f:9b2c:erp",
    "azp": "erp",
    "realm_access": {"roles": ["offline_access", "shop-erp", "uma_authorization"]},
    "resource_access": {"listener": {"roles": ["acme"]}},
    "dotted.name/with~slash": "acme",
    "number": 4711,
    "0": {"1": "acme"},
}


def judge(claims: dict[str, Any], claim: AccountClaim) -> VerifiedToken | Denial:
    token = jwt.encode({"exp": NOW + 60, **claims}, PEM, "ES256")
    ring = KeyRing([load_key("k", "ES256", PEM)])
    trusted = TrustedIssuer(claims["iss"], "listener", ("ES256",), ring, claim)
    verdict = SignedTokens("sidecar", "listener", 10, (), (trusted,)).verify_now(token, NOW)
    assert isinstance(verdict, VerifiedToken | Denial)
    return verdict


MAPPED: dict[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "Kubernetes subject": (KUBERNETES, ("sub",), "system:serviceaccount:shop:erp"),
    "Kubernetes namespace": (KUBERNETES, ("kubernetes.io", "namespace"), "shop"),
    "Auth0 user": (AUTH0, ("sub",), "auth0|5f7c8ec7c33c6c004bbafe82"),
    "Auth0 machine": (MACHINE, ("sub",), "2f9qKs7Yw1nE@clients"),
    "SPIFFE id": (SPIFFE, ("sub",), "spiffe://example.org/ns/shop/sa/erp"),
    "Azure object": (AZURE, ("oid",), "0f1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"),
    "Azure application v2": (AZURE, ("azp",), "11112222-bbbb-3333-cccc-4444dddd5555"),
    "Azure application v1": (AZURE, ("appid",), "11112222-bbbb-3333-cccc-4444dddd5555"),
    "Azure role in a list": (AZURE, ("roles",), "Listener.Call"),
    "Keycloak role among others": (KEYCLOAK, ("realm_access", "roles"), "shop-erp"),
    "an item of a list": (KEYCLOAK, ("realm_access", "roles", "1"), "shop-erp"),
    "a number": (KEYCLOAK, ("number",), "4711"),
}


@pytest.mark.parametrize(("claims", "path", "value"), MAPPED.values(), ids=MAPPED)
def test_what_the_claim_holds_is_mapped_to_an_account(
    claims: dict[str, Any], path: tuple[str, ...], value: str
) -> None:
    verdict = judge(claims, AccountClaim(path, {"another": "bolt", value: "acme"}))
    assert isinstance(verdict, VerifiedToken)
    assert verdict.account == "acme"
    unmapped = judge(claims, AccountClaim(path, {value.upper() + "x": "acme", "x": "acme"}))
    assert isinstance(unmapped, Denial)
    assert unmapped.detail.endswith("holds nothing that stands for an account.")
    assert value not in unmapped.detail


NAMED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "a URL": (AUTH0, ("https://example.com/account",)),
    "a URL, in a list of one": (AUTH0, ("https://example.com/shops",)),
    "dots, a slash and a tilde": (KEYCLOAK, ("dotted.name/with~slash",)),
    "a path to a list of one": (KEYCLOAK, ("resource_access", "listener", "roles")),
    "digits that are names": (KEYCLOAK, ("0", "1")),
    "a place in a list": (AUTH0, ("https://example.com/shops", "0")),
}


@pytest.mark.parametrize(("claims", "path"), NAMED.values(), ids=NAMED)
def test_without_a_mapping_the_claim_holds_the_account_s_name(
    claims: dict[str, Any], path: tuple[str, ...]
) -> None:
    verdict = judge(claims, AccountClaim(path))
    assert isinstance(verdict, VerifiedToken)
    assert verdict.account == "acme"


REFUSED: dict[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "a subject that is no name": (KUBERNETES, ("sub",), "claim sub is not the name of an account"),
    "a claim that is not there": (KUBERNETES, ("oid",), "no claim oid that holds text"),
    "a path that ends early": (AUTH0, ("sub", "name"), "no claim sub / name that holds text"),
    "a path that leads nowhere": (KEYCLOAK, ("realm_access", "role"), "no claim realm_access / r"),
    "dots instead of a path": (KEYCLOAK, ("realm_access.roles",), "no claim realm_access.roles"),
    "an object": (KUBERNETES, ("kubernetes.io", "pod"), "that holds text"),
    "a list of several": (KEYCLOAK, ("realm_access", "roles"), "is a list of 3 values"),
    "a place behind the list": (AUTH0, ("aud", "2"), "no claim aud / 2 that holds text"),
    "a place counted from the end": (AUTH0, ("aud", "-1"), "no claim aud / -1"),
    "a place with a zero before it": (AUTH0, ("aud", "00"), "no claim aud / 00"),
    "another case": (AUTH0, ("AZP",), "no claim AZP that holds text"),
}


@pytest.mark.parametrize(("claims", "path", "why"), REFUSED.values(), ids=REFUSED)
def test_a_claim_that_names_no_account_is_refused_with_the_reason(
    claims: dict[str, Any], path: tuple[str, ...], why: str
) -> None:
    verdict = judge(claims, AccountClaim(path))
    assert isinstance(verdict, Denial)
    assert verdict.code == "invalid_token"
    assert why in verdict.detail


@pytest.mark.parametrize("value", [True, None, 1.5, {}, [], [[]], ["acme", True], {"acme": 1}])
def test_what_is_neither_text_nor_a_whole_number_is_mapped_to_nothing(value: object) -> None:
    mapping = {str(value): "acme", "1": "acme", "acme": "acme", "True": "acme", "None": "acme"}
    verdict = judge({**AUTH0, "account": value}, AccountClaim(("account",), mapping))
    assert isinstance(verdict, Denial)


def test_with_a_mapping_an_account_s_name_that_it_does_not_list_is_refused() -> None:
    claim = AccountClaim(("azp",), {"11112222-bbbb-3333-cccc-4444dddd5555": "acme"})
    assert isinstance(judge({**AZURE, "azp": "bolt"}, claim), Denial)
    assert isinstance(judge(AZURE, claim), VerifiedToken)


def test_a_list_that_stands_for_several_accounts_is_refused() -> None:
    roles = {"shop-erp": "acme", "offline_access": "bolt"}
    verdict = judge(KEYCLOAK, AccountClaim(("realm_access", "roles"), roles))
    assert isinstance(verdict, Denial)
    assert "several accounts" in verdict.detail
    same = judge(KEYCLOAK, AccountClaim(("realm_access", "roles"), dict.fromkeys(roles, "acme")))
    assert isinstance(same, VerifiedToken)
