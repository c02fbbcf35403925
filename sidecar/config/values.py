"""The types of values that keys can have: how each is parsed, and how the schema describes it."""

from __future__ import annotations

import grp
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapSerializer,
    WrapValidator,
)
from pydantic_core import core_schema

from sidecar.config import endpoints, origins, units
from sidecar.config.diagnostics import Rejected
from sidecar.config.header_names import (
    check_credential_header,
    check_identity_header,
    check_scheme,
)
from sidecar.config.substitution import Substituted
from sidecar.core.account_names import ACCOUNT_NAME, ACCOUNT_NAME_ADVICE
from sidecar.core.authority import check_web_url, is_host
from sidecar.core.kinds import Form
from sidecar.core.passwords import UnusableHash, check_hash
from sidecar.core.patterns import BadPattern, compile_pattern
from sidecar.store.store_url import UnusableUrl, place_files

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_T = TypeVar("_T")

_CLAIM_PATTERN = r"[^\x00-\x1f\x7f]{1,256}"
_MOST_STEPS = 8
_LAST_PLACE = 9999


@dataclass(frozen=True, slots=True)
class StringRule:
    """A string must match the whole ``pattern``. If it is secret, it is never shown."""

    pattern: str
    why: str
    advice: str
    is_secret: bool = False

    def check(self, value: object) -> object:
        """Return ``value``; raise ``Rejected`` for a string that does not match."""
        if isinstance(value, str) and re.fullmatch(self.pattern, value) is None:
            raise Rejected(self.why, self.advice, None if self.is_secret else value)
        return value

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "pattern": f"^(?:{self.pattern})$"}


def _checked(check: Callable[[str], str]) -> BeforeValidator:
    """Return a validator that runs before the value becomes a plain ``str``."""
    return BeforeValidator(lambda value: check(value) if isinstance(value, str) else value)


def _read_whole_number(value: object) -> object:
    # Only a substituted string is read as a number; a quoted number in the file is a mistake.
    if isinstance(value, Substituted) and re.fullmatch(r"-?[0-9]{1,15}", value):
        return int(value)
    return value


def _read_switch(value: object) -> object:
    if isinstance(value, Substituted):
        return {"true": True, "false": False}.get(value, value)
    return value


def _read_share(value: object) -> object:
    if isinstance(value, Substituted) and re.fullmatch(r"[01](?:\.[0-9]{1,15})?", value):
        return float(value)
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if is_whole else value  # type: ignore[arg-type]


def _positive_duration(value: object) -> float:
    seconds = units.parse_duration(value)
    if seconds == 0:
        raise Rejected("is 0", "write a duration above 0, such as 5s")
    return seconds


def _positive_size(value: object) -> int:
    size_bytes = units.parse_size(value)
    if size_bytes == 0:
        raise Rejected("is 0", "write a size above 0, such as 16KiB")
    return size_bytes


def _read_workers(value: object) -> int | str:
    number = _read_whole_number(value)
    if number == "auto":
        return "auto"
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 1024:
        raise Rejected(
            "is not a number of workers", "write a number from 1 to 1024, or auto", value
        )
    return number


def _read_network(value: object) -> IPNetwork | Literal["unix"]:
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    if value == "unix":  # the peers of unix sockets, which have no address
        return "unix"
    if not isinstance(value, str):
        raise Rejected("is not a network", "write it like 10.0.0.0/8, fd00::/8 or 127.0.0.1")
    try:
        return ipaddress.ip_network(value)
    except ValueError:
        raise Rejected("is not a network", _network_advice(value), value) from None


def _read_addresses(
    value: object, read: ValidatorFunctionWrapHandler
) -> tuple[endpoints.SocketAddress, ...]:
    """Read one address, or a list of them, each of which may be wrong by itself."""
    if isinstance(value, list | tuple):
        listed: tuple[endpoints.SocketAddress, ...] = read(value)
        return listed
    return (endpoints.parse_address(value),)


def _dump_addresses(addresses: tuple[endpoints.SocketAddress, ...]) -> str | list[str]:
    listed = [str(address) for address in addresses]
    return listed[0] if len(listed) == 1 else listed


