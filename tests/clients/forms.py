"""The credential forms that callers use, as each client is told to send them: one row a form.

Braces name what the suite fills in: ``{token}``, ``{jwt}``, ``{account}``, ``{password}``, and
``{name}``, the account whose password is not ASCII (``{secret}``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Form:
    """One way to send a credential."""

    name: str
    title: str
    headers: tuple[tuple[str, str], ...] = ()
    query: str = ""
    basic: tuple[str, str] | None = None


FORMS: Final = (
    Form("bearer", "`Authorization: Bearer`", (("Authorization", "Bearer {token}"),)),
    Form("bearer-case", "`authorization: bearer`", (("authorization", "bearer {token}"),)),
    Form("bearer-jwt", "`Authorization: Bearer`, a JWT", (("Authorization", "Bearer {jwt}"),)),
    Form("header", "`access_token:`", (("access_token", "{token}"),)),
    Form("header-jwt", "`jwt_token:`", (("jwt_token", "{jwt}"),)),
    Form("query", "`?access_token=`", query="access_token={token}"),
    Form("query-short", "`?token=`", query="token={token}"),
    Form("query-jwt", "`?jwt_token=`", query="jwt_token={jwt}"),
    Form("basic", "Basic, by the client's own option", basic=("{account}", "{password}")),
    Form("scheme-token", "`Authorization: Token`", (("Authorization", "Token {token}"),)),
    Form(
        "scheme-access-token",
        "`Authorization: access_token`",
        (("Authorization", "access_token {token}"),),
    ),
    Form("scheme-jwt", "`Authorization: jwt_token`", (("Authorization", "jwt_token {jwt}"),)),
    Form("bare", "`Authorization:` and the token alone", (("Authorization", "{token}"),)),
    Form(
        "pair",
        "`username:` and `password:`",
        (("username", "{account}"), ("password", "{password}")),
    ),
    Form("basic-user", "Basic, a token as the user name", basic=("{token}", "")),
    Form("basic-password", "Basic, a token as the password", basic=("", "{token}")),
    Form("basic-account", "Basic, the account and its token", basic=("{account}", "{token}")),
    Form("basic-letters", "Basic, a password with `ä` and `ß`", basic=("{name}", "{secret}")),
)
