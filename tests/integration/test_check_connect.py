"""``sidecar check --connect`` on real servers: what would go wrong is said before it does."""

from __future__ import annotations

import datetime
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sidecar.cli.redis_permissions import NEEDED, NEEDED_IN_CLUSTER
from sidecar.core.key_documents import load_key
from sidecar.core.keys import generate_key
from sidecar.core.model import LastUse
from sidecar.store.embedded import find_binary
from sidecar.store.port import Exported
from sidecar.store.token_lines import write_first, write_last, write_token
from tests.command_line import Run, run_command
from tests.contract.records import make_record
from tests.proxy_process import ROOT
from tests.redis_servers import RedisServer, binary_of, running_redis
from tests.redis_topologies import running_cluster


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(str(find_binary()), tmp_path, "--appendonly", "yes") as server:
        yield server


def check(directory: Path, store_url: str, upstream: dict[str, Any], **more: Any) -> Run:
    """Check a configuration with this store and this upstream."""
    config = directory / "sidecar.yaml"
    settings = {
        "upstreams": {"listener": upstream},
        "routes": [{"path": "/v1/{id}"}],
        "store": {"url": store_url},
        **more,
    }
    config.write_text(yaml.safe_dump(settings))
    return run_command("check", "--connect", "--config", str(config))


def check_store(directory: Path, redis: RedisServer, url: str = "") -> Run:
    """Check the store beside an upstream that is there."""
    return check(directory, url or redis.unix_url, {"url": f"unix:{redis.socket}"})


def test_a_redis_that_may_not_be_asked_is_not_called_good(
    tmp_path: Path, redis: RedisServer
) -> None:
    """Managed Redis forbids CONFIG and perhaps INFO; the rest is found all the same."""
    redis.command("CONFIG", "SET", "appendonly", "no")
    redis.command("ACL", "SETUSER", "sidecar", "on", ">pass", "~*", "+@all", "-config")
    url = f"unix://{redis.socket}?username=sidecar&password=pass"
    done = check_store(tmp_path, redis, url)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert "store (unix): note: Redis keeps no append-only file, and refuses CONFIG" in done.stderr
    redis.command("ACL", "SETUSER", "sidecar", "-info", "-client|tracking")
    done = check_store(tmp_path, redis, url)
    assert done.returncode == 0
    assert "store (unix): warning: Redis refuses CLIENT TRACKING" in done.stderr
    assert "note: Redis refuses INFO, so its settings can't be checked" in done.stderr


def test_a_user_with_the_least_rights_is_enough_for_checks_and_backups(tmp_path: Path) -> None:
    """Its rules are the line in docs/reference/redis.md."""
    page = (ROOT / "docs" / "reference" / "redis.md").read_text().splitlines()
    rules = next(line for line in page if line.startswith("user sidecar ")).split()[1:]
    with running_redis(binary_of("debian"), tmp_path, "--appendonly", "yes") as redis:
        redis.command("ACL", "SETUSER", *rules)
        url = f"unix://{redis.socket}?username=sidecar&password=PASSWORD"
        done = check_store(tmp_path, redis, url)
        assert (done.returncode, done.stderr.count("\n")) == (0, 1)
        assert "note: Redis refuses INFO" in done.stderr
        config = str(tmp_path / "sidecar.yaml")
        token = Exported(make_record(), LastUse(1_790_000_000.0, "::1"))
        lines = (write_first(1.0) + write_token(token) + write_last(1)).decode()
        done = run_command("store", "import", "--config", config, stdin=lines)
        assert done.stdout.startswith("1 imported")
        assert '"last_client":"::1"' in run_command("store", "export", "--config", config).stdout


RULES = [*NEEDED, "client|tracking"]


@pytest.mark.parametrize("rule", RULES)
def test_each_command_that_the_user_lacks_is_named(
    tmp_path: Path, redis: RedisServer, rule: str
) -> None:
    redis.command("ACL", "SETUSER", "sidecar", "on", ">pass", "~sidecar:*", "+@all", f"-{rule}")
    done = check_store(tmp_path, redis, f"unix://{redis.socket}?username=sidecar&password=pass")
    assert rule.upper().replace("|", " ") in done.stderr
    assert f"grant +{rule}" in done.stderr or f"user +{rule}" in done.stderr
    assert rule == "del" or redis.command("KEYS", "*permissions") == []


