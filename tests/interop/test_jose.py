"""Our JWTs in the hands of jose (npm), and jose's in ours; skipped where it can't be installed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sidecar.auth.assertion import AssertionSigner, AssertionSubject
from sidecar.core.key_documents import export_key_set, load_key, load_key_set
from sidecar.core.keys import ALGORITHMS, KeyRing, generate_key
from sidecar.core.model import Denial, TokenKind, TokenRecord
from sidecar.core.signed_tokens import SignedTokens, TrustedIssuer, VerifiedToken
from tests.jose_library import install_jose
from tests.patience import PATIENCE_SECONDS

NOW = 1_800_000_000
PEER = Path(__file__).with_name("jose_peer.mjs")
RECORD = TokenRecord("t1", "acme", "shop", TokenKind.JWT, "0" * 64, NOW, NOW + 60)
CLAIMS = {
    "iss": "https://login.example.com/",
    "aud": ["listener"],
    "sub": "acme",
    "iat": NOW,
    "exp": NOW + 60,
}


@pytest.fixture(scope="session")
def jose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_jose(tmp_path_factory.mktemp("jose"))


def ask(jose: Path, task: dict[str, Any]) -> Any:
    done = subprocess.run(
        ["node", str(PEER), str(jose)],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_jose_verifies_what_we_sign_with_the_keys_that_we_publish(
    jose: Path, algorithm: str
) -> None:
    text = generate_key(algorithm)
    key = load_key("k1", algorithm, text)
    task = {
        "do": "verify",
        "token": SignedTokens("sidecar", "listener", 10, (key,)).sign(RECORD),
        "jwks": export_key_set([key]),
        "secret": text.strip() if key.is_secret else None,
        "issuer": "sidecar",
        "audience": "listener",
        "typ": "JWT",
        "now": NOW,
    }
    assert ask(jose, task) == {
        "iss": "sidecar",
        "aud": "listener",
        "sub": "acme",
        "jti": "t1",
        "iat": NOW,
        "exp": NOW + 60,
    }


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_we_verify_what_jose_signs_with_the_keys_that_it_exports(
    jose: Path, algorithm: str
) -> None:
    made = ask(jose, {"do": "sign", "algorithm": algorithm, "claims": CLAIMS})
    keys = load_key_set(json.dumps(made["jwks"]).encode(), (algorithm,), is_local=True)
    trusted = TrustedIssuer(str(CLAIMS["iss"]), "listener", (algorithm,), KeyRing(keys.keys))
    judge = SignedTokens("sidecar", "listener", 10, (), (trusted,))
    verdict = judge.verify_now(made["token"], NOW)
    assert isinstance(verdict, VerifiedToken)
    assert (verdict.account, verdict.jti, verdict.is_foreign) == ("acme", None, True)
    assert isinstance(judge.verify_now(made["token"], NOW + 70), Denial)


def test_jose_verifies_an_assertion_by_its_type(jose: Path) -> None:
    key = load_key("k1", "EdDSA", generate_key("EdDSA"))
    signer = AssertionSigner("sidecar", key, 60)
    task = {
        "do": "verify",
        "token": signer.assertion(AssertionSubject("acme", "basic"), "listener", NOW),
        "jwks": export_key_set([key]),
        "issuer": "sidecar",
        "audience": "listener",
        "typ": "assertion+jwt",
        "now": NOW,
    }
    assert ask(jose, task)["sub"] == "acme"
