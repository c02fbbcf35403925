"""What the API and the page's forms take to create or rotate a token, and what they show of one.

The models describe the API in ``/openapi.json``. What a field may hold, and what is said when it
does not, is in ``sidecar.core.token_rules``; the page shows the same sentences as the API.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo
from pydantic.json_schema import WithJsonSchema
from pydantic_core import PydanticCustomError

from sidecar.config.units import parse_duration
from sidecar.core.model import LastUse, TokenKind, TokenRecord
from sidecar.core.policy import Account
from sidecar.core.token_rules import (
    DEFAULT_OVERLAP,
    MAX_DAYS,
    MAX_NAME_CHARS,
    MAX_PATHS,
    InvalidField,
    check_days,
    check_kind,
    check_name,
    check_overlap,
    check_paths,
)
from sidecar.portal.formatting import as_sentence, as_time

_OVERLAP_PATTERN: Final = r"^(0|[0-9]{1,6}s|[0-9]{1,4}m|[1-6]?[0-9]{1,2}h|([12]?[0-9]|30)d)$"
"""For the API's description: durations of at most ``MAX_OVERLAP_SECONDS``, in their usual forms."""
_LONGEST_ERROR_CHARS: Final = 300
_GRAPHIC: Final = r"(?:[\p{L}\p{N}\p{P}\p{S}]|(?![\u20F1-\u20FF])\p{M})"
_NAME_PATTERN: Final = f"^ *{_GRAPHIC}(?: |{_GRAPHIC})*$"
"""``str.isprintable``, and something besides spaces, in the words of ECMA-262. U+20F1 to U+20FF
are unassigned: they are excluded for tools that match marks by whole blocks."""
_PATH_PATTERN: Final = (
    r"^(?=/)(/(?!(\.|%2[Ee]){1,2}(/|$))"
    r"(\{[A-Za-z_][A-Za-z0-9_-]*\}|([!$&'()+,.0-9:;<=>@A-Z\[\]^_`a-z|~-]|%[0-9A-Fa-f]{2}|\*(?!\*))*))*"
    r"(/\*\*)?$"
)
"""What ``compile_pattern`` accepts, for the API's description; a test holds them together."""
_PLAIN_MESSAGES: Final = {
    "missing": "This field is required.",
    "extra_forbidden": "Remove this field: it is unknown.",
}


class TokenLimits(NamedTuple):
    """What an account may ask for; the context in which Pydantic reads the fields."""

    account: Account
    can_issue_jwt: bool


class FieldError(NamedTuple):
    """A field that breaks its rule, and what to do about it."""

    field: str
    text: str


@contextmanager
def _reported() -> Iterator[None]:
    """Turn a broken rule into Pydantic's error, with the message as a sentence."""
    try:
        yield
    except (InvalidField, ValueError) as error:  # the latter from parse_duration
        text = as_sentence(error)[:_LONGEST_ERROR_CHARS]
        raise PydanticCustomError("field", "{text}", {"text": text}) from None


def _read_name(value: object) -> str:
    with _reported():
        return check_name(value)


def _read_days(value: object, info: ValidationInfo) -> int:
    if type(value) is float and value.is_integer():  # 30.0 is an integer in JSON Schema
        value = int(value)
    with _reported():
        return check_days(value, _limits(info).account)


def _read_kind(value: object, info: ValidationInfo) -> str:
    with _reported():
        return str(check_kind(value, can_issue_jwt=_limits(info).can_issue_jwt))


def _read_paths(value: object) -> list[str]:
    with _reported():
        return list(check_paths(value))


def _read_overlap(value: object) -> str:
    with _reported():
        check_overlap(parse_duration(value if isinstance(value, str) else None))
    return str(value)


def _limits(info: ValidationInfo) -> TokenLimits:
    assert isinstance(info.context, TokenLimits)
    return info.context


class _RequestModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls, fields: dict[str, Any], limits: TokenLimits) -> Self | list[FieldError]:
        """Return the request, or an error for each field that breaks its rule."""
        try:
            return cls.model_validate(fields, context=limits)
        except ValidationError as error:
            return [
                FieldError(_place(one["loc"]), _PLAIN_MESSAGES.get(one["type"], one["msg"]))
                for one in error.errors(include_input=False, include_url=False)
            ]


def _place(path: tuple[int | str, ...]) -> str:
    return "/".join(str(step) for step in path)


class NewToken(_RequestModel):
    """A token to be created."""

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
                "maxItems": MAX_PATHS,
            }
        ),
        Field(description="Path patterns the token is limited to; none: the account's own."),
    ] = []


class Rotation(_RequestModel):
    """How to rotate a token."""

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
        """Return a record as the API shows it."""
        return cls(**_shown(record, use))


class MadeToken(Token):
    """A new token with its secret, which is not shown again."""

    token: str = Field(description="The secret.", repr=False)

    @classmethod
    def made(cls, record: TokenRecord, secret: str) -> MadeToken:
        """Return a new token, for its owner, once."""
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
