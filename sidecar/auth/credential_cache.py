"""What the bytes of a token or a password were read as, so that they are read and hashed once.

An entry says nothing about whether the credential still holds: the authenticator looks its token
up, or compares its password's proof, on every request. The cache **holds credentials**. It lives in
this process's memory alone and is never written anywhere.

A credential is keyed by all of its bytes *and* by the place it came in: the same bytes in
``Authorization: Bearer`` and in a token header are two entries, as they are two forms, and a route
may accept one of them only.
"""

from __future__ import annotations

from typing import Final

from sidecar.core.credentials import is_bearer, read_authorization, read_bearer, read_token
from sidecar.core.model import Credential, Denial, Form, TokenCredential
from sidecar.core.passwords import PasswordProof
from sidecar.core.policy import Principal
from sidecar.core.tokens import digest

_MOST: Final = 4096
_MOST_BYTES: Final = 2048
_HEADER: Final = Form.HEADER  # a module constant: looking an enumeration up costs 0.1 µs


class CachedCredential:
    """A request's credential, or the denial that says why it can't be read, or ``None``.

    ``digest`` is the key by which the store knows a token; it is empty for anything else.
    ``principal`` is whom the last look-up found, and ``proof`` how a password was last proved
    right: the authenticator compares both with what holds now. ``key`` is where
    ``CachedCredentials`` would put this entry; empty when it is there already, or never will be.
    """

    __slots__ = ("credential", "digest", "is_cacheable", "key", "principal", "proof")

    def __init__(self, credential: Credential | Denial | None, key: bytes = b"") -> None:
        self.credential = credential
        self.digest = digest(credential.secret) if type(credential) is TokenCredential else ""
        self.key = key
        self.is_cacheable = False
        """Set by the authenticator once it has answered from memory, or has done work worth
        doing once: the same credential is likely to come again."""
        self.principal: Principal | None = None
        self.proof: PasswordProof | None = None

    def __repr__(self) -> str:
        return f"<CachedCredential {self.credential!r}>"


class CredentialSlot:
    """The place in a header section that holds its one credential.

    ``stem`` is what precedes the secret in the value of ``Authorization`` (``b"Bearer "``); it is
    empty in a header whose whole value is a token.
    """

    __slots__ = ("is_bearer", "stem")

    def __init__(self, stem: bytes) -> None:
        self.stem = stem
        self.is_bearer = is_bearer(stem)


class CachedCredentials:
    """A bounded cache of credentials, keyed by the bytes they were read from.

    Nothing is cached when it comes for the first time, because most of a flood never comes again:
    see ``CachedCredential.is_cacheable``. A full cache is cleared.
    """

    def __init__(self) -> None:
        # By the token alone for Bearer, else by the whole value, which contains a space.
        self._authorizations: dict[bytes, CachedCredential] = {}
        self._headers: dict[bytes, CachedCredential] = {}

    def __repr__(self) -> str:
        return f"<CachedCredentials {len(self._authorizations) + len(self._headers)}>"

    def get(self, slot: CredentialSlot, secret: bytes) -> CachedCredential:
        """Return the credential that ``secret`` is in ``slot``, reading it if it is not cached."""
        if slot.is_bearer:
            return self._authorizations.get(secret) or CachedCredential(read_bearer(secret), secret)
        if not slot.stem:
            return self._headers.get(secret) or CachedCredential(
                read_token(secret, _HEADER), secret
            )
        value = slot.stem + secret
        return self._authorizations.get(value) or CachedCredential(read_authorization(value), value)

    def put(self, cached: CachedCredential) -> None:
        """Cache a credential under its ``key``, unless that is too long."""
        key, cached.key = cached.key, b""
        if len(key) > _MOST_BYTES:
            return
        credential = cached.credential
        is_header = isinstance(credential, TokenCredential) and credential.form is _HEADER
        entries = self._headers if is_header else self._authorizations
        if len(entries) >= _MOST:
            entries.clear()
        entries[key] = cached
