"""JWTs of the system that is replaced: well-formed, and signed with a key that nobody here has."""

from __future__ import annotations

import json

from tests.conformance.jwt_cases import part


def jwt_of(claims: object, **header: object) -> str:
    """Return a JWT with these claims, and these changes to its header."""
    head = {"alg": "HS256", "typ": "JWT"} | header
    parts = (json.dumps(head).encode(), json.dumps(claims).encode(), b"s" * 32)
    return ".".join(map(part, parts))
