"""The output of ``sidecar explain``, as text and as JSON; it never contains a credential."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sidecar.cli.claimed_account import find_claimed
from sidecar.cli.color import Style, paint
from sidecar.cli.ruling import NO_RULING, Case, Ruling, rule_on, rule_on_fault, rule_on_unread
from sidecar.config.locations import Locations, path_of
from sidecar.core.credential_faults import spell_out
from sidecar.core.errors import Fault
from sidecar.core.masking import hide_credential, hide_tokens
from sidecar.core.model import Credential, Denial, TokenCredential
from sidecar.core.problems import PROBLEM_TYPES, status_of
from sidecar.core.tokens import Shape, classify

if TYPE_CHECKING:
    from sidecar.config.settings import Settings
    from sidecar.observability.access_log import RequestLog
    from sidecar.proxy.exchange import Authorization

_SHAPES = {
    Shape.ACCESS: "access token",
    Shape.BAD_CHECKSUM: "access token with a wrong checksum",
    Shape.JWT: "JWT",
    Shape.OTHER: "token of another system",
    Shape.UNREADABLE: "unreadable",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """What would happen to a request; ``None`` marks what is absent or was not reached."""

    passes: bool
    method: str | None
    path: str | None
    route: str | None
    route_at: str | None
    """Where the route stands: ``file:line``."""
    credential: str | None
    """Its form; on a public route, credentials are ignored unless they are optional."""
    token: str | None
    """The kind of token, judged by its shape."""
    account: str | None
    token_id: str | None
    upstream: str | None
    status: int | None
    """The status of an answer of our own; ``None``: the upstream answers."""
    code: str | None
    decided_by: str | None
    """The key of the configuration that decided, and where it stands: ``file:line, key``."""
    why: str


class Explainer:
    """Explains one request by the gateway's verdict and by what it noted in ``entry``.

    ``locations`` are the lines of the configuration file, if there is one.
    """

    def __init__(
        self, settings: Settings, entry: RequestLog, locations: Locations | None = None
    ) -> None:
        self.entry = entry
        self._settings = settings
        self._locations = locations
        self._shape: Shape | None = None
        self._case: Case | None = None
        self._found: Credential | Denial | None = None

    def look_at(self, asked: Authorization) -> None:
        """Remember the request's target, and the credential that its route finds in it."""
        rules, scan = asked.rules, asked.headers.scan
        place = rules.routes.find(asked.method, asked.raw_target)
        route = None if isinstance(place, Denial) else place.route
        names = rules.all_credentials if route is None else route.credentials or rules.credentials
        _, mark, query = asked.raw_target.partition("?")
        found = names.extract(scan, query if mark else None)[0]
        self._found = found
        self._case = Case(self._settings, rules, asked, self.entry, found, names, self._masked)
        if isinstance(found, TokenCredential):
            self._shape = classify(found.secret, self._settings.tokens.prefix)

    def passed(self, authorization: Authorization) -> Explanation:
        """Explain a request that would go to its upstream."""
        if authorization.is_preflight:
            return self._preflight(authorization)
        why = "the route is public, so everyone may pass"
        if authorization.ignored is not None:
            detail = authorization.ignored.detail.rstrip(".")
            why += f"; the credential counts as none here ({authorization.ignored.code}: {detail})"
        if authorization.principal is not None:
            why = f"{authorization.principal.account} may use this route and path"
        if claimed := self._claimed():
            why += f"; {claimed}"
        if authorization.hides_credential:
            why += "; the credential is removed from the query"
        return self._explanation(why, upstream=authorization.route.upstream)

    def _preflight(self, authorization: Authorization) -> Explanation:
        fields = authorization.headers.cors
        why = (
            f"a page of {fields.origin.decode('latin-1')} asks whether it may send {fields.method}"
        )
        if not authorization.is_answered_here:
            return self._explanation(why, upstream=authorization.route.upstream)
        lines = authorization.preflight_lines().decode("latin-1").splitlines()
        told = self._explanation(f"{why}; the answer is {', '.join(lines)}")
        return replace(told, status=204)

    def failed(self, fault: Fault) -> Explanation:
        """Explain a request that can't be judged, with the message of the log, as for admins."""
        status = PROBLEM_TYPES[fault.code].status
        ruling = rule_on_fault(fault.code)
        return self._explanation(str(fault), code=fault.code, status=status, ruling=ruling)

    def denied(self, denial: Denial) -> Explanation:
        """Explain a request that would be refused."""
        case = self._case
        if case is None:
            ruling = rule_on_unread(denial)
        else:
            headers, target = case.asked.headers.headers, case.asked.raw_target
            denial = spell_out(denial, case.names, headers, target, self.entry.forms)
            ruling = rule_on(denial, case)
        status = status_of(denial)
        return self._explanation(denial.detail, code=denial.code, status=status, ruling=ruling)

    def _explanation(
        self,
        why: str,
        *,
        upstream: str | None = None,
        code: str | None = None,
        status: int | None = None,
        ruling: Ruling = NO_RULING,
    ) -> Explanation:
        entry = self.entry
        token = _SHAPES[self._shape] if self._shape is not None and entry.form else None
        return Explanation(
            passes=code is None,
            method=entry.method or None,
            path=self._masked(entry.path) or None,
            route=entry.route or None,
            route_at=self._route_at(),
            credential=str(entry.form) or None,
            token=token,
            account=entry.account or None,
            token_id=entry.token_id or None,
            upstream=upstream,
            status=status,
            code=code,
            decided_by=self._place_of(ruling),
            why=f"{why} {ruling.advice}".strip(),
        )

    def _route_at(self) -> str | None:
        index = self._case.route_index if self._case is not None and self.entry.route else None
        if index is None or self._locations is None:
            return None
        return self._locations.find("routes", index)

    def _place_of(self, ruling: Ruling) -> str | None:
        if not ruling.steps:
            return None
        if self._locations is None:
            return path_of(*ruling.steps)
        return self._locations.describe(*ruling.steps)

    def _claimed(self) -> str:
        """Return what a foreign JWT says of its account; empty for any other credential."""
        if self._shape is not Shape.JWT or not isinstance(self._found, TokenCredential):
            return ""
        claimed = find_claimed(self._found.secret, self._settings)
        return "" if claimed is None else str(claimed)

    def _masked(self, path: str) -> str:
        return hide_tokens(hide_credential(path, self._found), self._settings.tokens.prefix)


def print_explanation(told: Explanation) -> None:
    """Print an explanation as text."""
    lines = {
        "route": ", ".join(filter(None, (told.route, told.route_at))),
        "credential": ", ".join(filter(None, (told.credential, told.token))),
        "account": told.account and _with_token(told.account, told.token_id),
        "upstream": told.upstream,
        "answer": " ".join(filter(None, (str(told.status or ""), told.code))) or "the upstream's",
        "decided by": told.decided_by,
        "why": told.why,
    }
    if told.decided_by is None:
        del lines["decided by"]
    print(_plain(" ".join(filter(None, (told.method, told.path)))) or "not a request")
    for name, value in lines.items():
        shown = _plain(value) if value else "-"
        if name == "answer":
            shown = paint(shown, Style.GOOD if told.passes else Style.BAD, sys.stdout)
        print(f"  {paint(f'{name:<11}', Style.FAINT, sys.stdout)} {shown}")


def _with_token(account: str, token_id: str | None) -> str:
    return f"{account}, by token {token_id}" if token_id else account


def _plain(text: str) -> str:
    """Return text with unprintable characters replaced, which could control the terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
