"""A pod's files as the sidecar would find them, in a directory of the test's own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sidecar.core.keys import generate_key
from tests.chart.rendering import Object, sidecar_of
from tests.redis_certificates import make_certificates

SECRETS: Final = {
    "store-url": "redis://sidecar:the-password-of-redis@redis.shop:6379/0",
    "redis-password": "the-password-of-redis",
    "acme-password-hash": "$argon2id$v=19$m=19456,t=2,p=1$73ZqgEWsXwvpqEm4CnA+HA$"
    "um85PxOPg4GXZ5eyvJX6xxhO2ikcqgjsEqv8bv6cc9k",
}
"""What a Secret that exists before the release holds."""

POD: Final = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


def mount(objects: Sequence[Object], directory: Path) -> Path:
    """Write the files of the sidecar's container below ``directory``; return its configuration."""
    places = {path: directory / path.strip("/").replace("/", "-") for path in mounted(objects)}
    for place in places.values():
        place.mkdir()
    _write_secrets(objects, directory / "etc-sidecar-secrets")
    _write_certificates(directory / "etc-sidecar-tls")
    inside = re.compile("|".join(f"{re.escape(path)}(?=/)" for path in places))
    for name, text in _files_of(objects, "sidecar.yaml").items():
        outside = inside.sub(lambda found: str(places[found[0]]), text)
        (directory / "etc-sidecar" / name).write_text(outside)
    return directory / "etc-sidecar" / "sidecar.yaml"


def mounted(objects: Sequence[Object]) -> list[str]:
    """Return where the sidecar's container has directories."""
    return [mount["mountPath"] for mount in sidecar_of(objects)["volumeMounts"]]


def environment_of(objects: Sequence[Object]) -> dict[str, str]:
    """Return the environment of the sidecar's container, in a pod."""
    return POD | {entry["name"]: entry["value"] for entry in sidecar_of(objects).get("env", [])}


def _files_of(objects: Sequence[Object], name: str) -> dict[str, str]:
    """Return the files of the ConfigMap or Secret that has one of this name."""
    for found in objects:
        files: dict[str, str] = found.get("data", {}) | found.get("stringData", {})
        if found["kind"] in {"ConfigMap", "Secret"} and name in files:
            return files
    return {}


def _write_secrets(objects: Sequence[Object], place: Path) -> None:
    if not place.exists():
        return
    for found in objects:
        if found["kind"] == "Secret" and "sidecar.yaml" not in found["stringData"]:
            for name, text in found["stringData"].items():
                (place / name).write_text(text)
    certificates = make_certificates(place)
    named = re.findall(r"/etc/sidecar-secrets/([\w.-]+)", str(_files_of(objects, "sidecar.yaml")))
    for name in set(named):
        if not (place / name).exists():
            (place / name).write_text(_secret(name, certificates.authority))


def _secret(name: str, authority: Path) -> str:
    if name.endswith("-ca.pem"):
        return authority.read_text()
    return generate_key("EdDSA") if name.endswith(".pem") else SECRETS[name]


def _write_certificates(place: Path) -> None:
    if place.exists():
        made = make_certificates(place)
        made.certificate.rename(place / "tls.crt")
        made.key.rename(place / "tls.key")
