"""What every client is put through, in one table: the requests, and what must come of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import unquote

from tests.clients.forms import FORMS, Form
from tests.clients.service import (
    COOKIES,
    GREETING,
    LARGE_BYTES,
    PREFIX,
    SLOW_SECONDS,
    STREAM_BYTES,
    Seen,
    pattern,
)

KIB: Final = 1024
MIB: Final = 1024 * 1024
LETTERS: Final = "grüße"
PERCENT_PATH: Final = "/a%20b%C3%BC%2Cc%3Bd"
PERCENT_QUERY: Final = "q=gr%C3%BC%C3%9Fe&plus=a+b&slash=%2F&empty="

Header = tuple[str, str]
BEARER: Final[Header] = ("Authorization", "Bearer {token}")
WRONG: Final[Header] = ("Authorization", "Bearer {unknown}")


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, with places for the credentials in braces (``forms``)."""

    kind: str = "echo"
    method: str = "GET"
    headers: tuple[Header, ...] = (BEARER,)
    rest: str = ""
    query: str = ""
    basic: tuple[str, str] = ("", "")
    challenge: bool = False
    size: int = -1
    chunked: bool = False
    expect: bool = False
    follow: bool = False
    gzip: bool = False

    def told(self, case: str, origin: str, secrets: Mapping[str, str]) -> dict[str, Any]:
        """Return the request as ``program`` describes it."""
        query = f"?{self.query.format_map(secrets)}" if self.query else ""
        headers = [(name, value.format_map(secrets)) for name, value in self.headers]
        user, password = (part.format_map(secrets) for part in self.basic)
        return {
            "method": self.method,
            "url": f"{origin}{PREFIX}/{self.kind}/{case}{self.rest}{query}",
            "headers": headers,
            "user": user,
            "password": password,
            "challenge": self.challenge,
            "size": self.size,
            "chunked": self.chunked,
            "expect": self.expect,
            "follow": self.follow,
            "gzip": self.gzip,
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a case: at the client, at the service, and on the way there."""

    responses: list[dict[str, Any]]
    seen: list[Seen]
    connections: int
    secrets: Mapping[str, str]

    @property
    def statuses(self) -> list[int]:
        return [response["status"] for response in self.responses]

    @property
    def last(self) -> dict[str, Any]:
        return self.responses[-1]

    def values(self, name: str) -> list[str]:
        """Return the values of a header of the last response; a client may have joined them."""
        found = [value for told, value in self.last["headers"] if told == name]
        return [part for value in found for part in value.split(", ")]

    def assert_served(self, *, account: str = "{account}") -> None:
        """Every request was answered 200, from this account, and no credential went on."""
        assert self.statuses == [200] * len(self.responses)
        assert self.seen
        for seen in self.seen:
            assert seen.values("x-account") == [account.format_map(self.secrets)]
            leaked = [name for name, secret in self.secrets.items() if secret in unquote(seen.text)]
            assert set(leaked) <= {"account", "name"}
            assert not seen.values("authorization")

    def assert_refused(self, code: str = "invalid_token") -> None:
        """The last response is this refusal, as far as the client shows its body."""
        assert self.last["status"] == 401
        if self.last["text"]:
            assert json.loads(self.last["text"])["code"] == code
        assert self.values("www-authenticate")


Check = Callable[[Outcome], None]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A row of the table."""

    name: str
    title: str
    asks: tuple[Ask, ...]
    check: Check
    counts_connections: bool = field(default=False, kw_only=True)


def _refusal_of(form: Form) -> Ask:
    """Return the same form with a credential that is well made and wrong."""
    wrong = {"{token}": "{unknown}", "{jwt}": "{forged}", "{password}": "wrong", "{secret}": "nö"}

    def spoil(text: str) -> str:
        for good, bad in wrong.items():
            text = text.replace(good, bad)
        return text

    headers = tuple((name, spoil(value)) for name, value in form.headers)
    user, password = form.basic or ("", "")
    return Ask(headers=headers, query=spoil(form.query), basic=(spoil(user), spoil(password)))


def _form(form: Form) -> Behaviour:
    def check(outcome: Outcome) -> None:
        outcome.assert_refused("invalid_password" if _asks_password(form) else "invalid_token")
        first = replace(outcome, responses=outcome.responses[:1])
        first.assert_served(account="{name}" if form.name == "basic-letters" else "{account}")
        assert len(outcome.seen) == 1

    good = Ask(headers=form.headers, query=form.query, basic=form.basic or ("", ""))
    return Behaviour(f"form-{form.name}", form.title, (good, _refusal_of(form)), check)


def _asks_password(form: Form) -> bool:
    values = [value for _, value in form.headers] + [*(form.basic or ())]
    return "{password}" in values or "{secret}" in values


def _post(size: int, **more: Any) -> Ask:
    return Ask(method="POST", size=size, **more)


def _arrives(size: int) -> Check:
    def check(outcome: Outcome) -> None:
        outcome.assert_served()
        assert [seen.method for seen in outcome.seen] == ["POST"]
        assert outcome.seen[0].body_bytes == size
        assert outcome.seen[0].body_sha256 == hashlib.sha256(pattern(size)).hexdigest()

    return check


def _refused(outcome: Outcome) -> None:
    outcome.assert_refused()
    assert outcome.seen == []


def _upload(name: str, title: str, size: int, **more: Any) -> tuple[Behaviour, Behaviour]:
    """Return the same upload with a good and with a bad token."""
    good, bad = _post(size, **more), _post(size, headers=(WRONG,), **more)
    return (
        Behaviour(name, title, (good,), _arrives(size)),
        Behaviour(f"{name}-refused", f"{title}, refused", (bad,), _refused),
    )


def _challenge(outcome: Outcome) -> None:
    outcome.assert_served()
    assert len(outcome.seen) == 1
    assert outcome.connections == 1


def _kept_alive(outcome: Outcome) -> None:
    outcome.assert_served()
    assert len(outcome.seen) == 5
    assert outcome.connections == 1


def _ignored_upgrade(outcome: Outcome) -> None:
    outcome.assert_served()
    assert len(outcome.seen) == len(outcome.responses)
    assert all(not seen.values("upgrade") for seen in outcome.seen)


def _served(outcome: Outcome) -> None:
    outcome.assert_served()


def _relayed_redirect(outcome: Outcome) -> None:
    assert outcome.statuses == [302]
    (place,) = outcome.values("location")
    assert place.partition("://")[2].partition("/")[2].startswith(f"{PREFIX[1:]}/echo/")


def _followed(outcome: Outcome) -> None:
    outcome.assert_served()
    assert [seen.target.split("/")[4] for seen in outcome.seen] == ["found", "echo"]


def _followed_with_body(outcome: Outcome) -> None:
    outcome.assert_served()
    assert [seen.method for seen in outcome.seen] == ["POST", "POST"]
    assert [seen.body_bytes for seen in outcome.seen] == [KIB, KIB]


def _unpacked(outcome: Outcome) -> None:
    outcome.assert_served()
    assert outcome.last["text"] == GREETING


def _head(outcome: Outcome) -> None:
    outcome.assert_served()
    assert [seen.method for seen in outcome.seen] == ["HEAD", "GET"]
    assert outcome.responses[0]["size"] == 0


def _nothing(outcome: Outcome) -> None:
    assert outcome.statuses == [204, 200]
    assert outcome.responses[0]["size"] == 0
    assert len(outcome.seen) == 2


def _empty(outcome: Outcome) -> None:
    outcome.assert_served()
    assert outcome.last["size"] == 0


def _cookies(outcome: Outcome) -> None:
    outcome.assert_served()
    assert [seen.values("cookie") for seen in outcome.seen] == [["first=1; second=2"]]
    assert sorted(outcome.values("set-cookie")) == sorted(COOKIES)


def _same_query(outcome: Outcome) -> None:
    outcome.assert_served()
    assert outcome.seen[0].target.partition("?")[2] == PERCENT_QUERY


def _letters_in_query(outcome: Outcome) -> None:
    outcome.assert_served()
    query = outcome.seen[0].target.encode("latin-1").decode().partition("?")[2]
    assert unquote(query) == f"q={LETTERS}"


def _same_path(outcome: Outcome) -> None:
    outcome.assert_served()
    assert outcome.seen[0].target.endswith(PERCENT_PATH)


def _received(size: int) -> Check:
    def check(outcome: Outcome) -> None:
        outcome.assert_served()
        assert outcome.last["size"] == size
        assert outcome.last["sha256"] == hashlib.sha256(pattern(size)).hexdigest()

    return check


def _received_in_pieces(outcome: Outcome) -> None:
    outcome.assert_served()
    assert outcome.last["size"] == STREAM_BYTES


_LOGIN: Final = ("{account}", "{password}")
_H2C: Final = (
    ("Connection", "Upgrade, HTTP2-Settings"),
    ("Upgrade", "h2c"),
    ("HTTP2-Settings", "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA"),
)
_TLS: Final = (("Connection", "Upgrade"), ("Upgrade", "TLS/1.2"))

BEHAVIOURS: Final = (
    *map(_form, FORMS),
    *_upload("post-1k", "POST of 1 KiB", KIB),
    *_upload("post-1m", "POST of 1 MiB", MIB),
    *_upload("post-50m", "POST of 50 MiB", 50 * MIB),
    *_upload("chunked", "POST of 1 MiB in chunks", MIB, chunked=True),
    *_upload("expect", "`Expect: 100-continue`, 1 MiB", MIB, expect=True),
    Behaviour("post-empty", "POST of an empty body", (_post(0),), _arrives(0)),
    Behaviour(
        "challenge",
        "No credential, then Basic on the same connection",
        (Ask(headers=(), basic=_LOGIN, challenge=True),),
        _challenge,
        counts_connections=True,
    ),
    Behaviour(
        "keep-alive",
        "Five requests on one connection",
        (Ask(),) * 5,
        _kept_alive,
        counts_connections=True,
    ),
    Behaviour(
        "upgrade-h2c",
        "`Upgrade: h2c` is ignored",
        (Ask(headers=(BEARER, *_H2C)),) * 2,
        _ignored_upgrade,
    ),
    Behaviour(
        "upgrade-tls",
        "`Upgrade: TLS/1.2` is ignored",
        (Ask(headers=(BEARER, *_TLS)),) * 2,
        _ignored_upgrade,
    ),
    Behaviour("redirect", "A redirect is relayed", (Ask("found"),), _relayed_redirect),
    Behaviour("followed", "302, followed", (Ask("found", follow=True),), _followed),
    Behaviour(
        "followed-body",
        "307, followed with the body",
        (_post(KIB, kind="temporary", follow=True),),
        _followed_with_body,
    ),
    Behaviour("gzip", "A gzip response, unpacked", (Ask("packed", gzip=True),), _unpacked),
    Behaviour("slow", f"A response after {SLOW_SECONDS:.0f} s", (Ask("slow"),), _served),
    Behaviour("head", "HEAD, then GET", (Ask(method="HEAD"), Ask()), _head),
    Behaviour("204", "204, then GET", (Ask("nothing"), Ask()), _nothing),
    Behaviour("empty", "An empty response", (Ask("empty"),), _empty),
    Behaviour(
        "cookies",
        "Cookies, both ways",
        (Ask("cookies", headers=(BEARER, ("Cookie", "first=1; second=2"))),),
        _cookies,
    ),
    Behaviour("query", "A percent-encoded query", (Ask(query=PERCENT_QUERY),), _same_query),
    Behaviour("letters", "`ü` and `ß` in a query", (Ask(query=f"q={LETTERS}"),), _letters_in_query),
    Behaviour("path", "A percent-encoded path", (Ask(rest=PERCENT_PATH),), _same_path),
    Behaviour("large", "A response of 10 MiB", (Ask("large"),), _received(LARGE_BYTES)),
    Behaviour("stream", "A response in chunks", (Ask("stream"),), _received_in_pieces),
)
