"""What group J plays on: a proxy that trusts itself, a key set in a file and one behind a URL."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sidecar.core.model import TokenKind, TokenRecord
from sidecar.core.tokens import digest
from sidecar.store.record import encode
from tests.conformance.jwt_cases import PUBLIC_ALGORITHMS, Bench, Party, dump, make_party
from tests.conformance.raw_client import Answer, RawClient
from tests.proxy_process import ProxyProcess
from tests.redis_servers import RedisServer
from tests.upstream_recorder import Exchange, Recorder

LEEWAY_SECONDS = 10
JTI = "k3v9z1xq7m2abc"
OPAQUE = b"legacy-token-of-the-honest-user"
TARGET = b"/v1/dynamic/listener/a1"
SLOTS = ("bearer", "header", "query")
_UNAVAILABLE = 503
PATIENT_TRIES = 10
_PAUSE_SECONDS = 0.5


class JwksServer:
    """Publishes a key set and counts how often it is asked for."""

    def __init__(self) -> None:
        self.document = b""
        self.asked = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                self.send_response(200)
                self.send_header("Content-Length", str(len(outer.document)))
                self.end_headers()
                self.wfile.write(outer.document)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks.json"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def key_set(party: Party) -> bytes:
    """Return the party's public keys as a JWKS."""
    return dump({"keys": [party.key(algorithm).publish() for algorithm in PUBLIC_ALGORITHMS]})


def own_keys(party: Party) -> list[dict[str, str]]:
    """Return the party's keys as ``jwt.keys`` has them."""
    return [
        {"id": f"{algorithm}-1", "algorithm": algorithm, "private_key": party.pems[algorithm]}
        for algorithm in PUBLIC_ALGORITHMS
    ]


def put_record(redis: RedisServer, secret: bytes, account: str, kind: TokenKind) -> None:
    """Write an unlimited record for a token, or for the ``jti`` of a JWT."""
    key = digest(secret.decode())
    record = TokenRecord(key[:14], account, key[:20], kind, key, 1.0, None)
    redis.command("SET", f"sidecar:token:{key}", encode(record))


@dataclass(slots=True)
class Reply:
    """What came of one request: the answer, and what the upstream saw."""

    answer: Answer
    exchanges: list[Exchange]


class JwtStage:
    """One process, a caller's connection that is kept while it lasts, and an honest user."""

    def __init__(self, directory: Path, redis: RedisServer) -> None:
        self.redis = redis
        self.recorder = Recorder()
        self.jwks = JwksServer()
        self.own = make_party("sidecar", "listener", is_own=True)
        by_file = make_party("https://file.example.com/", "shop", is_own=False)
        self.parties = {
            "own": self.own,
            "file": by_file,
            "url": replace(by_file, issuer="https://url.example.com/"),
        }
        self.jwks.document = key_set(by_file)
        (directory / "jwks.json").write_bytes(self.jwks.document)
        put_record(redis, JTI.encode(), "acme", TokenKind.JWT)
        put_record(redis, OPAQUE, "globex", TokenKind.IMPORTED)
        self.proxy = ProxyProcess(directory, self._settings())
        self.proxy.start()
        self._clients: dict[str, RawClient] = {}

    def _settings(self) -> dict[str, Any]:
        sources = {"file": {"jwks_file": "jwks.json"}, "url": {"jwks_url": self.jwks.url}}
        trusted = [
            {
                "issuer": self.parties[name].issuer,
                "audience": "shop",
                "algorithms": [*PUBLIC_ALGORITHMS],
                **source,
            }
            for name, source in sources.items()
        ]
        return {
            "upstreams": {"listener": {"url": self.recorder.url}},
            "routes": [
                {"path": "/globex-only", "accounts": ["globex"]},
                {"path": "/bearer-only", "credentials": ["bearer"]},
                {"path": "/v1/dynamic/listener/{id}"},
            ],
            "accounts": {"acme": {"paths": ["/v1/**", "/globex-only", "/bearer-only"]}}
            | {"globex": {}},
            "jwt": {"keys": own_keys(self.own), "trusted_issuers": trusted},
            "store": {"url": self.redis.unix_url},
            "throttle": {"failures": 1_000_000, "window": "1m", "ban": "1s"},
            "drain": {"timeout": "5s"},
        }

    def bench(self, party: Party, jti: str = JTI) -> Bench:
        return Bench(party, "acme", jti, int(time.time()), LEEWAY_SECONDS)

    def ask(
        self, token: str, slot: str = "bearer", target: bytes = TARGET, *, tries: int = 1
    ) -> Reply:
        """Send one request with the token in one of its slots.

        With more ``tries`` it is sent again while nothing is known of the token: other tests may
        keep Redis too busy to answer in time.
        """
        secret = token.encode("utf-8", "surrogatepass")
        lines = {
            "bearer": [b"Authorization: Bearer " + secret],
            "header": [b"jwt_token: " + secret],
            "query": [],
        }
        if slot == "query":
            target += b"?a=1&token=" + quote(secret, safe="").encode() + b"&b=2"
        mark = self.recorder.mark()
        for _ in range(tries):
            answer = self._send(slot, target, *lines[slot])
            if answer.status != _UNAVAILABLE:
                break
            time.sleep(_PAUSE_SECONDS)
        return Reply(answer, self.recorder.requests_since(mark))

    def ask_honest(self) -> bytes:
        """Ask as the honest user does; return the answer's body."""
        return self._send("honest", TARGET, b"Authorization: Bearer " + OPAQUE).body

    def _send(self, caller: str, target: bytes, *lines: bytes) -> Answer:
        request = b"\r\n".join([b"GET %s HTTP/1.1" % target, b"Host: a", *lines, b"", b""])
        client = self._clients.get(caller) or RawClient(self.proxy.connect())
        self._clients[caller] = client
        client.send(request)
        answer = client.read_answer()
        assert answer is not None
        if answer.values("connection") == ["close"]:
            self._clients.pop(caller).close()
        return answer

    def logs(self) -> str:
        return self.proxy.stdout + self.proxy.stderr

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        self.proxy.stop()
        self.recorder.close()
        self.jwks.close()


@contextlib.contextmanager
def jwt_stage(directory: Path, redis: RedisServer) -> Iterator[JwtStage]:
    """Run the stage of group J."""
    stage = JwtStage(directory, redis)
    try:
        yield stage
    finally:
        stage.close()
