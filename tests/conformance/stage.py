"""What every case plays on: Redis and its monitor, the recorder, the proxies, the secrets.

One stage serves the whole run, so that a case meets the connections that the cases before it left.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sidecar.core.model import TokenRecord
from sidecar.core.passwords import hash_password
from sidecar.core.tokens import generate
from sidecar.store.record import decode
from tests.command_line import run_command
from tests.conformance.raw_client import Answer, RawClient
from tests.ports import free_port
from tests.proxy_process import ProxyProcess, create_token
from tests.redis_servers import RedisServer
from tests.upstream_recorder import Recorder

HONEST_TARGET = b"/v1/dynamic/listener/honest"
PASSWORD = b"correct:horse:battery:staple"
ACCENTED_PASSWORD = "p\u00e4ssw\u00f6rd: \u20ac \U0001f511"
IDENTITY_HEADERS = {
    "X-Account": "account",
    "X-Auth-Method": "method",
    "X-Token-Id": "token_id",
    "X-Token-Name": "token_name",
}

OPEN_ROUTES = [
    {"path": "/admin/**", "upstream": "listener"},
    {"path": "/v1/dynamic/listener/{id}", "upstream": "listener"},
    {"path": "/**", "public": True, "upstream": "listener"},
]

ID, ACCOUNT, EXPIRY, PATHS = 1, 2, 6, 7  # places in a stored record
_PLACEHOLDER = re.compile(rb"\{([a-z0-9_]+)\}")


def settings(redis_url: str, recorder: Recorder, down_port: int, stuck_port: int) -> dict[str, Any]:
    """Return the configuration of the plain proxy."""
    quick = {"connect_timeout": "500ms", "response_timeout": "1s", "idle_timeout": "2s"}
    return {
        "upstreams": {
            "listener": {"url": recorder.url, **quick},
            "forwarding": {"url": recorder.url, "forward_credentials": True, **quick},
            "down": {"url": f"http://127.0.0.1:{down_port}", **quick},
            "stuck": {"url": f"http://127.0.0.1:{stuck_port}", **quick},
        },
        "routes": [
            {"path": "/public/**", "public": True, "upstream": "listener"},
            {"path": "/admin", "upstream": "listener"},
            {"path": "/admin/**", "upstream": "listener"},
            {"path": "/get-only", "methods": ["GET"], "upstream": "listener"},
            {"path": "/bearer-only", "credentials": ["bearer"], "upstream": "listener"},
            {"path": "/globex-only", "accounts": ["globex"], "upstream": "listener"},
            {"path": "/forwarding/**", "upstream": "forwarding"},
            {"path": "/down/**", "upstream": "down"},
            {"path": "/stuck/**", "upstream": "stuck"},
            {"path": "/v1/dynamic/listener/{id}", "upstream": "listener"},
        ],
        "accounts": {
            "acme": {"password_hash": hash_password(PASSWORD.decode())},
            "accented": {"password_hash": hash_password(ACCENTED_PASSWORD)},
            "latin": {"password_hash": hash_password("p\u00e4ssw\u00f6rd")},
            "longest": {"password_hash": hash_password("x" * 1024)},
            "globex": {},
            "disabled": {"disabled": True},
            "limited": {"paths": ["/v1/dynamic/listener/b*"]},
            "exact": {"paths": ["/v1/dynamic/listener/b1"]},
        },
        "identity": {"headers": IDENTITY_HEADERS},
        "store": {"url": redis_url},
        "throttle": {"failures": 1_000_000, "window": "1m", "ban": "1s"},
        "drain": {"timeout": "5s"},
        "limits": {"header_timeout": "2s", "body_timeout": "2s", "idle_timeout": "10s"},
    }


class RedisMonitor:
    """Everything that Redis is asked, as ``MONITOR`` tells it."""

    def __init__(self, redis: RedisServer) -> None:
        self._watching = _connect(redis)
        self._watching.sendall(b"MONITOR\r\n")
        assert self._watching.recv(5) == b"+OK\r\n"
        self._seen = bytearray()
        self._asking = _connect(redis)
        self._asked = 0
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self) -> None:
        with contextlib.suppress(OSError):
            while piece := self._watching.recv(65536):
                self._seen += piece

    def mark(self) -> int:
        return len(self._seen)

    def since(self, mark: int) -> bytes:
        """Return all that was asked since ``mark``, up to now for certain."""
        self._asked += 1
        word = b"conformance-%d" % self._asked
        self._asking.sendall(b"ECHO %s\r\n" % word)
        deadline = time.monotonic() + 5
        while word not in self._seen and time.monotonic() < deadline:
            time.sleep(0.001)
        return bytes(self._seen[mark:])

    def close(self) -> None:
        self._watching.shutdown(socket.SHUT_RDWR)
        self._watching.close()
        self._asking.close()


def _connect(redis: RedisServer) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(redis.socket))
    return sock


@contextlib.contextmanager
def stuck_listener() -> Iterator[int]:
    """Yield a port that never completes a connection: its queue is full."""
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            sock = waiting.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield int(listener.getsockname()[1])


class HonestUser:
    """The account ``globex``, with a connection of its own to the same proxy."""

    def __init__(self, proxy: ProxyProcess, token: bytes) -> None:
        self._proxy = proxy
        self._token = token
        self._client: RawClient | None = None
        self._serial = 0

    @property
    def calls(self) -> int:
        """How many calls it has made."""
        return self._serial

    def call(self) -> None:
        """Make one call; it must be answered as ever."""
        target = HONEST_TARGET + b"?n=%d" % (self._serial + 1)
        self._serial += 1
        answer = self._ask(target)
        assert answer is not None, "the honest user got no answer"
        assert answer.body == b"account=globex target=%s body=0" % target, (
            f"the honest user was answered {answer.status} {answer.body[:200]!r}"
        )

    def _ask(self, target: bytes) -> Answer | None:
        if self._client is not None:
            answer = self._ask_once(self._client, target)
            if answer is not None:
                return answer
            self._client.close()
        self._client = RawClient(self._proxy.connect())
        return self._ask_once(self._client, target)

    def _ask_once(self, client: RawClient, target: bytes) -> Answer | None:
        client.send(
            b"GET %s HTTP/1.1\r\nHost: shop.example\r\nAuthorization: Bearer %s\r\n\r\n"
            % (target, self._token)
        )
        return client.read_answer()

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


class Stage:
    """Started once; ``close`` stops the proxies, which must exit with status 0."""

    def __init__(self, directory: Path, redis: RedisServer) -> None:
        self.redis = redis
        with contextlib.ExitStack() as self._open:
            self._set_up(directory)
            self._close = self._open.pop_all().close

    def _set_up(self, directory: Path) -> None:
        self.recorder = Recorder()
        self._open.callback(self.recorder.close)
        self.monitor = RedisMonitor(self.redis)
        self._open.callback(self.monitor.close)
        stuck_port = self._open.enter_context(stuck_listener())
        plain = settings(self.redis.unix_url, self.recorder, free_port(), stuck_port)
        kinds = {
            "plain": plain,
            "trusting": {**plain, "trusted_proxies": ["127.0.0.0/8"]},
            "open": {**plain, "routes": OPEN_ROUTES},
        }
        self.proxies = {
            name: self._start(directory / name, configured) for name, configured in kinds.items()
        }
        self.secrets = self._make_secrets(self.proxies["plain"].config)
        self.honest = {
            name: HonestUser(proxy, self.secrets["other"]) for name, proxy in self.proxies.items()
        }
        for user in self.honest.values():
            self._open.callback(user.close)

    def _start(self, directory: Path, configured: dict[str, Any]) -> ProxyProcess:
        directory.mkdir()
        return self._open.enter_context(ProxyProcess(directory, configured))

    def _make_secrets(self, config: Path) -> dict[str, bytes]:
        """Return, by the names that cases use, all that may show up nowhere."""
        made = (
            ("token", "acme", 1),
            ("token2", "acme", 0),
            ("other", "globex", 1),
            ("revoked", "acme", 1),
        )
        secrets = {
            name: create_token(config, account, name, days).encode() for name, account, days in made
        }
        self._revoke(config, secrets["revoked"])
        model = as_array(self._record_of(secrets["token"]))
        for name, changed in altered_records().items():
            secrets[name] = generate("sct_", os.urandom).encode()
            record = [changed.get(place, value) for place, value in enumerate(model)]
            self.redis.command("SET", self.key(secrets[name]), json.dumps(record))
        secrets["imported"] = f"of-the-old-system:{os.urandom(12).hex()}".encode()
        self.redis.command("SET", self.key(secrets["imported"]), json.dumps(model))
        mistyped = generate("sct_", os.urandom).encode()
        secrets["badsum"] = mistyped[:-1] + (b"1" if mistyped.endswith(b"0") else b"0")
        secrets["unknown"] = generate("sct_", os.urandom).encode()
        secrets["jwt"] = unsigned_jwt()
        return {
            **secrets,
            **basic_pairs(secrets),
            "token_encoded": encode(secrets["token"]),
            "token_encoded_twice": encode(encode(secrets["token"])),
            "token_hidden": b"%73c%74_" + secrets["token"][4:],
            "imported_encoded": encode(secrets["imported"]),
            "unseen": generate("sct_", os.urandom).encode(),
            "password": PASSWORD,
            "basic": base64.b64encode(b"acme:" + PASSWORD),
            "basic_unpadded": base64.b64encode(b"acme:" + PASSWORD).rstrip(b"="),
        }

    def _revoke(self, config: Path, token: bytes) -> None:
        done = run_command("token", "revoke", self._record_of(token).id, config=config)
        assert done.returncode == 0, done.stderr

    def _record_of(self, token: bytes) -> TokenRecord:
        record = decode("", self.redis.command("GET", self.key(token)))
        assert record is not None
        return record

    def key(self, token: bytes) -> str:
        return f"sidecar:token:{hashlib.sha256(token).hexdigest()}"

    def fill(self, template: bytes) -> bytes:
        """Put the secrets in where ``{name}`` stands."""
        return _PLACEHOLDER.sub(
            lambda found: self.secrets.get(found[1].decode(), found[0]), template
        )

    def logs(self) -> str:
        """Return all that the proxies have written so far."""
        return "".join(proxy.stdout + proxy.stderr for proxy in self.proxies.values())

    def close(self) -> None:
        self._close()


def encode(text: bytes) -> bytes:
    """Percent-encode every byte."""
    return b"".join(b"%%%02X" % byte for byte in text)


def as_array(record: TokenRecord) -> list[Any]:
    """Return the record in its long form, in which any field can be given any value."""
    times = record.created_at, record.expires_at
    return [1, record.id, record.account, record.name, "a", *times, list(record.paths)]


def altered_records() -> dict[str, dict[int, Any]]:
    """Return, by the name of the token, what its record says otherwise than ``token``'s."""
    return {
        "expired": {EXPIRY: int(time.time()) - 60},
        "disabled": {ACCOUNT: "disabled"},
        "limited": {ACCOUNT: "limited"},
        "exact": {ACCOUNT: "exact"},
        "narrow_exact": {PATHS: ["/v1/dynamic/listener/b1"]},
        "narrow": {PATHS: ["/v1/dynamic/listener/b*"]},
        "ghost": {ACCOUNT: "ghost"},
        "account_crlf": {ACCOUNT: "acme\r\nX-Admin: yes"},
        "account_lf": {ACCOUNT: "acme\nX-Admin: yes"},
        "account_nul": {ACCOUNT: "acme\0"},
        "account_accent": {ACCOUNT: "acm\u00e9"},
        "account_long": {ACCOUNT: "a" * 10_240},
        "account_empty": {ACCOUNT: ""},
        "account_list": {ACCOUNT: ["acme"]},
        "account_space": {ACCOUNT: "acme "},
        "name_crlf": {3: "n\r\nX-Admin: yes"},
        "id_crlf": {ID: "12345678\r\nX-Admin: yes"},
    }


def basic_pairs(tokens: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return what ``Authorization: Basic`` holds: pairs with tokens, and useless ones."""
    token = tokens["token"]
    pairs = {
        **{f"b64_user_{name}": secret + b":" for name, secret in tokens.items()},
        **{f"b64_password_{name}": b":" + secret for name, secret in tokens.items()},
        **{f"b64_acme_{name}": b"acme:" + secret for name, secret in tokens.items()},
        "b64_globex_token": b"globex:" + token,
        "b64_ghost_token": b"ghost:" + token,
        "b64_user_token_x": token + b":x-oauth-basic",
        "b64_wrong": b"acme:correct:horse:battery",
        "b64_nobody": b"nobody:" + PASSWORD,
        "b64_globex": b"globex:",
    }
    return {name: base64.b64encode(pair) for name, pair in pairs.items()}


def unsigned_jwt() -> bytes:
    """Return what has the shape of a JWT and no meaning."""
    parts = (b'{"alg":"EdDSA"}', b'{"sub":"acme","jti":"5"}', b"s" * 64)
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
