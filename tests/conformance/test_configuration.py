"""Group K of the hostile suite: what is wrong with a file is said, and nothing runs with it."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from sidecar.cli.main import main
from tests.conformance.configuration import CASES, GOOD, Mistake
from tests.conformance.raw_client import RawClient
from tests.conformance.stage import Stage
from tests.ports import free_port
from tests.proxy_process import ROOT, ProxyProcess, run_sidecar
from tests.upstream_recorder import Recorder

POSITION = re.compile(r"sidecar\.yaml:(\d+):(\d+): \S")


def _pem(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.fixture(scope="session")
def keys() -> dict[str, str]:
    """Return signing keys, good and weak, as an environment holds them."""
    strong = rsa.generate_private_key(65537, 2048)
    public = strong.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return {
        "KEY_RSA_2048": _pem(strong),
        "KEY_RSA_1024": _pem(rsa.generate_private_key(65537, 1024)),
        "KEY_PUBLIC": public.decode(),
        "KEY_ED": _pem(ed25519.Ed25519PrivateKey.generate()),
    }


Check = Callable[[str], tuple[int, str]]


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """Return what runs ``sidecar check`` on a text, here, for a process a case takes its time."""

    def run(text: str) -> tuple[int, str]:
        config = tmp_path / "sidecar.yaml"
        config.write_text(text)
        status = main(["check", "--config", str(config)])
        said = capsys.readouterr()
        return status, said.out + said.err

    return run


def test_the_good_file_passes(check: Check) -> None:
    """K0: the control, without which every refusal below would mean nothing."""
    assert check(GOOD)[0] == 0


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_file_with_a_mistake_is_refused_with_its_position(
    case: Mistake, check: Check, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, pem in keys.items():
        monkeypatch.setenv(name, pem)
    assert case.text != GOOD
    status, said = check(case.text)
    assert status == 2, said
    assert "Traceback" not in said
    lines = [int(found[1]) for found in POSITION.finditer(said)]
    assert lines, said
    assert case.line is None or case.line in lines, said
    assert case.told.strip('"').lower() in said.lower()
    assert "PRIVATE KEY" not in said
    assert "swordfish" not in said


def test_all_mistakes_are_told_at_once(check: Check) -> None:
    """K1: ten mistakes, ten lines with positions."""
    text = GOOD.replace("address:", "adress:") + "".join(f"unknown_{n}: 1\n" for n in range(8))
    status, said = check(text)
    assert status == 2
    assert len(POSITION.findall(said)) == 10


def test_a_bad_file_is_never_run_with(tmp_path: Path) -> None:
    """K1: ``run`` refuses what ``check`` refuses, before a socket opens."""
    config = tmp_path / "sidecar.yaml"
    config.write_text(GOOD + "colour: red\n")
    done = run_sidecar("run", config=config)
    assert done.returncode == 2
    assert POSITION.search(done.stderr)
    assert "Traceback" not in done.stderr


def test_nobody_is_trusted_by_default(stage: Stage) -> None:
    """K4: without ``trusted_proxies`` the peer's word about addresses is replaced."""
    mark = stage.recorder.mark()
    client = RawClient(stage.proxies["plain"].connect())
    client.send(
        stage.fill(
            b"GET /v1/dynamic/listener/a1 HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.9\r\n"
            b"X-Forwarded-Proto: https\r\nAuthorization: Bearer {token}\r\n\r\n"
        )
    )
    assert client.read_answer() is not None
    client.close()
    seen = stage.recorder.requests_since(mark)[0]
    assert seen.values("x-forwarded-for") == [b"127.0.0.1"]
    assert seen.values("x-forwarded-proto") == [b"http"]


def test_a_bad_reload_keeps_the_old_file_in_force(stage: Stage, tmp_path: Path) -> None:
    """K6: a file that became bad, and SIGHUP, change nothing for callers."""
    with ProxyProcess(tmp_path, stage.proxies["plain"].settings_elsewhere()) as proxy:
        good = proxy.config.read_text()
        proxy.config.write_text("routes: [{path: /**, pubilc: true}]\n" + good)
        proxy.signal(signal.SIGHUP)
        time.sleep(0.3)
        client = RawClient(proxy.connect())
        for token, status in (("token", 200), ("unknown", 401)):
            client.send(
                stage.fill(
                    b"GET /v1/dynamic/listener/a1 HTTP/1.1\r\nHost: a\r\n"
                    b"Authorization: Bearer {%s}\r\n\r\n" % token.encode()
                )
            )
            answer = client.read_answer()
            assert answer is not None
            assert answer.status == status
        client.close()


FAULTY = """\
import sys

import sidecar.proxy.gateway
from sidecar.cli.main import main

def fail(*_, **__):
    raise RuntimeError("rendering fails")

sidecar.proxy.gateway.render = fail
sys.exit(main())
"""


def test_a_fault_in_rendering_an_error_never_lets_a_request_pass(
    stage: Stage, tmp_path: Path
) -> None:
    """K7: a refusal that can't be rendered is still no pass: nothing reaches the upstream."""
    program = tmp_path / "faulty.py"
    program.write_text(FAULTY)
    recorder = Recorder()
    settings = stage.proxies["plain"].settings_elsewhere()
    settings["upstreams"] = {"listener": {"url": recorder.url}}
    settings["routes"] = [{"path": "/v1/dynamic/listener/{id}"}]
    here = {"PYTHONPATH": str(ROOT)}
    proxy = ProxyProcess(tmp_path, settings, here, program)
    try:
        proxy.start()
        client = RawClient(proxy.connect())
        client.send(
            b"GET /v1/dynamic/listener/a1 HTTP/1.1\r\nHost: a\r\n"
            b"Authorization: Bearer 0123456789abcdef\r\n\r\n"
        )
        answer = client.read_answer()
        client.close()
        assert answer is None or answer.status in (401, 500)
        assert recorder.exchanges == []
    finally:
        proxy.kill()
        recorder.close()


def test_without_its_parsers_in_c_it_does_not_start(tmp_path: Path) -> None:
    """K8: the pure-Python parser has a worse record than the C one."""
    config = tmp_path / "sidecar.yaml"
    config.write_text(GOOD.replace("2020", str(free_port())))  # a demo may have that one
    done = run_sidecar("run", config=config, environment={"AIOHTTP_NO_EXTENSIONS": "1"})
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert "extension" in done.stderr.lower()


def test_a_problem_never_repeats_a_secret(check: Check) -> None:
    """K1: what stands beside a mistake may be a secret; messages name the key and the kind."""
    text = GOOD.replace("unix:///nowhere/redis.sock", "redis://:hunter2@[bad")
    status, said = check(text)
    assert status == 2
    assert "hunter2" not in said
