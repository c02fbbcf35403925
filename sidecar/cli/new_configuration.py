"""What ``sidecar init`` writes: a short configuration with its reasons, for a few answers.

It is held to what it is for: ``problems_of`` loads it as every command would, and a warning counts
as a problem.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from sidecar.core.errors import ConfigurationError

NAME: Final = "sidecar.yaml"
LOOPBACK: Final = "127.0.0.1"
_MOST_PORT: Final = 65535
_DEFAULT_PORT: Final = 2020
_ANY_HOST: Final = {"0.0.0.0": LOOPBACK, "[::]": "[::1]"}  # noqa: S104 - not bound, only named
_placeholder: Final = re.compile(r"\{[A-Za-z_][A-Za-z0-9_-]*\}|\*")
_place: Final = re.compile(r".*?:[0-9]+:[0-9]+: (?:warning: )?", re.S)

_TEMPLATE: Final = """\
# Made by `sidecar init`. It holds the hash of a password: keep it from others.
# `sidecar check` checks it; a running sidecar takes up what you change. Other
# keys have good defaults: `man sidecar.yaml`, docs/reference/configuration.md.

listen:
  address: {listen}
  # tls: {{certificate: tls.crt, private_key: tls.key}}

upstreams:
  service:
    url: {upstream}

routes:    # the first match wins; what no route names is 404
  # {{name}}: one segment; *: text within one; /** at the end: any rest
{routes}
accounts:
  {account}:
    password_hash: {password_hash}

store:
  url: {store}{about_store}
{jwt}
portal: {{address: "{portal}"}}        # a page on which accounts make tokens
operations: {{address: "{operations}"}}    # health, readiness, metrics
"""
_ABOUT_EMBEDDED: Final = "    # a Redis of its own, in data/; or redis://HOST:6379/0"
_JWT: Final = """
jwt:
  keys:    # the first one signs, all of them verify
    - {{id: {id}, algorithm: EdDSA, private_key: "${{file:keys/{id}.pem}}"}}
"""


@dataclass(frozen=True, slots=True)
class Answers:
    """What someone wants of a new configuration."""

    upstream: str = "http://127.0.0.1:8080"
    paths: tuple[str, ...] = ("/**",)
    account: str = "acme"
    store: str = "embedded"
    signs: bool = False
    """Whether there is a key that signs JWTs."""
    listen: str = f"{LOOPBACK}:{_DEFAULT_PORT}"
    password_hash: str = field(default="", repr=False)
    key_id: str = field(default_factory=lambda: datetime.now(UTC).strftime("k%Y%m%d"))

    @property
    def key_file(self) -> Path:
        """Where the key is, beside the configuration."""
        return Path("keys", f"{self.key_id}.pem")

    @property
    def portal(self) -> str:
        """The page's address."""
        return f"{LOOPBACK}:{_next_ports(self.listen)[0]}"

    @property
    def operations(self) -> str:
        """The address of the operations listener."""
        return f"{LOOPBACK}:{_next_ports(self.listen)[1]}"


def write_configuration(answers: Answers) -> str:
    """Return the text of the file."""
    return _TEMPLATE.format(
        listen=_scalar(answers.listen),
        upstream=_scalar(answers.upstream),
        routes="".join(f"  - path: {_scalar(path)}\n" for path in answers.paths),
        account=_scalar(answers.account),
        password_hash=answers.password_hash,
        store=_scalar(answers.store),
        about_store=_ABOUT_EMBEDDED if answers.store == "embedded" else "",
        jwt=_JWT.format(id=answers.key_id) if answers.signs else "",
        portal=answers.portal,
        operations=answers.operations,
    )


def problems_of(answers: Answers, key: str) -> list[str]:
    """Return what is wrong with a configuration of these answers, in sentences; warnings too."""
    from sidecar.config.load import load

    found: list[str] = []
    with TemporaryDirectory(prefix="sidecar-init-") as name:
        file = Path(name, NAME)
        write_new(file, write_configuration(answers), 0o600)
        if answers.signs:
            (file.parent / answers.key_file).parent.mkdir()
            write_new(file.parent / answers.key_file, key, 0o600)
        try:
            load(file, os.environ, warn=lambda warning: found.append(warning.sentence))
        except ConfigurationError as error:
            found += error.problems
    return [_place.sub("", problem, count=1) for problem in found]


def write_new(path: Path, text: str, mode: int) -> None:
    """Write a file that did not exist, readable to others at most as ``mode`` says.

    Raises ``FileExistsError``; what was written in part is removed.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except BaseException:
        path.unlink()
        raise


def sample_path(pattern: str) -> str:
    """Return a path that a pattern matches, to try it with."""
    rest = pattern.endswith("/**")
    filled = _placeholder.sub("1", pattern.removesuffix("/**"))
    return f"{filled}/" if rest else filled


def sample_call(listen: str, path: str) -> tuple[tuple[str, ...], str]:
    """Return options of curl and the URL by which ``path`` is called on this machine."""
    options = ("-g",) if set(path) & set("[]{}") else ()
    if listen.startswith("unix:"):
        return (*options, "--unix-socket", listen.removeprefix("unix:")), f"http://localhost{path}"
    host, _, port = listen.rpartition(":")
    return options, f"http://{_ANY_HOST.get(host, host)}:{port}{path}"


def _next_ports(listen: str) -> tuple[int, int]:
    """Return the two ports after the one listened on, or before it at the end of their range."""
    port = listen.rpartition(":")[2]
    first = int(port) if re.fullmatch(r"[0-9]{1,5}", port) else _DEFAULT_PORT
    step = 1 if first + 2 <= _MOST_PORT else -1
    return first + step, first + 2 * step


def _scalar(text: str) -> str:
    """Return a string as YAML, in quotes where it would be read as something else."""
    import yaml

    shown: str = yaml.safe_dump(text, allow_unicode=True, width=float("inf"))
    return shown.removesuffix("\n").removesuffix("\n...")
