"""What ``store.url`` means: which Redis, as whom, in which database, with or without TLS.

===================================================  ===============================================
``redis://[user:password@]host[:port][/db]``         one Redis
``rediss://...``                                     the same over TLS
``unix:///path/to/socket[?db=0]``                    one Redis on a unix socket
``redis+sentinel://h1:26379,h2:26379/NAME[/db]``     the master that Sentinels name
``redis+cluster://h1:6379,h2:6379``                  a Cluster
===================================================  ===============================================

``rediss+sentinel://`` and ``rediss+cluster://`` are those over TLS. Query options: ``db``,
``username``, ``password``, ``sentinel_username``, ``sentinel_password``, and the ``ssl_*`` options
of redis-py.

The configuration is checked with this parser, and the sidecar runs with it: a URL that passes can
be used. So nothing is ignored: what would be is refused. Errors never repeat a faulty URL, which
may hold a password.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode

from sidecar.core.authority import HostPort, is_host, read_hosts, split_url
from sidecar.core.errors import UsageError
from sidecar.store.endpoints import Endpoint, Login

_TLS_OPTIONS: Final = frozenset(
    f"ssl_{name}"
    for name in (
        *("ca_certs", "ca_path", "certfile", "keyfile", "password"),
        *("cert_reqs", "check_hostname", "ciphers"),
    )
)
_SENTINEL_OPTIONS: Final = frozenset({"sentinel_username", "sentinel_password"})
_OPTIONS: Final = frozenset({"db", "username", "password"}) | _SENTINEL_OPTIONS | _TLS_OPTIONS
_SWITCH: Final = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}
_VERIFIES: Final = ("none", "optional", "required")
_REDIS_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_LARGEST_DATABASE: Final = 99_999
_UNIX_PATH_BYTES: Final = 107  # sun_path of unix(7), less its final NUL
_ESCAPES: Final = "%40 for @, %2F for /, %3A for :, %3F for ?, %23 for #, %25 for %"
_TLS_MISTAKES: Final = frozenset({"ssl", "tls", "use_ssl", "use_tls", "ssl_enabled", "secure"})
TLS_FILES: Final = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
"""The options that name files; ``ssl_ca_path`` names a directory."""
_find_blank: Final = re.compile(r"[\x00-\x20\x7f\s]").search


class Topology(Enum):
    """How many servers there are, and how the one to ask is found."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


class UnusableUrl(UsageError):
    """A store can't be reached by this URL.

    ``why`` continues a sentence that begins with the URL's name; ``advice`` says what to write.
    """

    def __init__(self, why: str, advice: str) -> None:
        super().__init__(f"store.url {why}; {advice}")
        self.why = why
        self.advice = advice


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A checked store URL. ``repr`` shows no password."""

    topology: Topology
    nodes: tuple[Endpoint, ...]
    """The Redis, or the Sentinels, or some nodes of the Cluster."""
    login: Login
    is_tls: bool = False
    tls_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """redis-py's ``ssl_*`` options; one of them can be the password of a private key."""
    service: str = ""
    """The name under which Sentinels know the master."""
    sentinel_login: Login = field(default_factory=Login)

    def __str__(self) -> str:
        """Return the URL without user, password and options, for a log."""
        scheme = "rediss" if self.is_tls else "redis"
        if self.topology is not Topology.SINGLE:
            scheme += f"+{self.topology.value}"
        if self.nodes[0].path is not None:
            return f"unix://{self.nodes[0].path}{_shown_database(self.login, '?db=')}"
        hosts = ",".join(map(_shown_node, self.nodes))
        service = f"/{self.service}" if self.service else ""
        return f"{scheme}://{hosts}{service}{_shown_database(self.login, '/')}"


def _shown_database(login: Login, mark: str) -> str:
    return f"{mark}{login.database}" if login.database else ""


def _shown_node(node: Endpoint) -> str:
    return f"[{node.host}]:{node.port}" if ":" in node.host else f"{node.host}:{node.port}"


_KINDS: Final = {
    "redis": (Topology.SINGLE, False),
    "rediss": (Topology.SINGLE, True),
    "unix": (Topology.SINGLE, False),
    "redis+sentinel": (Topology.SENTINEL, False),
    "rediss+sentinel": (Topology.SENTINEL, True),
    "redis+cluster": (Topology.CLUSTER, False),
    "rediss+cluster": (Topology.CLUSTER, True),
}


