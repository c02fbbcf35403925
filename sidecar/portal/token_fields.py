"""What is asked for to make a token, and what is shown of one: the API's and the form's fields.

Each field has one reader, whose messages say what to do; the page shows the same sentences.
``sidecar.tokens.lifecycle`` checks again, for every door.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo
from pydantic.json_schema import WithJsonSchema
from pydantic_core import PydanticCustomError

from sidecar.config.units import parse_duration
from sidecar.core.model import LastUse, TokenKind, TokenRecord
from sidecar.core.patterns import compile_pattern
from sidecar.tokens.lifecycle import MAX_DAYS, MAX_NAME_CHARS, MAX_PATHS_BYTES

DEFAULT_OVERLAP: Final = "1h"
_OVERLAP_PATTERN: Final = r"^(0|[0-9]{1,6}s|[0-9]{1,4}m|[1-6]?[0-9]{1,2}h|([12]?[0-9]|30)d)$"
"""Durations as everywhere, of 30 days (``MAX_OVERLAP_SECONDS``) at most."""
_MOST_PATHS: Final = 64
_LONGEST_ERROR_CHARS: Final = 300
_GRAPHIC: Final = r"(?:[\p{L}\p{N}\p{P}\p{S}]|(?![\u20F1-\u20FF])\p{M})"
_NAME_PATTERN: Final = f"^ *{_GRAPHIC}(?: |{_GRAPHIC})*$"
"""``str.isprintable``, and something besides spaces, in the words of ECMA-262. U+20F1 to U+20FF
are unassigned: they are named for tools that take marks by whole blocks."""
_PATH_PATTERN: Final = (
    r"^(?=/)(/(?!(\.|%2[Ee]){1,2}(/|$))"
    r"(\{[A-Za-z_][A-Za-z0-9_-]*\}|([!$&'()+,.0-9:;<=>@A-Z\[\]^_`a-z|~-]|%[0-9A-Fa-f]{2}|\*(?!\*))*))*"
    r"(/\*\*)?$"
)
"""What ``compile_pattern`` takes, for those who read the description; a test holds them together.
"""
_is_overlap = re.compile(_OVERLAP_PATTERN, re.ASCII).fullmatch
_PLAINER: Final = {"missing": "This is needed.", "extra_forbidden": "There is no such field."}


class Limits(NamedTuple):
    """What an account may ask for; the context in which fields are read."""

    max_days: int
    """0: no limit."""
    can_issue_jwt: bool


class FieldError(NamedTuple):
    """What is wrong with one field, and what to do."""

    field: str
    text: str


def _wrong(text: str) -> PydanticCustomError:
    return PydanticCustomError("field", "{text}", {"text": text[:_LONGEST_ERROR_CHARS]})


def _read_name(value: object) -> str:
    """Return the name without the spaces around it, which nobody could see."""
    if not isinstance(value, str) or not value.strip():
        raise _wrong("Give the token a name, so that you know it again.")
    if len(value) > MAX_NAME_CHARS:
        raise _wrong(f"Shorten the name to {MAX_NAME_CHARS} characters.")
    if not value.isprintable():
        raise _wrong("Remove control and invisible characters from the name.")
    return value.strip(" ")


def _read_days(value: object, info: ValidationInfo) -> int:
    limits = _limits(info)
    most = limits.max_days or MAX_DAYS
    least = 1 if limits.max_days else 0
    if type(value) is float and value.is_integer():  # 30.0 is an integer in JSON Schema
        value = int(value)
    if type(value) is not int or not least <= value <= most:
        unlimited = "" if least else "; 0 means that it never expires"
        raise _wrong(f"Enter a whole number of days from {least} to {most}{unlimited}.")
    return value


def _read_kind(value: object, info: ValidationInfo) -> str:
    if value == TokenKind.JWT and not _limits(info).can_issue_jwt:
        raise _wrong("Choose an access token: JWTs are not issued here.")
    if value not in (TokenKind.ACCESS, TokenKind.JWT):
        raise _wrong("Choose an access token or a JWT.")
    return str(value)


def _read_paths(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(path, str) for path in value):
        raise _wrong("Give paths as a list of texts.")
    if len(value) > _MOST_PATHS:
        raise _wrong(f"Give at most {_MOST_PATHS} paths.")
    if sum(len(path.encode(errors="replace")) + 3 for path in value) > MAX_PATHS_BYTES:
        raise _wrong(f"Shorten the paths: together they have at most {MAX_PATHS_BYTES} bytes.")
    for path in value:
        try:
            compile_pattern(path)
        except ValueError as error:
            raise _wrong(as_sentence(error)) from None
    return value


def _read_overlap(value: object) -> str:
    if not isinstance(value, str) or not _is_overlap(value):
        raise _wrong(f"Give an overlap such as {DEFAULT_OVERLAP}, from 0s to 30d.")
    return value


def _limits(info: ValidationInfo) -> Limits:
    assert isinstance(info.context, Limits)
    return info.context


def as_sentence(error: Exception) -> str:
    """Return what an error says as a sentence of its own."""
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls, fields: dict[str, Any], limits: Limits) -> Self | list[FieldError]:
        """Return what was asked for, or all that is wrong with it."""
        try:
            return cls.model_validate(fields, context=limits)
        except ValidationError as error:
            return [
                FieldError(_place(one["loc"]), _PLAINER.get(one["type"], one["msg"]))
                for one in error.errors(include_input=False, include_url=False)
            ]


def _place(path: tuple[int | str, ...]) -> str:
    return "/".join(str(step) for step in path)


class NewToken(_Asked):
    """A token to be made."""

    name: Annotated[
        str,
        BeforeValidator(_read_name),
        WithJsonSchema(
            {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_NAME_CHARS,
                "pattern": _NAME_PATTERN,
                "examples": ["shop"],
            }
        ),
        Field(description="Unique among the account's live tokens; printable characters."),
    ]
    days: Annotated[
        int,
        BeforeValidator(_read_days),
        WithJsonSchema({"type": "integer", "minimum": 0, "maximum": MAX_DAYS, "examples": [30]}),
        Field(description="The lifetime; 0: unlimited. The account may be limited to less."),
    ]
    kind: Annotated[
        Literal["access", "jwt"],
        BeforeValidator(_read_kind),
        Field(description="`jwt` only where the sidecar has a key to sign with."),
    ] = "access"
    paths: Annotated[
        list[str],
        BeforeValidator(_read_paths),
        WithJsonSchema(
            {
                "type": "array",
                "items": {
                    "type": "string",
                    "pattern": _PATH_PATTERN,
                    "examples": ["/v1/dynamic/listener/{id}"],
                },
                "maxItems": _MOST_PATHS,
            }
        ),
        Field(description="Path patterns the token is limited to; none: the account's own."),
    ] = []


class Rotation(_Asked):
    """How a token is to be rotated."""

    overlap: Annotated[
        str,
        BeforeValidator(_read_overlap),
        WithJsonSchema({"type": "string", "pattern": _OVERLAP_PATTERN, "examples": ["1h"]}),
        Field(description="How long the old token still works: 0s to 30d."),
    ] = DEFAULT_OVERLAP

    @property
    def overlap_seconds(self) -> float:
        """The overlap in seconds."""
        return parse_duration(self.overlap)


class Token(BaseModel):
    """A token, as the command line's `--json` shows it too. Times are RFC 3339 in UTC."""

    model_config = ConfigDict(extra="forbid")

    id: str
    account: str
    name: str
    kind: TokenKind
    created_at: datetime
    expires_at: datetime | None = Field(description="`null`: never.")
    last_used_at: datetime | None = Field(description="To within a minute; `null`: not yet.")
    paths: list[str] = Field(description="Empty: wherever the account may go.")

    @classmethod
    def of(cls, record: TokenRecord, use: LastUse | None = None) -> Token:
        """Return what is shown of a record."""
        return cls(**_shown(record, use))


class MadeToken(Token):
    """A new token with its secret, which is not shown again."""

    token: str = Field(description="The secret.", repr=False)

    @classmethod
    def made(cls, record: TokenRecord, secret: str) -> MadeToken:
        """Return a new token to its owner."""
        return cls(**_shown(record, None), token=secret)


def _shown(record: TokenRecord, use: LastUse | None) -> dict[str, Any]:
    return {
        "id": record.id,
        "account": record.account,
        "name": record.name,
        "kind": record.kind,
        "created_at": as_time(record.created_at),
        "expires_at": as_time(record.expires_at),
        "last_used_at": as_time(use.at if use else None),
        "paths": list(record.paths),
    }


def as_time(at: float | None) -> datetime | None:
    """Return Unix seconds as a time in UTC, to the second; ``None`` stays ``None``."""
    return None if at is None else datetime.fromtimestamp(int(at), UTC)
