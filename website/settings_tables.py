"""The tables of every key in docs/reference/configuration.md, made from the configuration's model.

A row says what a key holds in an admin's words, its default as the file spells it, and what it
means, which is what an editor shows for it. Only the links are added here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from sidecar.config import values
from sidecar.config.differences import is_applied_at_restart
from sidecar.config.error_messages import section_at
from sidecar.config.schema import spelt_default
from sidecar.config.settings import IdentityAttribute, Section
from website.pages import DOCS

PAGE = DOCS / "reference" / "configuration.md"

# What the file holds for each type, for one and for several.
_WORDS: tuple[tuple[Any, str, str], ...] = (
    (values.Switch, "`true` or `false`", ""),
    (values.Duration, "duration", "durations"),
    (values.PositiveDuration, "duration above 0", "durations"),
    (values.Size, "size", "sizes"),
    (values.PositiveSize, "size above 0", "sizes"),
    (values.Count, "number from 0", "numbers"),
    (values.PositiveCount, "number from 1", "numbers"),
    (values.Ratio, "number from 0 to 1", "numbers"),
    (values.Workers, "number from 1 to 1024, or `auto`", ""),
    (values.ListenAddress, "address", "addresses"),
    (values.ListenAddresses, "address, or list of addresses", ""),
    (values.SocketMode, "octal mode, in quotes", ""),
    (values.GroupName, "group of the system", ""),
    (values.ServiceUrl, "URL of a service", ""),
    (values.WebUrl, "URL", "URLs"),
    (values.CollectorUrl, "URL", "URLs"),
    (values.StoreUrlText, "URL of a Redis, or `embedded`", ""),
    (values.FilePath, "file", "files"),
    (values.FilePattern, "file pattern", "file patterns"),
    (values.LogPath, "file, or `-`", ""),
    (values.PlainPath, "path", "paths"),
    (values.PatternText, "path pattern", "path patterns"),
    (values.HostName, "host", "hosts"),
    (values.TrustedNetwork, "network, or `unix`", "networks"),
    (values.Origin, "origin", "origins"),
    (values.Method, "method", "methods"),
    (values.FieldName, "header name", "header names"),
    (values.IdentityHeader, "header name", "header names"),
    (values.CredentialHeader, "header name", "header names"),
    (values.QueryName, "parameter name", "parameter names"),
    (values.AuthorizationScheme, "scheme", "schemes"),
    (values.PasswordHash, "password hash", ""),
    (values.AccountGroup, "group name", "group names"),
    (values.Name, "name", "names"),
    (values.TokenPrefix, "text of up to 15 characters", ""),
    (values.KeyPrefix, "text of 1 to 64 characters", ""),
    (values.Claim, "claim name, or list of them", ""),
    (values.AccountsByClaim, "mapping of text to account", ""),
    (values.SecretHeaders, "mapping of header name to text", ""),
    (values.ByHeader[IdentityAttribute], "mapping of header name to content", ""),
    (values.QueryForm, "`true`, `false`, or list of parameter names", ""),
    (values.Text, "text", "texts"),
)
# Types that are nothing but text in the model: what the text is.
_TEXT = {
    "routes[].upstream": ("name of an upstream", ""),
    "routes[].accounts": ("account", "accounts and groups"),
    "jwt.keys[].private_key": ("PEM text", ""),
}
# Where a key is explained further: the words of its meaning that lead there.
_LINKS = {
    "listen.proxy_protocol": ("PROXY header", "behaviour.md#proxy-headers"),
    "listen.health_path": ("without a credential", "behaviour.md#health-on-the-traffics-port"),
    "upstreams.NAME.via": (
        "compresses its answers",
        "../how-to/put-it-in-front-of-a-service.md#the-service-no-longer-compresses",
    ),
    "routes[].bad_credentials": ("bad one", "behaviour.md#optional-credentials"),
    "routes[].encoded_slash": (
        "unless it could lead to another rule",
        "behaviour.md#encoded-slashes",
    ),
    "accounts.NAME.password_hash": ("that of an existing system", "#accounts"),
    "tokens.expiry_notice": ("`X-Token-Expires`", "behaviour.md"),
    "limits.connections": ("descriptors", "behaviour.md#connections-of-callers"),
    "limits.min_rate": ("each second", "behaviour.md#bodies-that-move-too-slowly"),
    "trusted_proxies": ("are believed", "behaviour.md#the-clients-address"),
    "portal.address": ("page and the token API", "portal.md"),
    "operations.address": ("health, metrics and the decision endpoint", "endpoints.md"),
}
_HEAD = "| key | holds | default | meaning |\n|---|---|---|---|\n"
_TABLE = re.compile(r"^(<!-- keys of (\w+), .* -->\n\n)(?:\|.*\n)*", re.M)


class Key(NamedTuple):
    """A key that holds a value: its path as documented, its section, and its name there."""

    path: str
    section: type[Section]
    name: str


def walk_keys(steps: tuple[str | int, ...] = (), path: str = "") -> Iterator[Key]:
    """Yield every key that holds a value, in the model's order.

    ``NAME`` stands for a name of the admin's own, ``[]`` for each entry of a list.
    """
    section = section_at(steps)
    assert section is not None
    for name, field in section.model_fields.items():
        inner, inner_path = (*steps, name), f"{path}.{name}".removeprefix(".")
        is_mapping = get_origin(field.annotation) is Mapping
        within: tuple[str | int, str] = ("NAME", ".NAME") if is_mapping else (0, "[]")
        if section_at(inner) is not None:
            yield from walk_keys(inner, inner_path)
        elif section_at((*inner, within[0])) is not None:
            yield from walk_keys((*inner, within[0]), inner_path + within[1])
        else:
            yield Key(inner_path, section, name)


def with_tables(text: str) -> str:
    """Return the page with a table after each line such as ``<!-- keys of listen, … -->``."""
    return _TABLE.sub(lambda found: found[1] + _table(found[2]), text)


def _table(section: str) -> str:
    rows = (_row(key) for key in walk_keys() if re.split(r"[.\[]", key.path)[0] == section)
    return _HEAD + "".join(rows)


def _row(key: Key) -> str:
    cells = (f"`{key.path}`", _holds(key), _default(key), _meaning(key))
    return f"| {' | '.join(cells)} |\n"


def _default(key: Key) -> str:
    if key.section.model_fields[key.name].is_required():
        return "required"
    default = spelt_default(key.section, key.name)
    if default is None:
        return "none"
    if isinstance(default, float) and default.is_integer():
        default = int(default)
    # The text "0660" needs its quotes in the file; other texts need none.
    is_text = isinstance(default, str) and not default.isdigit()
    return f"`{default if is_text else json.dumps(default)}`"


def meaning_of(key: Key) -> str:
    """Return what a key means, in one line."""
    return " ".join((key.section.model_fields[key.name].description or "").split())


def _meaning(key: Key) -> str:
    meaning = meaning_of(key).replace("|", "\\|")
    if key.path in _LINKS:
        words, target = _LINKS[key.path]
        assert words in meaning, f"{key.path} no longer says {words!r}, which is to be a link"
        meaning = meaning.replace(words, f"[{words}]({target})", 1)
    return meaning + (" *Needs a restart.*" if is_applied_at_restart(key.path) else "")


def _holds(key: Key) -> str:
    """Return what the file may hold for a key, in an admin's words."""
    hint = get_type_hints(key.section, include_extras=True)[key.name]
    if key.path in _TEXT:
        one, several = _TEXT[key.path]
        return f"list of {several}" if several else one
    return _words(hint, key.path)[0]


def _words(hint: Any, path: str) -> tuple[str, str]:
    for known, one, several in _WORDS:
        if hint == known:
            return one, several
    if get_origin(hint) is Annotated:
        return _words(get_args(hint)[0], path)
    if get_origin(hint) in (Union, UnionType):
        (inner,) = (part for part in get_args(hint) if part is not NoneType)
        return _words(inner, path)
    if get_origin(hint) is Literal:
        return _choices(get_args(hint)), f"of {_choices(get_args(hint))}"
    if get_origin(hint) is tuple:
        return f"list of {_words(get_args(hint)[0], path)[1]}".replace("of of", "of"), ""
    raise LookupError(f"say in website/settings_tables.py what {path} holds: {hint}")


def _choices(names: tuple[str, ...]) -> str:
    *first, last = (f"`{name}`" for name in names)
    return f"{', '.join(first)} or {last}"
