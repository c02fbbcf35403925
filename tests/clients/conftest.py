"""The sidecar, plain and with TLS, the service behind it, and the one run of all clients."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from sidecar.core.keys import generate_key
from sidecar.core.tokens import generate
from tests.clients.service import PREFIX, Service
from tests.clients.suite import Bench, Findings, play_all
from tests.e2e.conftest import redis_binary
from tests.ports import free_port
from tests.proxy_process import ProxyProcess, create_token
from tests.redis_certificates import Certificates, make_certificates
from tests.redis_servers import RedisServer, running_redis

ACCOUNT = "shop@example.com"
PASSWORD = "correct:horse/battery+staple"
NAME, SECRET = "anna", "pässwörd-ß"


def _cheap_hash(password: str) -> str:
    """Hash at next to no cost: passwords are verified at the lowest priority, and tests wait."""
    cheap = Argon2id(salt=b"0123456789abcdef", length=32, iterations=1, lanes=1, memory_cost=8)
    return cheap.derive_phc_encoded(password.encode())


def _settings(redis: RedisServer, service: Service, key: Path) -> dict[str, Any]:
    return {
        "upstreams": {"listener": {"url": service.url}},
        "routes": [{"path": f"{PREFIX}/**"}],
        "accounts": {
            ACCOUNT: {"password_hash": _cheap_hash(PASSWORD)},
            NAME: {"password_hash": _cheap_hash(SECRET)},
        },
        "store": {"url": redis.unix_url},
        "jwt": {"keys": [{"id": "k1", "private_key": f"${{file:{key}}}"}]},
        "throttle": {"failures": 1_000_000, "window": "1m", "ban": "1s"},
    }


def _secrets(config: Path) -> dict[str, str]:
    """Return what the braces of the forms stand for: good credentials, and well made wrong ones."""
    token = create_token(config, ACCOUNT, "clients")
    jwt = create_token(config, ACCOUNT, "clients' JWT", 1, "--kind", "jwt")
    head, body, signature = jwt.split(".")
    return {
        "account": ACCOUNT,
        "password": PASSWORD,
        "name": NAME,
        "secret": SECRET,
        "token": token,
        "jwt": jwt,
        "unknown": generate("sct_", os.urandom),
        "forged": f"{head}.{body}.{signature[::-1]}",
    }


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def bench(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    key = tmp_path_factory.mktemp("key") / "k1.pem"
    key.write_text(generate_key("EdDSA"))
    tls = {
        "certificate": str(certificates.certificate),
        "private_key": str(certificates.key),
    }
    with ExitStack() as stack:
        redis = stack.enter_context(running_redis(redis_binary(), tmp_path_factory.mktemp("redis")))
        service = Service()
        stack.callback(service.close)
        settings = _settings(redis, service, key)
        plain = ProxyProcess(tmp_path_factory.mktemp("plain"), settings)
        listen = {"address": f"127.0.0.1:{free_port()}", "tls": tls}
        secured = ProxyProcess(tmp_path_factory.mktemp("tls"), {**settings, "listen": listen})
        for proxy in (plain, secured):
            stack.enter_context(proxy)
        ports = {"plain": plain.port, "TLS": secured.port}
        yield Bench(ports, service, certificates.authority, _secrets(plain.config))


@pytest.fixture(scope="session")
def findings(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return play_all(bench, tmp_path_factory.mktemp("programs"))