def test_the_master_of_a_cluster_whose_user_lacks_a_command_is_named(tmp_path: Path) -> None:
    with running_cluster(binary_of("debian"), tmp_path, "--appendonly", "yes") as cluster:
        for master in cluster.masters:
            master.command("ACL", "SETUSER", "sidecar", "on", ">pass", "~*", "+@all")
        second = cluster.masters[1]
        second.command("ACL", "SETUSER", "sidecar", "-hscan", "-asking")
        url = cluster.url.replace("://", "://sidecar:pass@")
        done = check(tmp_path, url, {"url": f"unix:{second.socket}"})
    told = f"warning: 127.0.0.1:{second.port}: Redis denies its user HSCAN, ASKING: "
    assert told in done.stderr


def test_several_are_named_together_and_strict_fails_for_them(
    tmp_path: Path, redis: RedisServer
) -> None:
    redis.command("ACL", "SETUSER", "sidecar", "on", ">pass", "~*", "+@all", "-scan", "-eval")
    done = check_store(tmp_path, redis, f"unix://{redis.socket}?username=sidecar&password=pass")
    assert done.returncode == 0
    assert "warning: Redis denies its user SCAN, EVAL: " in done.stderr
    assert "grant +scan +eval (docs/reference/redis.md)" in done.stderr
    done = run_command("check", "--connect", "--strict", config=tmp_path / "sidecar.yaml")
    assert done.returncode == 1


def test_a_user_without_the_keys_of_the_prefix_is_told_so(
    tmp_path: Path, redis: RedisServer
) -> None:
    redis.command("ACL", "SETUSER", "sidecar", "on", ">pass", "~other:*", "+@all")
    done = check_store(tmp_path, redis, f"unix://{redis.socket}?username=sidecar&password=pass")
    assert "Redis denies its user the keys that begin with store.prefix" in done.stderr


def test_the_commands_that_are_tried_are_those_of_the_documentation() -> None:
    page = (ROOT / "docs" / "reference" / "redis.md").read_text().splitlines()
    rules = next(line for line in page if line.startswith("user sidecar ")).split()
    documented = {rule[1:] for rule in rules if rule.startswith("+")}
    assert documented == {*NEEDED, *NEEDED_IN_CLUSTER, "client|tracking", "select"}


def test_tokens_that_no_route_admits_are_named_and_having_none_at_all(
    tmp_path: Path, redis: RedisServer
) -> None:
    more: dict[str, Any] = {"accounts": {"acme": {}, "idle": {}}}
    done = check(tmp_path, redis.unix_url, {"url": f"unix:{redis.socket}"}, **more)
    assert "store (unix): ok; nobody can pass yet: no account has a password" in done.stdout
    config = tmp_path / "sidecar.yaml"
    for name, path in (("good", "/v1/a*"), ("lost", "/v2/a"), ("deep", "/v1/a/b")):
        asked = ("--account", "acme", "--name", name, "--days", "1", "--path", path)
        assert run_command("token", "create", *asked, config=config).returncode == 0
    done = run_command("check", "--connect", config=config)
    assert done.returncode == 0
    found = [line for line in done.stderr.splitlines() if "no route" in line]
    assert [("(lost, of acme)" in line, "matches /v2/a;" in line) for line in found].count(
        (True, True)
    ) == 1
    assert len(found) == 2
    assert "nobody can pass" not in done.stdout


def test_a_replica_is_told_from_a_master(tmp_path: Path, redis: RedisServer) -> None:
    (tmp_path / "replica").mkdir()
    of = ("--replicaof", f"127.0.0.1 {redis.port}", "--appendonly", "yes")
    with running_redis(str(find_binary()), tmp_path / "replica", *of) as replica:
        done = check_store(tmp_path, replica)
    assert done.returncode == 1
    assert "problem: the Redis that answers is a replica" in done.stderr
    assert "problem: this Redis is a replica" in done.stderr


