"""An upstream that believes the sidecar's signature and nothing else.

Needs PyJWT and cryptography (pip install 'PyJWT[crypto]')::

    python upstream.py http://127.0.0.1:2022/.well-known/jwks.json 8080
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt

HEADER = "X-Account-Assertion"  # identity.assertion.header
ISSUER = "sidecar"  # jwt.issuer
AUDIENCE = "listener"  # the name of this upstream in the sidecar's configuration


class NotTheSidecar(Exception):
    """The request did not come through the sidecar, or not to this upstream."""


class Assertions:
    """Verifies assertions with the keys that the sidecar publishes; fetches them when needed."""

    def __init__(self, jwks_url: str) -> None:
        self._keys = jwt.PyJWKClient(jwks_url, lifespan=300, timeout=5)

    def verify(self, assertion: str) -> dict[str, Any]:
        """Return the claims; raises ``NotTheSidecar``, or ``PyJWKClientConnectionError`` (503)."""
        try:
            key = self._keys.get_signing_key_from_jwt(assertion)
            verified = jwt.decode_complete(
                assertion,
                key,
                algorithms=[key.algorithm_name],  # the key's own, not the token's
                audience=AUDIENCE,
                issuer=ISSUER,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except jwt.PyJWKClientConnectionError:
            raise
        except jwt.PyJWTError as error:
            raise NotTheSidecar(str(error)) from None
        # The same keys sign callers' own JWTs; only the type tells the two apart.
        if verified["header"].get("typ") != "assertion+jwt":
            raise NotTheSidecar("this is no assertion")
        claims: dict[str, Any] = verified["payload"]
        return claims


class Listener(BaseHTTPRequestHandler):
    """Says hello to the account that the assertion names."""

    assertions: Assertions

    def do_GET(self) -> None:
        """Answer 200, 401 or 503."""
        values = self.headers.get_all(HEADER, [])
        try:
            if len(values) != 1:
                raise NotTheSidecar("one assertion is needed")
            self._answer(200, {"account": self.assertions.verify(values[0])["sub"]})
        except NotTheSidecar:
            self._answer(401, {"detail": "This service is called through the sidecar."})
        except jwt.PyJWKClientConnectionError:
            self._answer(503, {"detail": "The keys can't be fetched right now."})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if __name__ == "__main__":
    Listener.assertions = Assertions(sys.argv[1])
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Listener).serve_forever()
