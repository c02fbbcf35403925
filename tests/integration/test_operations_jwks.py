"""The published key set over a real socket: what verifies, and nothing that signs."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import TestClient, TestServer
from jwt import PyJWKSet

from sidecar.core.key_documents import export_key_set, load_key
from sidecar.core.keys import Key, generate_key
from sidecar.operations.health import Health
from sidecar.operations.jwks import PATH
from sidecar.operations.listener import operations_app


async def ping() -> None:
    """Be a store that answers."""


def key_of(algorithm: str, key_id: str = "k1") -> Key:
    return load_key(key_id, algorithm, generate_key(algorithm))


async def fetch(*keys: Key) -> dict[str, list[dict[str, str]]]:
    app = operations_app(Health(ping, lambda: False), key_set=lambda: export_key_set(keys))
    async with TestClient(TestServer(app)) as client, client.get(PATH) as response:
        assert response.status == 200
        assert response.content_type == "application/jwk-set+json"
        assert response.headers["Cache-Control"] == "public, max-age=300"
        published: dict[str, list[dict[str, str]]] = await response.json()
        return published


async def test_every_public_half_is_published_in_order() -> None:
    published = await fetch(key_of("EdDSA", "new"), key_of("ES256", "old"))
    assert [key["kid"] for key in published["keys"]] == ["new", "old"]
    assert {name for key in published["keys"] for name in key} <= {
        *("kty", "kid", "alg", "use", "crv", "x", "y")
    }
    assert len(PyJWKSet.from_dict(published).keys) == 2


@pytest.mark.parametrize("keys", [(), (key_of("HS256"),)], ids=["no keys", "a shared secret"])
async def test_where_nothing_can_be_published_the_set_is_empty(keys: tuple[Key, ...]) -> None:
    assert await fetch(*keys) == {"keys": []}


async def test_without_a_key_set_there_is_no_such_path() -> None:
    app = operations_app(Health(ping, lambda: False))
    async with TestClient(TestServer(app)) as client, client.get(PATH) as response:
        assert response.status == 404
