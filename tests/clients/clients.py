"""The clients: what each needs, how its program is built and run, and what it does its own way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tests.patience import PATIENCE_SECONDS

PROGRAMS: Final = Path(__file__).with_name("programs")
ROOT: Final = PROGRAMS.parents[2]
DEBIAN_AXIOS: Final = Path("/usr/share/nodejs/axios")


class MissingError(Exception):
    """A part of what a client needs is not on this machine."""


@dataclass(frozen=True, slots=True)
class Started:
    """How a client's program is run, and which version it is of."""

    command: list[str]
    version: str
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Client:
    """A column of the table; ``prepare`` takes a directory and the authority's file."""

    name: str
    title: str
    mark: str
    prepare: Callable[[Path, Path], Started]


def _found(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise MissingError(f"no {name} here")
    return found


def _output(*command: str) -> str:
    """Return what a command prints; a failure means that the part is missing."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingError(f"{command[0]} does not run: {error}") from None
    return done.stdout.strip()


def _command_line(name: str) -> Callable[[Path, Path], Started]:
    def prepare(_: Path, __: Path) -> Started:
        told = _output(_found(name), "--version").split()
        number = next(word for word in told if word[0].isdigit())
        return Started([sys.executable, "-m", f"tests.clients.programs.{name}"], number)

    return prepare


def _python(module: str, package: str = "") -> Callable[[Path, Path], Started]:
    def prepare(_: Path, __: Path) -> Started:
        number = ".".join(map(str, sys.version_info[:3]))
        if package:
            if find_spec(package) is None:
                raise MissingError(f"no {package} here")
            try:
                number = version(package)
            except PackageNotFoundError:
                raise MissingError(f"no {package} here") from None
        return Started([sys.executable, "-m", f"tests.clients.programs.{module}"], number)

    return prepare


def _java(program: str, *options: str) -> Callable[[Path, Path], Started]:
    def prepare(directory: Path, _: Path) -> Started:
        sources = [str(PROGRAMS / "Cases.java"), str(PROGRAMS / f"{program}.java")]
        built = directory / program
        _output(_found("javac"), "-d", str(built), *sources)
        number = _output(_found("java"), "--version").split()[1]
        # A JVM that lives for seconds is quicker without its second compiler.
        jvm = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", *options]
        return Started([_found("java"), *jvm, "-cp", str(built), program], number)

    return prepare


def _go(directory: Path, _: Path) -> Started:
    built = directory / "go_net_http"
    _output(_found("go"), "build", "-o", str(built), str(PROGRAMS / "go_net_http.go"))
    return Started([str(built)], _output("go", "version").split()[2].removeprefix("go"))


def _php(program: str, extension: str) -> Callable[[Path, Path], Started]:
    def prepare(_: Path, __: Path) -> Started:
        php = _found("php")
        if _output(php, "-r", f"echo extension_loaded('{extension}') ? 'yes' : 'no';") != "yes":
            raise MissingError(f"PHP has no extension {extension}")
        number = _output(php, "-r", "echo PHP_VERSION;")
        return Started([php, str(PROGRAMS / program)], number)

    return prepare


def _perl(_: Path, __: Path) -> Started:
    perl = _found("perl")
    # Without LWP::Protocol::https it has no TLS.
    number = _output(perl, "-MLWP::Protocol::https", "-MLWP", "-e", "print $LWP::VERSION")
    return Started([perl, str(PROGRAMS / "perl_lwp.pl")], number)


def _ruby(_: Path, __: Path) -> Started:
    ruby = _found("ruby")
    number = _output(ruby, "-rnet/http", "-ropenssl", "-rjson", "-e", "print RUBY_VERSION")
    return Started([ruby, str(PROGRAMS / "ruby_net_http.rb")], number)


def _node(program: str) -> Callable[[Path, Path], Started]:
    def prepare(_: Path, authority: Path) -> Started:
        node = _found("node")
        number = _output(node, "--version").removeprefix("v")
        environment = {"NODE_EXTRA_CA_CERTS": str(authority)}
        return Started([node, str(PROGRAMS / program)], number, environment)

    return prepare


def _axios(directory: Path, _: Path) -> Started:
    """Take Debian's axios, or one that npm can install here and now."""
    node, folder = _found("node"), DEBIAN_AXIOS
    if not folder.is_dir():
        quiet = ("--no-audit", "--no-fund", "--prefix", str(directory))
        _output(_found("npm"), "install", *quiet, "axios@1")
        folder = directory / "node_modules" / "axios"
    number = _output(node, "-p", f"require('{folder}/package.json').version")
    # What Debian's axios depends on is looked for along NODE_PATH by `require` alone.
    environment = {"AXIOS": str(folder / "dist/node/axios.cjs"), "NODE_PATH": str(folder.parent)}
    return Started([node, str(PROGRAMS / "node_axios.cjs")], number, environment)


# Java keeps these for itself unless it is told otherwise; so do those who must send them.
_FREE: Final = (
    "-Dsun.net.http.allowRestrictedHeaders=true",
    "-Djdk.httpclient.allowRestrictedHeaders=connection,upgrade,expect",
)

CLIENTS: Final = (
    Client("curl", "curl", "cu", _command_line("curl")),
    Client("wget", "wget", "wg", _command_line("wget")),
    Client("python-urllib", "Python, urllib", "ur", _python("python_urllib")),
    Client("python-requests", "Python, requests", "re", _python("python_requests", "requests")),
    Client("python-httpx", "Python, httpx", "hx", _python("python_httpx", "httpx")),
    Client("python-aiohttp", "Python, aiohttp", "ai", _python("python_aiohttp", "aiohttp")),
    Client("java-url", "Java, HttpURLConnection", "ju", _java("HttpUrlConnectionProgram", *_FREE)),
    Client("java-net", "Java, java.net.http", "jn", _java("JavaNetHttpProgram", *_FREE)),
    Client("php-curl", "PHP, curl", "pc", _php("php_curl.php", "curl")),
    Client("php-streams", "PHP, streams", "ps", _php("php_streams.php", "openssl")),
    Client("perl-lwp", "Perl, LWP", "pe", _perl),
    Client("ruby", "Ruby, Net::HTTP", "ru", _ruby),
    Client("go", "Go, net/http", "go", _go),
    Client("node-http", "Node.js, http", "nh", _node("node_http.mjs")),
    Client("node-fetch", "Node.js, fetch", "nf", _node("node_fetch.mjs")),
    Client("node-axios", "Node.js, axios", "na", _axios),
)


def run_program(started: Started, told: str) -> tuple[str, str]:
    """Run a client's program over its cases; return its output and its errors, even of a part."""
    clean = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    with subprocess.Popen(
        started.command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**clean, **started.environment},
    ) as process:
        try:
            return process.communicate(told, timeout=2 * PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            output, errors = process.communicate()
            return output, f"it took too long\n{errors}"