def parse_store_url(url: str) -> StoreUrl:
    """Return what ``url`` means; raises ``UnusableUrl``, which does not repeat the URL."""
    if _find_blank(url):
        raise UnusableUrl("contains white space or a line break", "remove it, or write %20")
    parts = split_url(url)
    if parts.scheme not in _KINDS:
        raise UnusableUrl(
            "is not the URL of a store",
            "write embedded, redis://host:6379/0, rediss://, unix:///path, "
            "redis+sentinel://host:26379/name/0 or redis+cluster://host:6379",
        )
    topology, is_tls = _KINDS[parts.scheme]
    _refuse_cut_password(parts)
    options = _parse_options(parts.query, topology)
    service, database = _split_path(parts, topology)
    return StoreUrl(
        topology=topology,
        nodes=_parse_nodes(parts, topology),
        login=_parse_login(parts, options, database),
        is_tls=is_tls,
        tls_options=_parse_tls(options, is_tls),
        service=service,
        sentinel_login=_login(
            options.get("sentinel_username"), options.get("sentinel_password"), 0
        ),
    )


def place_files(url: str, directory: Path) -> str:
    """Return ``url`` with the TLS files that it names made absolute, from ``directory``.

    Raises ``UnusableUrl``.
    """
    named = parse_store_url(url).tls_options
    if all(Path(named[name]).is_absolute() for name in TLS_FILES if name in named):
        return url
    parts = split_url(url)
    options = [
        (name, str(directory.absolute() / text) if name in TLS_FILES else text)
        for name, text in parse_qsl(parts.query, keep_blank_values=True)
    ]
    return f"{url.partition('?')[0]}?{urlencode(options)}"


def _refuse_cut_password(parts: SplitResult) -> None:
    """Refuse a URL that was cut within its password, or has a fragment, which means nothing."""
    is_cut = "@" in parts.fragment or ("@" in parts.path and parts.scheme != "unix")
    if is_cut or ("@" in parts.query and not _has_hosts(parts)):
        raise UnusableUrl(
            "is cut short by a character of its password",
            f"percent-encode the password ({_ESCAPES})",
        )
    if parts.fragment:
        raise UnusableUrl("contains a #", "write %23 for one in a password, or remove it")


def _has_hosts(parts: SplitResult) -> bool:
    try:
        return parts.scheme == "unix" or bool(read_hosts(parts.netloc))
    except ValueError:
        return False


def _parse_options(query: str, topology: Topology) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    for name, count in Counter(name for name, _ in pairs).items():
        if name not in _OPTIONS:
            raise _unknown_option(name, query)
        if count > 1:
            raise UnusableUrl(f"has the option {name} {count} times", "keep one of them")
    options = dict(pairs)
    if topology is not Topology.SENTINEL and _SENTINEL_OPTIONS & options.keys():
        raise UnusableUrl(
            "has a sentinel_ option and names no Sentinels",
            "remove it, or write redis+sentinel://host:26379/name/0",
        )
    return options


def _unknown_option(name: str, query: str) -> UnusableUrl:
    if name in _TLS_MISTAKES:
        return UnusableUrl(f"has an unknown option {name}", "for TLS, begin it with rediss")
    is_shown = re.fullmatch(r"[a-z_]{1,32}", name) is not None and "@" not in query
    what = f"has an unknown option {name}" if is_shown else "has an unknown option after its ?"
    return UnusableUrl(what, f"remove it; the options are {', '.join(sorted(_OPTIONS))}")


def _split_path(parts: SplitResult, topology: Topology) -> tuple[str, str]:
    """Return the Sentinels' service name and the database as written; either may be empty."""
    path = _decode(parts.path).strip("/")
    if parts.scheme == "unix":
        return "", ""
    if topology is not Topology.SENTINEL:
        return "", path
    service, _, database = path.partition("/")
    if not service:
        raise UnusableUrl("names no master", "write redis+sentinel://host:26379/NAME/0")
    return service, database


def _parse_nodes(parts: SplitResult, topology: Topology) -> tuple[Endpoint, ...]:
    if parts.scheme == "unix":
        return (Endpoint(path=_parse_socket(parts)),)
    try:
        hosts = read_hosts(parts.netloc)
    except ValueError:
        raise UnusableUrl(
            "has a host or port that can't be read", f"write it like {_example(parts.scheme)}"
        ) from None
    if topology is Topology.SINGLE and len(hosts) > 1:
        raise UnusableUrl(
            "names several hosts", "write redis+sentinel://h1,h2/NAME/0 or redis+cluster://h1,h2"
        )
    default = _SENTINEL_PORT if topology is Topology.SENTINEL else _REDIS_PORT
    return tuple(_parse_node(host, default) for host in hosts)