def _read_mode(value: object) -> int:
    """Return the permissions that a text such as ``"0660"`` means."""
    if isinstance(value, str) and re.fullmatch(r"0?[0-7]{3}", value):
        return int(value, 8)
    advice = 'write three octal digits in quotes, such as "0660"'
    raise Rejected("is not the mode of a socket", advice, value if isinstance(value, str) else None)


def _format_mode(mode: int) -> str:
    return f"{mode:04o}"


def _check_group(name: str) -> str:
    try:
        known = name.isdecimal() or bool(grp.getgrnam(name))
    except (KeyError, ValueError):
        known = False
    if not known:
        advice = "name one that `getent group` lists, or write its number"
        raise Rejected("is not a group of this system", advice, name)
    return name


def _network_advice(value: str) -> str:
    try:
        meant = ipaddress.ip_network(value, strict=False)
    except ValueError:
        return "write it like 10.0.0.0/8, fd00::/8 or 127.0.0.1"
    if isinstance(value, Substituted):
        return "its bits after the prefix length must be 0"
    return f"its bits after the prefix length must be 0: did you mean {meant}?"


def _resolve_path(value: object, info: ValidationInfo) -> Path:
    """Return the path; a relative one starts at the directory of the configuration file."""
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise Rejected(
            "is not a file path", "write a path, absolute or relative to the configuration file"
        )
    directory: Path = (info.context or {}).get("directory", Path())
    return directory / value


def _resolve_log_path(value: object, info: ValidationInfo) -> str:
    return "-" if value == "-" else str(_resolve_path(value, info))


def _read_claim(value: object) -> tuple[str, ...]:
    """Return the path to a claim: its name, or a list of names (and of places in lists)."""
    steps = value if isinstance(value, list | tuple) else [value] * isinstance(value, str)
    if not 1 <= len(steps) <= _MOST_STEPS or not all(map(_is_step, steps)):
        raise Rejected(
            "is not a claim",
            f"write its name, or a path of up to {_MOST_STEPS} names: [realm_access, account]",
            value if isinstance(value, str) else None,
        )
    return tuple(str(step) for step in steps)


def _is_step(step: object) -> bool:
    if isinstance(step, str):
        return re.fullmatch(_CLAIM_PATTERN, step) is not None
    return isinstance(step, int) and not isinstance(step, bool) and 0 <= step <= _LAST_PLACE


def _write_claim(path: tuple[str, ...]) -> str | list[str]:
    return path[0] if len(path) == 1 else list(path)


def _check_password_hash(value: str) -> str:
    if re.fullmatch(r"\$argon2id\$v=19\$m=[0-9]+", value):
        raise Rejected("is cut off at a comma", "put the hash in quotes")
    try:
        check_hash(value)
    except UnusableHash as error:
        raise Rejected(error.why, error.advice) from None
    return value


def _check_path_pattern(value: str) -> str:
    try:
        compile_pattern(value)
    except BadPattern as error:
        # The reason may quote a part of the value, which is not shown if it was substituted.
        reason = "" if isinstance(value, Substituted) else f": it {error.reason}"
        raise Rejected(f"is not a path pattern{reason}", _pattern_advice(value), value) from None
    return value


def _pattern_advice(value: str) -> str:
    """Translate the spellings of other programs."""
    typed = re.search(r"\{([A-Za-z_]\w*)(?::[^}]*|\?|\.\.\.|\*)\}", value)
    if typed is not None and not isinstance(value, Substituted):
        return f"write {{{typed[1]}}} for one segment, and a trailing /** for any rest"
    if re.search(r"^\^|\\|\(\?|\$$", value):
        return (
            "this is not a regular expression: write {name} for one segment, * within one, and a "
            "trailing /** for any rest"
        )
    return "write it like /v1/items/{id}, /files/a* or /static/**"


def _check_store_url(value: object, info: ValidationInfo) -> object:
    """Check the URL with the parser that the sidecar runs with; its files become absolute."""
    if not isinstance(value, str) or value == "embedded":
        return value
    try:
        placed = place_files(value, (info.context or {}).get("directory", Path()))
    except UnusableUrl as error:
        raise Rejected(error.why, error.advice) from None
    return value if placed == value else placed


