"""The upstreams of ``examples/assertion`` believe an assertion for them and nothing else."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sidecar.auth.assertion import AssertionSigner, AssertionSubject
from sidecar.core.key_documents import export_key_set, load_key
from sidecar.core.keys import Key, generate_key
from sidecar.core.model import TokenKind, TokenRecord
from sidecar.core.signed_tokens import SignedTokens
from tests.jose_library import install_jose
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port
from tests.proxy_process import ROOT

EXAMPLES = ROOT / "examples" / "assertion"
KEY = load_key("k1", "EdDSA", generate_key("EdDSA"))


NGINX = """
daemon off; master_process off; pid {place}/pid; error_log {place}/error;
events {{}}
http {{
    access_log off;
    client_body_temp_path {place}/body; proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;
    server {{
        listen 127.0.0.1:{port};
        {locations}
    }}
}}
"""


def assertion(
    issuer: str = "sidecar", audience: str = "listener", age_seconds: float = 0, key: Key = KEY
) -> str:
    signer = AssertionSigner(issuer, key, 60)
    return signer.assertion(AssertionSubject("acme", "bearer"), audience, time.time() - age_seconds)


def a_callers_own_jwt() -> str:
    now = time.time()
    record = TokenRecord("token00001", "acme", "shop", TokenKind.JWT, "0" * 64, now, now + 60)
    return SignedTokens("sidecar", "listener", 10, (KEY,)).sign(record)


def of_an_unknown_key() -> str:
    return assertion(key=load_key("k2", "EdDSA", generate_key("EdDSA")))


def of_an_impostor_key() -> str:
    return assertion(key=load_key("k1", "EdDSA", generate_key("EdDSA")))


class Published(BaseHTTPRequestHandler):
    """What the operations listener answers at ``/.well-known/jwks.json``."""

    def do_GET(self) -> None:
        content = json.dumps(export_key_set([KEY])).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/jwk-set+json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def published_keys() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Published) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/.well-known/jwks.json"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def running(command: list[str], port: int, *, add_port: bool = True) -> Iterator[int]:
    named = [str(port)] if add_port else []
    process = subprocess.Popen([*command, *named], stderr=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        yield port
    finally:
        process.kill()
        process.wait(10)


@contextmanager
def running_nginx(place: Path, locations: str) -> Iterator[int]:
    """Run an nginx with these locations in a directory; yield its port, or skip."""
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed")
    port, configuration = free_port(), place / "nginx.conf"
    configuration.write_text(NGINX.format(place=place, port=port, locations=locations))
    command = ["nginx", "-p", str(place), "-c", str(configuration)]
    with running(command, port, add_port=False):
        yield port


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            call(port)
        except OSError:
            assert process.poll() is None, "the example ended"
            assert time.monotonic() < deadline, "the example does not listen"
            time.sleep(0.05)
        else:
            return


def call(port: int, *assertions: str) -> tuple[int, dict[str, str]]:
    with closing(
        http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    ) as connection:
        connection.putrequest("GET", "/v1/orders")
        for value in assertions:
            connection.putheader("X-Account-Assertion", value)
        connection.endheaders()
        response = connection.getresponse()
        content = response.read()
        is_json = response.getheader("Content-Type", "").startswith("application/")
        return response.status, json.loads(content) if is_json else {}


@pytest.fixture(scope="session")
def node_example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the example for Node stands beside the library that it needs."""
    folder = tmp_path_factory.mktemp("node")
    install_jose(folder)
    return Path(shutil.copy(EXAMPLES / "upstream.mjs", folder))


@pytest.fixture(scope="module", params=["python", "node"])
def command(request: pytest.FixtureRequest) -> list[str]:
    if request.param == "python":
        return [sys.executable, str(EXAMPLES / "upstream.py")]
    return ["node", str(request.getfixturevalue("node_example"))]


@pytest.fixture(scope="module")
def upstream(command: list[str]) -> Iterator[int]:
    with ExitStack() as stack:
        url = stack.enter_context(published_keys())
        yield stack.enter_context(running([*command, url], free_port()))


def test_an_assertion_for_this_upstream_is_believed(upstream: int) -> None:
    assert call(upstream, assertion()) == (200, {"account": "acme"})


@pytest.mark.parametrize(
    "make",
    [
        lambda: assertion(audience="another"),
        lambda: assertion(issuer="somebody"),
        lambda: assertion(age_seconds=61),
        a_callers_own_jwt,
        of_an_unknown_key,
        of_an_impostor_key,
        lambda: assertion()[:-4] + "AAAA",
        lambda: "acme",
    ],
    ids=[
        "another upstream's",
        "another issuer's",
        "expired",
        "a caller's own JWT",
        "an unknown key",
        "another key with the same id",
        "another signature",
        "no JWT",
    ],
)
def test_whatever_else_is_said_is_not_believed(upstream: int, make: Callable[[], str]) -> None:
    assert call(upstream, make())[0] == 401


@pytest.mark.parametrize("count", [0, 2], ids=["none", "two"])
def test_one_assertion_is_needed(upstream: int, count: int) -> None:
    assert call(upstream, *[assertion()] * count)[0] == 401


def test_keys_that_cannot_be_fetched_are_no_reason_to_say_no(command: list[str]) -> None:
    away = f"http://127.0.0.1:{free_port()}/jwks.json"
    with running([*command, away], free_port()) as port:
        assert call(port, assertion())[0] == 503


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_asks_an_example_before_a_service_that_cannot_check(
    upstream: int, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "how-to" / "check-the-signed-assertion.md").read_text("utf-8")
    (block,) = re.findall(r"^```nginx\n(.*?)^```", page, re.M | re.S)
    with published_keys() as service:
        locations = block.replace("http://127.0.0.1:9000", service)
        locations = locations.replace("http://127.0.0.1:8080", f"http://127.0.0.1:{upstream}")
        with running_nginx(tmp_path, locations) as port:
            assert call(port, assertion())[0] == 200
            assert call(port, a_callers_own_jwt())[0] == 401
            assert call(port)[0] == 401
