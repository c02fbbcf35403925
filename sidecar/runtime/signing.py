"""Which key signs the sidecar's JWTs: the first one of the configuration, if there is any."""

from __future__ import annotations

from sidecar.config.settings import Settings
from sidecar.core.errors import UsageError
from sidecar.core.signed_tokens import SignedTokens
from sidecar.runtime.build import own_keys
from sidecar.tokens.lifecycle import Signer


def signer_of(settings: Settings) -> Signer | None:
    """Return the function that signs JWTs for ``tokens.lifecycle``; ``None`` without a key.

    Raises ``UsageError`` for keys that can't be used.
    """
    if not settings.jwt.keys:
        return None
    jwt = settings.jwt
    try:
        return SignedTokens(jwt.issuer, jwt.audience, jwt.leeway, own_keys(settings)).sign
    except ValueError as error:
        raise UsageError(f"jwt.keys: {error}") from None
