"""``sidecar demo``: runs everything on this machine, and prints ``curl`` lines to try."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.cli.demo_ports import WANTED, choose_ports
from sidecar.cli.options import Subparsers
from sidecar.cli.progress import activity
from sidecar.cli.reach import reached_lifecycle
from sidecar.core.model import TokenKind
from sidecar.workers.held_signals import hold_from_the_start, ignore, take

if TYPE_CHECKING:
    from sidecar.config.settings import Settings

ACCOUNT = "acme"
HOST = "127.0.0.1"

_EXAMPLES = (
    "sidecar demo",
    "TMPDIR=/var/tmp sidecar demo",
)

_CONFIGURATION = """\
# The configuration of `sidecar demo`. It is deleted when the demo ends.
listen: {{address: {host}:{proxy_port}}}
upstreams:
  sample: {{url: "http://{host}:{sample_port}"}}
routes:
  - path: /v1/dynamic/listener/{{id}}
accounts:
  {account}: {{password_hash: "{password_hash}"}}
jwt:
  keys:
    - {{id: demo, algorithm: EdDSA, private_key: "${{file:{key_file}}}"}}
store: {{url: embedded}}
portal: {{address: {host}:{portal_port}}}
operations: {{address: {host}:{operations_port}}}
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """The directory and ports of one demo, and the password of its account."""

    directory: Path
    proxy_port: int
    portal_port: int
    operations_port: int
    sample_port: int
    why: str
    """Why these ports are not those that a demo usually has; empty if they are."""
    password: str = field(repr=False)

    @property
    def configuration(self) -> Path:
        """Return the path of the demo's configuration."""
        return self.directory / "sidecar.yaml"

    @property
    def key(self) -> Path:
        """Return the path of the key that signs the demo's JWTs."""
        return self.directory / "demo.pem"

    @property
    def url(self) -> str:
        """Return a URL that the demo's only route matches."""
        return f"http://{HOST}:{self.proxy_port}/v1/dynamic/listener/orders"


def add_to(commands: Subparsers) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "demo",
        help="try everything on this machine: Redis, a sample listener, the proxy, its page",
        description="Start Redis, a sample listener and the proxy with its page on this machine; "
        "create an account, a token and a JWT; and print a curl line for each form of credential. "
        f"The listeners have the ports {WANTED[0]} to {WANTED[-1]}, or the next free ones. "
        "Ctrl-C stops all of it and deletes its data.",
        examples=_EXAMPLES,
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    import uvloop

    from sidecar.wire.descriptors import raise_limit

    raise_limit()
    hold_from_the_start()  # unless ``sidecar.__main__`` does so already
    # An embedded Redis keeps its data beside the configuration, so in that directory too.
    with tempfile.TemporaryDirectory(prefix="sidecar-demo-") as directory:
        uvloop.run(_demonstrate(Path(directory)))
        ignore()
    print("Stopped; all data of the demo is deleted.", flush=True)
    return 0


async def _demonstrate(directory: Path) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with _sample_listener() as sample_port:
        with ExitStack() as reserved:
            stage = _prepare(directory, sample_port, reserved)
            await _serve(stage, stop)


@asynccontextmanager
async def _sample_listener() -> AsyncIterator[int]:
    """Run the sample listener; yield its port."""
    from aiohttp import web

    from sidecar.cli.sample_listener import sample_app

    runner = web.AppRunner(sample_app(), access_log=None, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, 0, shutdown_timeout=1).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _prepare(directory: Path, sample_port: int, reserved: ExitStack) -> Stage:
    """Choose a password, a key and ports, and write the configuration.

    ``reserved`` keeps the ports from other demos until it is closed.
    """
    from sidecar.core.keys import generate_key
    from sidecar.core.passwords import hash_password

    (proxy_port, portal_port, operations_port), why = choose_ports(HOST, reserved)
    stage = Stage(
        directory=directory,
        proxy_port=proxy_port,
        portal_port=portal_port,
        operations_port=operations_port,
        sample_port=sample_port,
        why=why,
        password=secrets.token_urlsafe(12),
    )
    text = _CONFIGURATION.format(
        host=HOST,
        account=ACCOUNT,
        proxy_port=stage.proxy_port,
        portal_port=stage.portal_port,
        operations_port=stage.operations_port,
        sample_port=sample_port,
        password_hash=hash_password(stage.password),
        key_file=stage.key.name,
    )
    stage.key.write_text(generate_key("EdDSA"), encoding="ascii")
    stage.configuration.write_text(text, encoding="utf-8")
    return stage


