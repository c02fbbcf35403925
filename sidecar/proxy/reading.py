"""What a request carries under one configuration: read once, however often it is sent.

Callers send the same header section again and again, and many differ in their token alone. What
follows from the section is a ``Reading``, kept with the section (``wire.requests.Fields``) for as
long as the configuration stays; what follows from a token's bytes is a ``Claim``.
"""

from __future__ import annotations

from typing import Final

from sidecar.core.credentials import is_bearer, read_authorization, read_bearer, read_token
from sidecar.core.headers import HeaderClass, Headers, Scan
from sidecar.core.model import Credential, Denial, Form, TokenCredential
from sidecar.core.passwords import PasswordProof
from sidecar.core.policy import Principal
from sidecar.core.request_heads import RequestHeads
from sidecar.core.targets import is_valid_host
from sidecar.core.tokens import digest
from sidecar.proxy.rules import Rules

BAD_HOST: Final = Denial("bad_request", "The request needs one valid Host.")
BAD_EXPECT: Final = Denial("bad_request", "The only expectation known here is 100-continue.")

_CLAIMS: Final = 4096
_CLAIM_BYTES: Final = 2048
_HEADER: Final = Form.HEADER  # a name of the module: looking an enumeration up costs 0.1 µs
_AUTHORIZATION: Final = int(HeaderClass.AUTHORIZATION)  # ints: looking an enumeration up costs time
_CREDENTIAL: Final = int(HeaderClass.CREDENTIAL)


class Claim:
    """Who a request claims to come from: a credential, or why it can't be read, or none.

    ``digest`` is what the store knows a token by. ``principal`` is whom it was found to be when it
    was last looked up, and ``proof`` how a password was known, for the authenticator to compare: no
    word on whether that still holds. ``key`` is what ``Claims`` would remember it by; empty: it is
    remembered, or not to be.
    """

    __slots__ = ("credential", "digest", "is_worth_keeping", "key", "principal", "proof")

    def __init__(self, credential: Credential | Denial | None, key: bytes = b"") -> None:
        self.credential = credential
        self.digest = digest(credential.secret) if type(credential) is TokenCredential else ""
        self.key = key
        self.is_worth_keeping = False
        """Whether it was answered from memory, or with what is worked out once: then it will be
        again (the authenticator's to say)."""
        self.principal: Principal | None = None
        self.proof: PasswordProof | None = None

    def __repr__(self) -> str:
        return f"<Claim {self.credential!r}>"


class Claims:
    """Claims by the bytes that make them; a bounded number is remembered, in this process alone.

    What comes for the first time is not, as most of a flood never comes again: a claim is kept once
    it was answered from memory, with a yes or a no.
    """

    def __init__(self) -> None:
        # By the token alone for a plain bearer's, else by the whole value, which has a space.
        self._authorizations: dict[bytes, Claim] = {}
        self._headers: dict[bytes, Claim] = {}

    def __repr__(self) -> str:
        return f"<Claims {len(self._authorizations) + len(self._headers)}>"

    def read(self, reading: Reading, secret: bytes) -> Claim:
        """Return the claim that a ``secret`` makes in the place that ``reading`` has for one."""
        if reading.is_bearer:
            return self._authorizations.get(secret) or Claim(read_bearer(secret), secret)
        if not reading.stem:
            return self._headers.get(secret) or Claim(read_token(secret, _HEADER), secret)
        value = reading.stem + secret
        return self._authorizations.get(value) or Claim(read_authorization(value), value)

    def keep(self, claim: Claim) -> None:
        """Remember a claim of a credential by its ``key``."""
        key, claim.key = claim.key, b""
        if len(key) > _CLAIM_BYTES:
            return
        credential = claim.credential
        is_header = isinstance(credential, TokenCredential) and credential.form is _HEADER
        claims = self._headers if is_header else self._authorizations
        if len(claims) >= _CLAIMS:
            claims.clear()
        claims[key] = claim


class Reading:
    """A header section, read by ``rules``.

    With ``cut``, the place in ``headers`` where a secret was cut out, it may be the reading of many
    requests. It is if ``is_shared``: the secret is a credential, and there is no other. Else read
    each request's own headers.
    """

    __slots__ = (
        "_kept",
        "claim",
        "denial",
        "headers",
        "is_bearer",
        "is_shared",
        "rules",
        "scan",
        "stem",
    )

    def __init__(self, rules: Rules, headers: Headers, cut: int = -1) -> None:
        scan = rules.headers.scan(headers)
        self.rules = rules
        self.headers = headers
        self.scan: Scan = scan
        self.denial = _judge(scan)
        """Why no request with these headers is served, whatever its line says."""
        self.stem = b""
        """What stands before the secret; ``b""`` in a header that holds a token alone."""
        self.is_shared = cut >= 0 and self._is_claim_at(cut)
        self.is_bearer = is_bearer(self.stem)
        self.claim = Claim(None if cut >= 0 else rules.credentials.extract(scan, None)[0])
        """What the headers claim, unless ``is_shared``; a query may add to it."""
        self._kept: dict[tuple[RequestHeads, bool], bytes] = {}

    def kept_lines(self, heads: RequestHeads, is_trusted: bool) -> bytes:
        """Return the lines that go upstream unchanged, for a request whose ``Host`` stands."""
        key = (heads, is_trusted)
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = heads.keep(self.headers, self.scan, is_trusted=is_trusted)
        return kept

    def _is_claim_at(self, cut: int) -> bool:
        name, value = self.headers[cut]
        kind = self.rules.headers.classes[name]
        if kind == _AUTHORIZATION:
            self.stem = value[:-1]
        elif kind != _CREDENTIAL:
            return False
        return len(self.scan.authorization) + len(self.scan.credentials) == 1


def _judge(scan: Scan) -> Denial | None:
    if scan.host and not is_valid_host(scan.host[0].decode("latin-1")):
        return BAD_HOST
    if scan.expect and any(value.lower() != b"100-continue" for value in scan.expect):
        return BAD_EXPECT
    return None
