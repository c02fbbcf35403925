"""The model's enumerations. They stay interpreted: the JSON Schema quotes their docstrings, which
compiled classes lose.
"""

from __future__ import annotations

from enum import StrEnum


class Form(StrEnum):
    """How a credential travelled ("Credential forms" in docs/reference/behaviour.md)."""

    BEARER = "bearer"
    HEADER = "header"
    QUERY = "query"
    BASIC = "basic"


ALL_FORMS: frozenset[Form] = frozenset(Form)


class TokenKind(StrEnum):
    """What a token is: made here and opaque, brought from the replaced system, or a signed JWT."""

    ACCESS = "access"
    IMPORTED = "imported"
    JWT = "jwt"