def _check_host_name(value: str) -> str:
    if not is_host(value) or value.endswith("."):
        advice = "write it like service.internal or 10.0.0.1, without a scheme or port"
        raise Rejected("is not the name of a host", advice, value)
    return value


def _check_web_url(value: str) -> str:
    """Refuse the URLs that nothing could be fetched from; the message never holds the URL."""
    try:
        check_web_url(value)
    except ValueError:
        raise Rejected(
            "has a host, port or character that can't be read",
            "write it like https://host/path or https://host:8443/path",
        ) from None
    return value


def _dump_mapping(value: Mapping[str, Any], dump: SerializerFunctionWrapHandler) -> Any:
    return dump(dict(value))


def _freeze(value: Mapping[str, _T]) -> Mapping[str, _T]:
    return MappingProxyType(dict(value))


Duration = Annotated[
    float,
    PlainValidator(units.parse_duration),
    PlainSerializer(units.format_duration),
    WithJsonSchema(
        {"type": ["string", "integer"], "pattern": units.DURATION_PATTERN, "maximum": 0}
    ),
]
"""Seconds, 0 or more."""

PositiveDuration = Annotated[
    float,
    PlainValidator(_positive_duration),
    PlainSerializer(units.format_duration),
    WithJsonSchema({"type": "string", "pattern": units.DURATION_PATTERN}),
]
"""Seconds, more than 0."""

Size = Annotated[
    int,
    PlainValidator(units.parse_size),
    PlainSerializer(units.format_size),
    WithJsonSchema({"type": ["string", "integer"], "pattern": units.SIZE_PATTERN, "minimum": 0}),
]
"""Bytes, 0 or more."""

PositiveSize = Annotated[
    int,
    PlainValidator(_positive_size),
    PlainSerializer(units.format_size),
    WithJsonSchema({"type": ["string", "integer"], "pattern": units.SIZE_PATTERN, "minimum": 1}),
]
"""Bytes, 1 or more."""

ListenAddress = Annotated[
    endpoints.SocketAddress,
    PlainValidator(endpoints.parse_address),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": endpoints.ADDRESS_PATTERN}),
]
ListenAddresses = Annotated[
    tuple[ListenAddress, ...],
    Field(strict=False, min_length=1),
    WrapValidator(_read_addresses),
    PlainSerializer(_dump_addresses),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": endpoints.ADDRESS_PATTERN},
                {
                    "type": "array",
                    "minItems": 1,
                    "items": {"type": "string", "pattern": endpoints.ADDRESS_PATTERN},
                },
            ]
        }
    ),
]
"""One address, or several in a list."""
SocketMode = Annotated[
    int,
    PlainValidator(_read_mode),
    PlainSerializer(_format_mode),
    WithJsonSchema({"type": "string", "pattern": "^0?[0-7]{3}$"}),
]
"""The permissions of a unix socket, such as 0o660."""
ServiceUrl = Annotated[
    endpoints.UpstreamUrl,
    PlainValidator(endpoints.parse_upstream_url),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": endpoints.URL_PATTERN}),
]
TrustedNetwork = Annotated[
    IPNetwork | Literal["unix"],
    PlainValidator(_read_network),
    PlainSerializer(str),
    WithJsonSchema({"type": "string"}),
]
FilePath = Annotated[
    Path, PlainValidator(_resolve_path), PlainSerializer(str), WithJsonSchema({"type": "string"})
]
LogPath = Annotated[str, PlainValidator(_resolve_log_path), WithJsonSchema({"type": "string"})]
Workers = Annotated[
    int | Literal["auto"],
    PlainValidator(_read_workers),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 1024}, {"const": "auto"}]}
    ),
]
Claim = Annotated[
    tuple[str, ...],
    PlainValidator(_read_claim),
    PlainSerializer(_write_claim),
    WithJsonSchema(
        {
            "type": ["string", "array"],
            "pattern": f"^{_CLAIM_PATTERN}$",
            "items": {
                "type": ["string", "integer"],
                "pattern": f"^{_CLAIM_PATTERN}$",
                "minimum": 0,
                "maximum": _LAST_PLACE,
            },
            "minItems": 1,
            "maxItems": _MOST_STEPS,
        }
    ),
]
"""The path to a claim in a JWT; one of a single step is written as that step."""

