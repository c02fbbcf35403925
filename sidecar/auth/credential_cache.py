"""What the bytes of a token or a password were read as, so that they are read and hashed once.

An entry says nothing about whether the credential still holds: the authenticator looks its token
up, or compares its password's proof, on every request. The cache **holds credentials**. It lives in
this process's memory alone and is never written anywhere.

A credential is keyed by all of its bytes *and* by its form: the same bytes in ``Authorization`` and
in a token header are two entries, as a route may accept one of the two only.
"""

from __future__ import annotations

from typing import Final

from sidecar.core.credentials import CredentialRules, read_bearer, read_token
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
    """The place in a header section that holds its one credential, and how it is read there.

    ``stem`` is what precedes the secret: ``b"Bearer "`` in ``Authorization``; nothing in a header
    whose whole value is a token; the user name and a NUL, which no header contains, in the field of
    a password. The same secret behind two stems may mean two things, unless it is a token.
    """

    __slots__ = ("is_bearer", "is_header", "is_pair", "rules", "stem")

    def __init__(self, rules: CredentialRules, stem: bytes, is_bearer: bool, is_pair: bool) -> None:
        self.rules = rules
        self.stem = stem
        self.is_bearer = is_bearer
        self.is_pair = is_pair
        self.is_header = not is_bearer and not is_pair and not stem

    @classmethod
    def in_authorization(cls, rules: CredentialRules, stem: bytes) -> CredentialSlot | None:
        """Return the slot behind ``stem`` in ``Authorization``; ``None``: nothing is read there."""
        if rules.precedes_token(stem):
            return cls(rules, stem, is_bearer=True, is_pair=False)
        if stem.strip(b" \t").lower() == b"basic":
            return cls(rules, stem, is_bearer=False, is_pair=False)
        return None

    @classmethod
    def in_token_header(cls, rules: CredentialRules) -> CredentialSlot:
        """Return the slot in a header whose whole value is a token."""
        return cls(rules, b"", is_bearer=False, is_pair=False)

    @classmethod
    def beside(cls, rules: CredentialRules, user_name: bytes) -> CredentialSlot:
        """Return the slot in the field of a password, beside that of a user name."""
        return cls(rules, user_name + b"\0", is_bearer=False, is_pair=True)

    def read(self, secret: bytes) -> Credential | Denial:
        """Read an account and a password, or the token in their place."""
        if self.is_pair:
            return self.rules.read_pair(self.stem[:-1], secret)
        return self.rules.read_authorization(self.stem + secret)


class CachedCredentials:
    """A bounded cache of credentials, keyed by the bytes they were read from.

    It belongs to one set of rules, as others may read the same bytes in another way. Nothing is
    cached when it comes for the first time, because most of a flood never comes again: see
    ``CachedCredential.is_cacheable``. A full cache is cleared.
    """

    def __init__(self) -> None:
        # By the token alone behind a scheme for tokens, or none. All else is keyed by stem and
        # secret, and every stem contains a space, a tab or a NUL: so no two keys are the same.
        self._entries: dict[bytes, CachedCredential] = {}
        self._headers: dict[bytes, CachedCredential] = {}

    def __repr__(self) -> str:
        return f"<CachedCredentials {len(self._entries) + len(self._headers)}>"

    def get(self, slot: CredentialSlot, secret: bytes) -> CachedCredential:
        """Return the credential that ``secret`` is in ``slot``, reading it if it is not cached."""
        if slot.is_bearer:
            return self._entries.get(secret) or CachedCredential(read_bearer(secret), secret)
        if slot.is_header:
            return self._headers.get(secret) or CachedCredential(
                read_token(secret, _HEADER), secret
            )
        key = slot.stem + secret
        return self._entries.get(key) or CachedCredential(slot.read(secret), key)

    def put(self, cached: CachedCredential) -> None:
        """Cache a credential under its ``key``, unless that is too long."""
        key, cached.key = cached.key, b""
        if len(key) > _MOST_BYTES:
            return
        credential = cached.credential
        is_header = isinstance(credential, TokenCredential) and credential.form is _HEADER
        entries = self._headers if is_header else self._entries
        if len(entries) >= _MOST:
            entries.clear()
        entries[key] = cached