def test_a_redis_that_is_full_says_that_it_is(tmp_path: Path, redis: RedisServer) -> None:
    redis.command("CONFIG", "SET", "maxmemory", "1")
    done = check_store(tmp_path, redis)
    assert done.returncode == 1
    assert "problem: Redis is out of memory" in done.stderr
    assert "of maxmemory; once it is full, it refuses writes" in done.stderr


def test_each_master_of_a_cluster_is_asked(tmp_path: Path) -> None:
    with running_cluster(binary_of("debian"), tmp_path, "--appendonly", "yes") as cluster:
        second = cluster.masters[1]
        second.command("CONFIG", "SET", "maxmemory", 1 << 30)
        second.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        upstream = {"url": f"unix:{second.socket}"}
        done = check(tmp_path, cluster.url, upstream)
        lone = check(tmp_path, second.url, upstream)
    assert done.returncode == 1
    assert f"problem: 127.0.0.1:{second.port}: Redis drops any token" in done.stderr
    assert "warning: the master has no replica" in done.stderr
    assert "note: one lost slot stops the whole Cluster" in done.stderr
    assert "this Redis is one node of a Cluster" in lone.stderr


def test_a_redis_that_is_away_is_one_problem(tmp_path: Path) -> None:
    done = check(tmp_path, "redis://user:secret@127.0.0.1:1/0", {"url": "unix:/nowhere"})
    assert done.returncode == 1
    assert done.stderr.count("store (redis): ") == 1
    assert "secret" not in done.stderr


def test_a_way_that_others_can_go_or_listen_to_is_told_of(
    tmp_path: Path, redis: RedisServer
) -> None:
    """The name is this machine's own, which is not loopback to whoever reads it."""
    address = own_address()
    redis.command("CONFIG", "SET", "protected-mode", "no")
    redis.command("CONFIG", "SET", "bind", f"127.0.0.1 {address}")
    url = f"redis://{address}:{redis.port}/0"
    assert "warning: Redis requires no password" in check_store(tmp_path, redis, url).stderr
    redis.command("ACL", "SETUSER", "sidecar", "on", ">pass", "~*", "+@all")
    url = f"redis://sidecar:pass@{address}:{redis.port}/0"
    assert "note: the password and token digests cross" in (
        check_store(tmp_path, redis, url).stderr
    )


def own_address() -> str:
    """Return an address of this machine besides loopback; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return str(probe.getsockname()[0])


class Authority:
    """Signs certificates of any age for 127.0.0.1, of itself as well."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def make(self, days_left: float, name: str = "127.0.0.1") -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "upstream.test")])
        now = datetime.datetime.now(datetime.UTC)
        address = x509.IPAddress(ipaddress.ip_address(name))
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - datetime.timedelta(days=90))
            .not_valid_after(now + datetime.timedelta(days=days_left))
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        private = serialization.PrivateFormat.PKCS8
        paths = self._directory / "upstream.crt", self._directory / "upstream.key"
        paths[0].write_bytes(made.public_bytes(pem))
        paths[1].write_bytes(key.private_bytes(pem, private, serialization.NoEncryption()))
        return paths


