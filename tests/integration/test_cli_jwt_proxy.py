"""The command and a running proxy agree: what is explained is answered, what is revoked refused."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sidecar.cli.main import main
from sidecar.core.jws import write_token
from sidecar.core.key_documents import export_key_set, load_key
from sidecar.core.keys import generate_key
from sidecar.core.passwords import hash_password
from sidecar.store.embedded import find_binary
from tests.patience import PATIENCE_SECONDS
from tests.proxy_process import ProxyProcess, create_token
from tests.redis_servers import running_redis

ISSUER = "https://login.example.com/"
FOREIGN_KEY = load_key("f1", "ES256", generate_key("ES256"))


class Listener(BaseHTTPRequestHandler):
    """Answers 200 to everything."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_DELETE(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    directory = tmp_path_factory.mktemp("p")
    (directory / "jwks.json").write_text(json.dumps(export_key_set([FOREIGN_KEY])))
    (directory / "k1.pem").write_text(generate_key("EdDSA"))
    with ExitStack() as stack:
        redis = stack.enter_context(running_redis(str(find_binary()), directory))
        upstream = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Listener))
        thread = threading.Thread(target=upstream.serve_forever)
        thread.start()
        stack.callback(thread.join)
        stack.callback(upstream.shutdown)
        settings = settings_for(redis.unix_url, upstream.server_port)
        yield stack.enter_context(ProxyProcess(directory, settings))


def settings_for(store_url: str, upstream_port: int) -> dict[str, Any]:
    foreign = {"issuer": ISSUER, "audience": "listener", "jwks_file": "jwks.json"}
    return {
        "upstreams": {"listener": {"url": f"http://127.0.0.1:{upstream_port}"}},
        "routes": [
            {"path": "/v1/{id}", "methods": ["GET"]},
            {"path": "/bolt-only", "accounts": ["bolt"]},
            {"path": "/status", "public": True},
        ],
        "accounts": {"acme": {"password_hash": hash_password("secret")}, "bolt": {}},
        "jwt": {
            "keys": [{"id": "k1", "private_key": "${file:k1.pem}"}],
            "trusted_issuers": [foreign],
        },
        "store": {"url": store_url},
        "throttle": {"failures": 0},
    }


def foreign_jwt(jti: str) -> str:
    end = int(time.time()) + 600
    claims = {"iss": ISSUER, "aud": "listener", "sub": "acme", "jti": jti, "exp": end}
    return write_token(claims, FOREIGN_KEY)


def call(proxy: ProxyProcess, target: str, headers: dict[str, str], method: str = "GET") -> int:
    with closing(
        http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=PATIENCE_SECONDS)
    ) as connection:
        connection.request(method, target, headers=headers)
        return connection.getresponse().status


def with_token(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def wait_for(proxy: ProxyProcess, token: str, status: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while call(proxy, "/v1/7", with_token(token)) != status:
        assert time.monotonic() < deadline, f"never {status}"
        time.sleep(0.01)


def explain(
    proxy: ProxyProcess,
    capsys: pytest.CaptureFixture[str],
    target: str,
    headers: dict[str, str],
    method: str,
) -> int:
    given = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    main(["explain", method, target, *given, "--json", "--config", str(proxy.config)])
    told = json.loads(capsys.readouterr().out)
    return 200 if told["passes"] else int(told["status"])


def test_a_jwt_passes_until_it_is_revoked(proxy: ProxyProcess) -> None:
    token = create_token(proxy.config, "acme", "a jwt", 1, "--kind", "jwt")
    assert call(proxy, "/v1/7", with_token(token)) == 200
    assert call(proxy, f"/v1/7?jwt_token={token}", {}) == 200
    assert call(proxy, "/v1/7", {"jwt_token": token}) == 200
    config = ["--config", str(proxy.config)]
    assert main(["token", "revoke", "--account", "acme", "--all", *config]) == 0
    wait_for(proxy, token, 401)


def test_a_foreign_jwt_passes_until_it_is_denied_and_again_when_that_is_lifted(
    proxy: ProxyProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    token, other = foreign_jwt("one"), foreign_jwt("other")
    assert call(proxy, "/v1/7", with_token(token)) == 200
    config = ["--json", "--config", str(proxy.config)]
    main(["token", "revoke", "--issuer", ISSUER, "--jti", "one", *config])
    (denial,) = json.loads(capsys.readouterr().out)
    wait_for(proxy, token, 401)
    assert call(proxy, "/v1/7", with_token(other)) == 200
    main(["token", "revoke", denial["id"], *config])
    wait_for(proxy, token, 200)


def test_what_explain_says_is_what_the_proxy_answers(
    proxy: ProxyProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    access = create_token(proxy.config, "acme", "access", 1)
    own = create_token(proxy.config, "acme", "own", 1, "--kind", "jwt")
    forged = f"{own[:-8]}{'A' * 8}"
    basic = {"Authorization": "Basic YWNtZTpzZWNyZXQ="}
    requests: list[tuple[str, dict[str, str]]] = [
        *(("/v1/7", with_token(token)) for token in (access, own, forged, foreign_jwt("x"))),
        *((f"/v1/7?a=1&token={token}", {}) for token in (access, own, forged)),
        ("/v1/7", basic),
        ("/v1/7", {"Authorization": "Basic YWNtZTp3cm9uZw=="}),
        (f"/v1/7?token={access}", basic),
        ("/v1/7", {}),
        ("/v1/7", {"Authorization": "Digest x"}),
        ("/bolt-only", with_token(own)),
        ("/nowhere", with_token(own)),
        ("/status", {}),
        ("/v1/%2e%2e", with_token(own)),
        ("/v1/a%2fb", with_token(own)),
        (f"/v1/{'x' * 17_000}", {}),
        ("/v1/7", {"Cookie": "x" * 40_000}),
    ]
    for method in ("GET", "DELETE"):
        answered = [call(proxy, target, headers, method) for target, headers in requests]
        told = [explain(proxy, capsys, target, headers, method) for target, headers in requests]
        assert told == answered
        assert len(set(told)) >= 4
