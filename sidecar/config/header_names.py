"""Which header names and schemes may carry identities and credentials, and which open a hole."""

from __future__ import annotations

import re

from sidecar.config.diagnostics import Rejected

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")  # RFC 9110 section 5.6.2

_HOP_BY_HOP = {
    "connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization",
    "te", "trailer", "transfer-encoding", "upgrade", "http2-settings",
}  # fmt: skip
_FRAMING = {
    "host", "content-length", "content-type", "content-encoding", "content-range", "expect",
}  # fmt: skip
_CREDENTIALS = {"authorization", "cookie", "set-cookie", "www-authenticate"}
# Schemes whose credentials are no tokens that a string could be compared with.
_OWN_MEANING = {"basic", "digest", "negotiate", "ntlm", "kerberos", "dpop", "hawk", "mutual"}
_PROXY = {"forwarded", "via", "x-real-ip", "x-request-id", "traceparent", "tracestate"}


def canonical(name: str) -> str:
    """Return the form in which upstreams compare names: ``X_Account`` equals ``X-Account``."""
    return re.sub(r"[^a-z0-9]", "-", name.lower())


def check_identity_header(name: str) -> str:
    """Return ``name`` if it may carry an identity; raise ``Rejected`` if it is taken."""
    _check_syntax(name)
    reason = _taken_for(canonical(name))
    if reason is not None:
        raise Rejected(f"can't carry an identity: it {reason}", "choose another name", name)
    return name


def check_credential_header(name: str) -> str:
    """Return ``name`` if it may carry a token; raise ``Rejected`` if it is taken."""
    _check_syntax(name)
    reason = _taken_for(canonical(name))
    if reason is not None:
        raise Rejected(f"can't carry a credential: it {reason}", "choose another name", name)
    return name


def check_scheme(name: str) -> str:
    """Return ``name`` if it may precede a token in ``Authorization``; else raise ``Rejected``."""
    if name and _TOKEN.fullmatch(name) is None:
        raise Rejected(
            "is not a scheme", "use letters, digits, - and _ (RFC 9110 section 11.1)", name
        )
    if name.lower() in _OWN_MEANING:
        raise Rejected(
            "can't precede a token: it has a meaning of its own",
            "choose another scheme; Basic is read without being listed",
            name,
        )
    return name


def _check_syntax(name: str) -> None:
    if _TOKEN.fullmatch(name) is None:
        raise Rejected(
            "is not a header name", "use letters, digits, - and _ (RFC 9110 section 5.6.2)", name
        )
    if not re.search(r"[A-Za-z0-9]", name):
        raise Rejected("is a header name without a letter or digit", "choose another", name)


def _taken_for(name: str) -> str | None:
    if name in _HOP_BY_HOP:
        return "belongs to one connection and is never forwarded"
    if name in _FRAMING:
        return "frames or describes the message"
    if name in _CREDENTIALS:
        return "carries credentials of its own"
    if name in _PROXY or name.startswith("x-forwarded-"):
        return "is set by proxies"
    return None