@contextmanager
def tls_upstream(certificate: Path, key: Path) -> Iterator[str]:
    """Run what shakes hands and says nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            try:
                peer = listener.accept()[0]
                peer.settimeout(5)
                with context.wrap_socket(peer, server_side=True) as tls:
                    tls.recv(1)
            except OSError:
                return

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(10)


@pytest.mark.parametrize(
    ("days_left", "name", "tls", "status", "text"),
    [
        (90, "127.0.0.1", {"ca": "upstream.crt"}, 0, ""),
        (9.5, "127.0.0.1", {"ca": "upstream.crt"}, 0, "warning: the certificate expires on "),
        (-1, "127.0.0.1", {"ca": "upstream.crt"}, 1, "not valid (certificate has expired)"),
        (90, "127.0.0.1", {}, 1, "not valid (self-signed certificate); see upstreams.listener.tls"),
        (90, "127.0.0.2", {"ca": "upstream.crt"}, 1, "certificate is not valid for '127.0.0.1'"),
        (-1, "127.0.0.1", {"verify": False}, 0, "warning: its certificate is not verified"),
    ],
    ids=["good", "ends soon", "ended", "unknown", "of another", "not verified"],
)
def test_an_upstreams_certificate_is_judged(
    tmp_path: Path,
    redis: RedisServer,
    days_left: float,
    name: str,
    tls: dict[str, Any],
    status: int,
    text: str,
) -> None:
    certificate, key = Authority(tmp_path).make(days_left, name)
    with tls_upstream(certificate, key) as url:
        done = check(tmp_path, redis.unix_url, {"url": url, "tls": tls})
    assert done.returncode == status, done.stderr
    assert text in done.stderr
    assert bool(done.stderr) == bool(text)
    assert ("upstream listener" in done.stdout) == (status == 0)


def test_the_certificate_that_callers_see_is_judged_too(tmp_path: Path, redis: RedisServer) -> None:
    Authority(tmp_path).make(5.5)
    listen = {
        "address": "127.0.0.1:0",
        "tls": {"certificate": "upstream.crt", "private_key": "upstream.key"},
    }
    done = check(tmp_path, redis.unix_url, {"url": f"unix:{redis.socket}"}, listen=listen)
    assert done.returncode == 0
    assert "in 5 days; renew it" in done.stderr


ISSUER = "https://login.example.com/"


def check_issuer(directory: Path, redis: RedisServer, *jwks: object) -> Run:
    """Check a trusted issuer that publishes these keys at a URL and in a file."""
    document = json.dumps({"keys": jwks}).encode()
    (directory / "jwks.json").write_bytes(document)
    issuer = {"issuer": ISSUER, "audience": "listener", "algorithms": ["ES256"]}
    with serving_once(document) as url:
        return check(
            directory,
            redis.unix_url,
            {"url": f"unix:{redis.socket}"},
            jwt={"trusted_issuers": [{**issuer, "jwks_url": url}]},
        )


@contextmanager
def serving_once(document: bytes) -> Iterator[str]:
    """Answer one request with this document."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.recv(4096)
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(document)}\r\n\r\n"
                client.sendall(head.encode() + document)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/jwks.json"
        thread.join(10)


def test_keys_of_an_issuer_that_are_not_used_are_named_with_their_place(
    tmp_path: Path, redis: RedisServer
) -> None:
    good = load_key("k1", "ES256", generate_key("ES256")).publish()
    run = check_issuer(tmp_path, redis, {**good, "use": "enc"}, good, {"kty": "EC", "x": "AA"})
    assert run.returncode == 0
    assert f"issuer {ISSUER}: ok" in run.stdout
    assert f"issuer {ISSUER}: note: key 1 of 3 is not used: its use is not sig" in run.stderr
    assert f"issuer {ISSUER}: warning: key 3 of 3 is not used: its members" in run.stderr


def test_an_issuer_without_a_usable_key_is_a_problem(tmp_path: Path, redis: RedisServer) -> None:
    run = check_issuer(tmp_path, redis, {"kty": "unheard of"})
    assert run.returncode == 1
    assert f"issuer {ISSUER}: problem: its keys can't be had (no usable key; key 1:" in run.stderr
    assert "check jwks_url" in run.stderr


def test_a_key_set_in_a_file_is_judged_alike(tmp_path: Path, redis: RedisServer) -> None:
    good = load_key("k1", "ES256", generate_key("ES256")).publish()
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [good, good]}))
    issuer = {"issuer": ISSUER, "audience": "listener", "jwks_file": "jwks.json"}
    run = check(
        tmp_path,
        redis.unix_url,
        {"url": f"unix:{redis.socket}"},
        jwt={"trusted_issuers": [issuer]},
    )
    assert f"issuer {ISSUER}: note: key 2 of 2 is not used: it repeats key 1" in run.stderr