async def _serve(stage: Stage, stop: asyncio.Event) -> None:
    """Run the proxy until ``stop`` is set; print how to call it as soon as it is ready."""
    from sidecar.config.load import load
    from sidecar.runtime.serve import serve

    settings = load(stage.configuration, {})
    started = asyncio.Event()
    serving = asyncio.create_task(serve(settings, ready=started.set, stop=stop))
    starting = asyncio.create_task(started.wait())
    with activity("start Redis and the proxy"):
        await asyncio.wait({serving, starting}, return_when=asyncio.FIRST_COMPLETED)
    starting.cancel()
    if started.is_set():
        try:
            print(_tell(stage, await _create_tokens(settings)), flush=True)
            _end_with_the_terminal(stop)
        except BaseException:
            stop.set()
            raise
    await serving


def _end_with_the_terminal(stop: asyncio.Event) -> None:
    """Stop when the terminal closes (SIGHUP), or if it closed during the start."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, stop.set)
    if signal.SIGHUP in take():
        stop.set()


async def _create_tokens(settings: Settings) -> dict[TokenKind, str]:
    """Create an access token and a JWT; return them by kind."""
    async with reached_lifecycle(settings) as lifecycle:
        return {
            kind: (await lifecycle.create(ACCOUNT, f"demo {kind}", 1, kind=kind))[1]
            for kind in (TokenKind.ACCESS, TokenKind.JWT)
        }


def _tell(stage: Stage, tokens: dict[TokenKind, str]) -> str:
    """Return the text that the demo prints: the addresses, and the calls to try."""
    calls = "\n".join(f"\n# {form}\n{call}" for form, call in _calls(stage, tokens))
    why = f"{stage.why}\n" if stage.why else ""
    return f"""\
{why}The proxy listens on http://{HOST}:{stage.proxy_port}, in front of a sample listener.
The account {ACCOUNT} may call it with a token or with its password. In another terminal, try:
{calls}

Each call answers 200 and names the account; without the credential, the answer is 401.
API keys page: http://{HOST}:{stage.portal_port}/ (account {ACCOUNT}, password {stage.password})
Configuration: {stage.configuration}
Readiness:     http://{HOST}:{stage.operations_port}/readyz
Ctrl-C stops all of it.
"""


def _calls(stage: Stage, tokens: dict[TokenKind, str]) -> list[tuple[str, str]]:
    """Return each call with what it demonstrates."""
    token, jwt = tokens[TokenKind.ACCESS], tokens[TokenKind.JWT]
    return [
        _header_call(stage, "Authorization: Bearer", f"Authorization: Bearer {token}"),
        _header_call(stage, "Authorization: access_token", f"Authorization: access_token {token}"),
        _header_call(stage, "Authorization without a scheme", f"Authorization: {token}"),
        _header_call(stage, "the access_token header", f"access_token: {token}"),
        _header_call(stage, "the jwt_token header", f"jwt_token: {token}"),
        *(_query_call(stage, key, token) for key in ("access_token", "token", "jwt_token")),
        ("account and password", f"curl -u '{ACCOUNT}:{stage.password}' '{stage.url}'"),
        (
            "the same in the username and password headers",
            f"curl -H 'username: {ACCOUNT}' -H 'password: {stage.password}' '{stage.url}'",
        ),
        ("a token as the user name", f"curl -u '{token}:' '{stage.url}'"),
        ("a token as the account's password", f"curl -u '{ACCOUNT}:{token}' '{stage.url}'"),
        _header_call(stage, "a JWT as Authorization: Bearer", f"Authorization: Bearer {jwt}"),
        _header_call(stage, "a JWT in the jwt_token header", f"jwt_token: {jwt}"),
        _query_call(stage, "jwt_token", jwt, "a JWT as "),
    ]


def _header_call(stage: Stage, shows: str, header: str) -> tuple[str, str]:
    return shows, f"curl -H '{header}' '{stage.url}'"


def _query_call(stage: Stage, key: str, token: str, what: str = "") -> tuple[str, str]:
    return f"{what}?{key}= in the URL", f"curl '{stage.url}?{key}={token}'"
