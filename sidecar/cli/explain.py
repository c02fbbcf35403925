"""``sidecar explain``: shows how a request would be answered, and why, without forwarding it.

The proxy's own parser and gateway judge the request against the real store, so the explanation is
what would happen. No upstream is contacted, and no last use is recorded.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import re
from dataclasses import asdict
from typing import TYPE_CHECKING

from sidecar.cli.options import (
    Subparsers,
    add_config,
    add_json,
    find_config,
    load_settings,
    print_json,
)
from sidecar.cli.reach import readable_store
from sidecar.cli.standard_input import read_password
from sidecar.core.errors import Fault, UsageError

if TYPE_CHECKING:
    from sidecar.cli.explanation import Explanation
    from sidecar.config.locations import Locations
    from sidecar.config.settings import Settings
    from sidecar.core.model import TokenRecord
    from sidecar.proxy.gateway import Gateway
    from sidecar.store.port import TokenStore

_CLIENT = "127.0.0.1"
_EXAMPLES = (
    "sidecar explain GET /v1/dynamic/listener/a1 -H 'access_token: sct_…'",
    "sidecar explain POST https://api.example.com/v1/orders --user acme",
    "sidecar explain GET '/v1/dynamic/listener/a1?token=sct_…' --json",
)
_parse_url = re.compile(r"(?:[Hh][Tt][Tt][Pp][Ss]?://([^/?#]*))?([^#]*)(?:#.*)?", re.S).fullmatch
_is_method = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch  # RFC 9110 section 9.1
_has_line_end = re.compile(r"[\r\n\0]").search


def add_to(commands: Subparsers) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "explain",
        help="show how a request would be answered, and why",
        description="Judge a request as the proxy would, without forwarding it, and show its "
        "route, credential, account and answer. Exit status: 0 if it would pass, 1 if it would "
        "not. No credential is printed.",
        examples=_EXAMPLES,
    )
    parser.add_argument("method", metavar="METHOD", help="the method, such as GET")
    parser.add_argument("url", metavar="URL", help="a whole URL, or a path with an optional query")
    parser.add_argument(
        "-H",
        metavar="'NAME: VALUE'",
        dest="headers",
        action="append",
        default=[],
        help="a header of the request; may be repeated",
    )
    parser.add_argument(
        "--user",
        metavar="A:P",
        help="account and password, sent as HTTP Basic; without :P, the password is asked for",
    )
    add_config(parser)
    add_json(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from sidecar.cli.explanation import print_explanation
    from sidecar.config.locations import Locations

    settings = load_settings(arguments)
    head = write_head(arguments.method, arguments.url, arguments.headers, arguments.user)
    explanation = asyncio.run(_explain(settings, head, Locations(find_config(arguments))))
    if arguments.json:
        print_json(asdict(explanation))
    else:
        print_explanation(explanation)
    return 0 if explanation.passes else 1


# Build the request.


def write_head(method: str, url: str, headers: list[str], user: str | None) -> bytes:
    """Return the head of the request. Raises ``UsageError`` for one that no client could send."""
    parts = _parse_url(url)
    if parts is None or _has_line_end(url) or not _is_method(method):
        raise UsageError("explain takes a method and a URL: sidecar explain GET /v1/items/7")
    authority, target = parts[1] or "localhost", parts[2]
    if parts[1] is not None and not target.startswith("/"):
        target = f"/{target}"  # as clients do
    if not target.startswith("/") and target != "*":
        raise UsageError("the URL must begin with http://, https:// or /")
    lines = [f"{method} {target} HTTP/1.1"]
    if not any(header.lower().startswith("host:") for header in headers):
        lines.append(f"Host: {authority}")
    lines += [_check_header(header) for header in headers]
    if user is not None:
        lines.append(f"Authorization: Basic {_encode_user(user)}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


def _check_header(header: str) -> str:
    if ":" not in header or _has_line_end(header):
        raise UsageError("write a header as -H 'Name: value'")
    return header


def _encode_user(user: str) -> str:
    if ":" not in user:
        user = f"{user}:{read_password()}"
    return base64.b64encode(user.encode("utf-8", "surrogateescape")).decode("ascii")


# Judge it.


class _Lookup:
    """Looks tokens up in the store, without a cache."""

    def __init__(self, store: TokenStore) -> None:
        self.look_up = store.look_up

    def get(self, digest: str) -> TokenRecord | None:
        """Return nothing: there is no cache."""
        return None

    def is_absent(self, digest: str) -> bool:
        """See ``get``."""
        return False

    def is_familiar(self, digest: str) -> bool:
        """See ``get``."""
        return False


async def _explain(settings: Settings, head: bytes, locations: Locations) -> Explanation:
    from sidecar.auth.authenticator import Authenticator
    from sidecar.auth.hash_pool import verify_in_thread
    from sidecar.auth.password_auth import PasswordAuth
    from sidecar.auth.password_verifier import PasswordVerifier
    from sidecar.proxy.gateway import Gateway
    from sidecar.proxy.streams import LiveStreams
    from sidecar.runtime.build import build_rules
    from sidecar.tokens.last_use import LastUses

    async with readable_store(settings) as store:
        rules = build_rules(settings, asyncio.get_running_loop())
        lookup, sign_in = _Lookup(store), PasswordVerifier(verify_in_thread)
        gateway = Gateway(
            rules,
            Authenticator(lookup, PasswordAuth(sign_in)),
            LastUses(store.record_use),  # not started, so it records nothing
            LiveStreams(lookup),
            lambda entry, now: None,
        )
        try:
            return await explain_head(gateway, settings, head, locations)
        finally:
            sign_in.close()


async def explain_head(
    gateway: Gateway, settings: Settings, head: bytes, locations: Locations | None = None
) -> Explanation:
    """Explain how ``gateway`` judges a request with this head."""
    from sidecar.cli.explanation import Explainer
    from sidecar.observability.access_log import RequestLog
    from sidecar.proxy.exchange import Authorization
    from sidecar.proxy.header_cache import ParsedHeaders
    from sidecar.runtime.build import build_limits
    from sidecar.wire.requests import RequestReader, RequestRefused

    explainer = Explainer(settings, RequestLog(0.0, _CLIENT), locations)
    reader = RequestReader(asyncio.get_running_loop(), build_limits(settings))
    reader.receive(head)
    try:
        request = reader.next_request()
    except RequestRefused as refusal:
        return explainer.denied(refusal.denial)
    if request is None:
        raise UsageError("this is not a complete request; check the URL and the headers")
    parsed = ParsedHeaders(gateway.rules, request.headers)
    asked = Authorization(
        parsed, parsed.cached, request.method, request.target, _CLIENT, is_trusted=False
    )
    explainer.look_at(asked)
    try:
        denial = await gateway.judge(asked, explainer.entry)
    except Fault as fault:
        return explainer.failed(fault)
    if denial is not None:
        return explainer.denied(denial)
    return explainer.passed(asked)