Switch = Annotated[bool, BeforeValidator(_read_switch)]
Count = Annotated[int, Field(ge=0, le=10**9), BeforeValidator(_read_whole_number)]
PositiveCount = Annotated[int, Field(ge=1, le=10**9), BeforeValidator(_read_whole_number)]

Ratio = Annotated[float, Field(ge=0, le=1), BeforeValidator(_read_share)]

PasswordHash = Annotated[str, _checked(_check_password_hash)]
GroupName = Annotated[str, _checked(_check_group)]
PatternText = Annotated[str, _checked(_check_path_pattern)]
StoreUrlText = Annotated[str, BeforeValidator(_check_store_url)]
IdentityHeader = Annotated[str, _checked(check_identity_header)]
CredentialHeader = Annotated[str, _checked(check_credential_header)]
AuthorizationScheme = Annotated[str, _checked(check_scheme)]
HostName = Annotated[str, _checked(_check_host_name)]
"""A host without a port: a name, or an IP address without brackets."""


class _FormsInShort:
    """What a route may say of credentials in short: a list of forms, or ``optional``."""

    def _expand(self, value: object, read: core_schema.ValidatorFunctionWrapHandler) -> Any:
        if isinstance(value, list | tuple):
            forms = _FORMS.validate_python(value)
            return read({form.value: form in forms for form in Form})
        if isinstance(value, str):
            if value != "optional":
                advice = "write optional, or a list of forms such as [bearer, basic]"
                raise Rejected("is no rule for credentials", advice, value)
            return read({"optional": True})
        return read(value)

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_wrap_validator_function(self._expand, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        forms = {"type": "array", "items": {"enum": [*map(str, Form)]}, "minItems": 1}
        return {"anyOf": [forms, {"const": "optional"}, handler(schema)]}


def _shorten_forms(rule: Any) -> Any:
    """Spell what a route says of credentials as short as the file may."""
    told = rule.model_dump(mode="json")
    accepted = [form for form in map(str, Form) if told[form] is not False]
    if isinstance(told["query"], list) or (told["optional"] and len(accepted) < len(Form)):
        return told
    return "optional" if told["optional"] else accepted


def _read_query_names(value: object) -> object:
    if isinstance(value, list | tuple):
        return _QUERY_NAMES.validate_python(value)
    return _SWITCH.validate_python(value)


Text = Annotated[
    str,
    StringRule(r"[\x20-\x7e]{1,200}", "is not plain text", "use 1 to 200 visible ASCII characters"),
]
WebUrl = Annotated[
    str,
    _checked(_check_web_url),
    StringRule(
        r"https?://[^\s/@?#]+(?:/[^\s#]*)?",
        "is not a URL",
        "write https://host/path (http:// in a trusted network only)",
        is_secret=True,
    ),
]
CollectorUrl = Annotated[
    str,
    _checked(_check_web_url),
    StringRule(
        r"https?://[^\s/@?#]+/[^\s?#]*",
        "is not the URL of a collector",
        "write http://host:4318/v1/traces; a key for it goes into tracing.headers",
        is_secret=True,
    ),
]
"""The endpoint is not secret, but a value written there by mistake may be."""
AccountName = Annotated[
    str, StringRule(ACCOUNT_NAME, "is not an account name", ACCOUNT_NAME_ADVICE)
]
AccountGroup = Annotated[
    str,
    StringRule(
        r"[A-Za-z0-9._-]{1,64}",
        "is not the name of a group",
        "use 1 to 64 of A-Z a-z 0-9 . _ -; only a route puts @ before it",
    ),
]
FilePattern = Annotated[
    str,
    StringRule(
        r"[^\0]{1,4096}",
        "is not a file",
        "write a file's path, with * for any characters of a name",
    ),
]
Name = Annotated[
    str, StringRule(r"[A-Za-z0-9._-]{1,64}", "is not a name", "use 1 to 64 of A-Z a-z 0-9 . _ -")
]
Origin = Annotated[
    str,
    _checked(origins.parse_origin),
    WithJsonSchema({"type": "string", "pattern": f"^(?:{origins.ORIGIN_PATTERN})$"}),
]
FieldName = Annotated[
    str,
    StringRule(
        r"[!#$%&'+.^_`|~0-9A-Za-z-]{1,64}",
        "is not the name of a header",
        "write it like Content-Type",
    ),
]
Method = Annotated[
    str,
    StringRule(
        r"[A-Z][A-Z0-9_-]{0,31}", "is not a method", "write it in capitals, such as GET or POST"
    ),
]
PlainPath = Annotated[
    str,
    StringRule(
        r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]{1,64}){1,8}",
        "is not a plain path",
        "write it like /healthz: up to 8 segments of A-Z a-z 0-9 . _ ~ -",
    ),
]
"""A path without patterns, queries, escapes and dot segments."""
QueryName = Annotated[
    str,
    StringRule(
        r"[A-Za-z0-9._~-]{1,64}", "is not a parameter name", "use 1 to 64 of A-Z a-z 0-9 . _ ~ -"
    ),
]
TokenPrefix = Annotated[
    str,
    StringRule(
        r"[A-Za-z0-9_]{0,15}",
        "is not a token prefix",
        "use up to 15 of A-Z a-z 0-9 _ (43 characters stay random)",
    ),
]
KeyPrefix = Annotated[
    str,
    StringRule(
        r"[\x21-\x7a|~]{1,64}", "is not a key prefix", "use 1 to 64 visible characters, no braces"
    ),
]
_QUERY_NAMES: TypeAdapter[tuple[str, ...]] = TypeAdapter(
    Annotated[tuple[QueryName, ...], Field(strict=False)]
)
_SWITCH: TypeAdapter[bool] = TypeAdapter(Annotated[Switch, Field(strict=True)])
_FORMS: TypeAdapter[tuple[Form, ...]] = TypeAdapter(
    Annotated[tuple[Annotated[Form, Field(strict=False)], ...], Field(strict=False, min_length=1)]
)
FORMS_IN_SHORT = _FormsInShort()
SHORT_FORMS = PlainSerializer(_shorten_forms)
QueryForm = Annotated[
    bool | tuple[str, ...],
    PlainValidator(_read_query_names),
    PlainSerializer(lambda value: value, return_type=Any),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "boolean"},
                {
                    "type": "array",
                    "items": {"type": "string", "pattern": "^[A-Za-z0-9._~-]{1,64}$"},
                },
            ]
        }
    ),
]
"""``true`` or ``false``, or the names of the parameters that count."""
ListOf = Annotated[tuple[_T, ...], Field(strict=False)]
"""A list, kept as a tuple; it may be empty."""
NonEmptyListOf = Annotated[tuple[_T, ...], Field(strict=False, min_length=1)]
"""A list, kept as a tuple, with at least one entry."""
_DUMPED = WrapSerializer(_dump_mapping)
ByName = Annotated[Mapping[Name, _T], Field(min_length=1), AfterValidator(_freeze), _DUMPED]
AccountsByName = Annotated[Mapping[AccountName, _T], AfterValidator(_freeze), _DUMPED]
AccountsByClaim = Annotated[
    Mapping[
        Annotated[
            str,
            StringRule(
                r"(?! )[^\x00-\x1f\x7f]{1,1024}(?<! )",
                "is not what a claim holds",
                "use 1 to 1024 characters, without a space at either end",
            ),
        ],
        str,
    ],
    Field(min_length=1),
    AfterValidator(_freeze),
    _DUMPED,
]
SecretHeaders = Annotated[
    Mapping[
        Name,
        Annotated[
            str,
            StringRule(
                r"[\x20-\x7e]{1,4096}", "is not a text", "use visible ASCII", is_secret=True
            ),
        ],
    ],
    AfterValidator(_freeze),
    _DUMPED,
]
ByHeader = Annotated[
    Mapping[IdentityHeader, _T], Field(min_length=1), AfterValidator(_freeze), _DUMPED
]