def _example(scheme: str) -> str:
    end = ":26379/NAME/0" if scheme.endswith("+sentinel") else ":6379"
    return f"{scheme}://:password@host{end}"


def _parse_socket(parts: SplitResult) -> str:
    path = _decode(parts.path)
    if not path.startswith("/") or path == "/" or parts.netloc.rpartition("@")[2]:
        raise UnusableUrl("names no socket", "write unix:///path/to/socket")
    if "\0" in path:
        raise UnusableUrl("names a socket that can't exist", "remove the %00")
    if len(path.encode()) > _UNIX_PATH_BYTES:
        raise UnusableUrl(
            f"names a socket by more than {_UNIX_PATH_BYTES} bytes", "choose a shorter path"
        )
    return path


def _parse_node(host: HostPort, default: int) -> Endpoint:
    name = _decode(host.name)
    if host.port == 0:
        raise UnusableUrl("has the port 0", f"name the port that Redis listens on, as :{default}")
    if not is_host(name):
        raise UnusableUrl(
            "has a host that is neither a name nor an IP address",
            "write the name in ASCII letters, digits, - and .",
        )
    return Endpoint(name, host.port or default)


def _parse_login(parts: SplitResult, options: Mapping[str, str], database: str) -> Login:
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    return _login(
        _only(_decode(user), options.get("username"), "user"),
        _only(_decode(password), options.get("password"), "password"),
        _parse_database(_only(database, options.get("db"), "database"), parts.scheme),
    )


def _only(written: str, option: str | None, kind: str) -> str:
    """Return what stands in the URL, or in its options; refuse two values that differ."""
    if written and option is not None and option != written:
        raise UnusableUrl(f"has a {kind} twice", "remove one of them")
    return written or option or ""


def _parse_database(text: str, scheme: str) -> int:
    number = text or "0"
    if not (number.isascii() and number.isdigit() and int(number[:9]) <= _LARGEST_DATABASE):
        where = "?db=0" if scheme == "unix" else "/0 at its end"
        raise UnusableUrl("has a database that is not a number", f"write it as {where}")
    if scheme.endswith("+cluster") and int(number):
        raise UnusableUrl("has a database, and a Redis Cluster has 0 alone", "remove it")
    return int(number)


def _login(username: str | None, password: str | None, database: int) -> Login:
    return Login(username or "default", password or None, database)


def _decode(text: str) -> str:
    """Decode percent-encoding; UTF-8 alone, as a replaced byte would be a wrong password."""
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise UnusableUrl(
            "has a percent-encoding that is not UTF-8", f"correct it ({_ESCAPES})"
        ) from None


def _parse_tls(options: Mapping[str, str], is_tls: bool) -> dict[str, Any]:
    chosen: dict[str, Any] = {name: options[name] for name in _TLS_OPTIONS & options.keys()}
    if chosen and not is_tls:
        raise UnusableUrl("has ssl_ options and no TLS", "begin it with rediss instead of redis")
    for name in sorted(chosen):
        if not chosen[name]:
            raise UnusableUrl(f"has an empty {name}", "give it a value, or remove it")
    if "ssl_keyfile" in chosen and "ssl_certfile" not in chosen:
        raise UnusableUrl("has an ssl_keyfile and no ssl_certfile", "add the certificate's file")
    if "ssl_check_hostname" in chosen:
        chosen["ssl_check_hostname"] = _parse_switch(chosen["ssl_check_hostname"])
    if "ssl_cert_reqs" in chosen:
        chosen["ssl_cert_reqs"] = _parse_verification(chosen["ssl_cert_reqs"])
    if chosen.get("ssl_cert_reqs") == "none":
        chosen["ssl_check_hostname"] = False
    return chosen


def _parse_switch(text: str) -> bool:
    if text.lower() not in _SWITCH:
        raise UnusableUrl("has an ssl_check_hostname that is neither", "write true or false")
    return _SWITCH[text.lower()]


def _parse_verification(text: str) -> str:
    """Return how a certificate is verified; Celery's spelling, ``CERT_NONE``, is accepted."""
    meant = text.lower().removeprefix("cert_")
    if meant not in _VERIFIES:
        raise UnusableUrl("has an unknown ssl_cert_reqs", f"write {', '.join(_VERIFIES)}")
    return meant
