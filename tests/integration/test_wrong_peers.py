"""``check --connect`` where something else answers than was meant says what to write."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest
import yaml

from sidecar.store.embedded import find_binary
from tests.command_line import Run, run_command
from tests.redis_certificates import make_certificates
from tests.redis_servers import RedisServer, running_redis

PASSWORD = "s3cr3t-passw0rd"


@contextmanager
def answering(answer: bytes | None, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Give every connection the same answer to each of its questions; ``None``: hang up."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        threading.Thread(target=_serve, args=(listener, answer, context), daemon=True).start()
        yield listener.getsockname()[1]


def _serve(listener: socket.socket, answer: bytes | None, context: ssl.SSLContext | None) -> None:
    while True:
        try:
            peer = listener.accept()[0]
        except OSError:
            return
        threading.Thread(target=_answer, args=(peer, answer, context), daemon=True).start()


def _answer(peer: socket.socket, answer: bytes | None, context: ssl.SSLContext | None) -> None:
    with ExitStack() as stack, suppress(OSError):
        stack.callback(peer.close)
        if context is not None:
            peer = context.wrap_socket(peer, server_side=True)
            stack.callback(peer.close)
        while answer is not None and (question := peer.recv(65536)):
            peer.sendall(answer * max(1, question.count(b"*") if answer[:1] == b"-" else 1))


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    made = make_certificates(tmp_path_factory.mktemp("certificates"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    return context


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    directory = tmp_path_factory.mktemp("redis")
    with running_redis(str(find_binary()), directory, "--appendonly", "yes") as server:
        yield server


def check(directory: Path, store: str, upstream: str) -> Run:
    settings = {
        "upstreams": {"a": {"url": upstream, "connect_timeout": "1s"}},
        "routes": [{"path": "/x"}],
        "store": {"url": store},
    }
    config = directory / "sidecar.yaml"
    config.write_text(yaml.safe_dump(settings))
    return run_command("check", "--connect", config=config)


HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
HELLO = f"-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `{PASSWORD}`, \r\n"
STORES: dict[str, tuple[bytes | None, str]] = {
    "an HTTP server": (HTTP, "what answers is not Redis, but perhaps an HTTP server"),
    "an SSH server": (b"SSH-2.0-OpenSSH_9.2p1\r\n", "perhaps an SSH server"),
    "memcached": (b"ERROR\r\n", "perhaps memcached or PostgreSQL"),
    "an old Redis": (HELLO.encode(), "Redis does not know HELLO 3: it is older than version 6"),
    "a proxy": (b"-NOPROTO unsupported protocol version\r\n", "a proxy stands before it"),
    "one that hangs up": (None, "Redis closed the connection; does it want TLS"),
}


@pytest.mark.parametrize(("answer", "told"), STORES.values(), ids=STORES)
def test_what_answers_instead_of_redis_is_told(
    tmp_path: Path, redis: RedisServer, answer: bytes | None, told: str
) -> None:
    with answering(answer) as port:
        store = f"redis://user:{PASSWORD}@127.0.0.1:{port}/0"
        done = check(tmp_path, store, f"unix:{redis.socket}")
    assert done.returncode == 1
    assert told in done.stderr
    assert PASSWORD not in done.stderr


def test_tls_on_one_side_alone_is_told_with_the_scheme_to_write(
    tmp_path: Path, redis: RedisServer, context: ssl.SSLContext
) -> None:
    done = check(tmp_path, f"rediss://127.0.0.1:{redis.port}/0", f"unix:{redis.socket}")
    assert "Redis answers without TLS there: write redis, not rediss, in store.url" in done.stderr
    with answering(HTTP, context) as port:
        done = check(tmp_path, f"redis://127.0.0.1:{port}/0", f"unix:{redis.socket}")
    assert "what answers speaks TLS: write rediss, not redis, in store.url" in done.stderr


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://127.0.0.1:{port}/99", "no database of the number in store.url"),
        ("redis+cluster://127.0.0.1:{port}", "not part of a Cluster: write redis://"),
        ("redis+sentinel://127.0.0.1:{port}/NAME/0", "what answers is no Sentinel"),
        ("redis://:s3cr3t-passw0rd@nowhere.invalid:6379/0", "there is no host of this name"),
        ("redis://user:s3cr3t-passw0rd@127.0.0.1:{port}/0", "(WRONGPASS)"),
        ("redis://127.0.0.1:1/0", "Redis can't be reached: Connection refused"),
        ("unix:///nowhere/r.sock", "Redis can't be reached: No such file or directory"),
    ],
)
def test_a_url_that_leads_elsewhere_is_told(
    tmp_path: Path, redis: RedisServer, url: str, told: str
) -> None:
    done = check(tmp_path, url.format(port=redis.port), f"unix:{redis.socket}")
    assert done.returncode == 1
    assert told in done.stderr
    assert PASSWORD not in done.stderr
    assert "Unknown error" not in done.stderr


@pytest.mark.parametrize(
    ("scheme", "answer", "is_tls", "told"),
    [
        ("https", HTTP, False, "does not speak TLS on this port: write http:// in upstreams.a.url"),
        ("https", b"SSH-2.0-x\r\n", False, "does not speak TLS on this port"),
        ("https", None, False, "it closed the connection in the TLS handshake"),
        ("http", HTTP, True, "it speaks TLS on this port: write https:// in upstreams.a.url"),
        ("http", HTTP, False, ""),
        ("http", None, False, ""),
    ],
)
def test_http_and_https_mistaken_for_each_other_are_told(
    tmp_path: Path,
    redis: RedisServer,
    context: ssl.SSLContext,
    scheme: str,
    answer: bytes | None,
    is_tls: bool,
    told: str,
) -> None:
    with answering(answer, context if is_tls else None) as port:
        done = check(tmp_path, redis.unix_url, f"{scheme}://127.0.0.1:{port}")
    assert told in done.stderr
    assert done.returncode == (1 if told else 0), done.stderr


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://127.0.0.1:1", "the connection failed (Connection refused); is the service"),
        ("http://nowhere.invalid", "its host can't be looked up (there is no host of this name)"),
        ("unix:/nowhere/x.sock", "there is no such socket (No such file or directory)"),
    ],
)
def test_a_service_that_is_not_there_is_told_in_words(
    tmp_path: Path, redis: RedisServer, url: str, told: str
) -> None:
    done = check(tmp_path, redis.unix_url, url)
    assert told in done.stderr
    assert done.returncode == 1
