"""How values become the configuration, and which changes of it roll the pods."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.config.differences import needs_restart
from sidecar.config.load import load
from tests.chart.rendering import NAME, Object, objects_in, template, the

URL = "redis://redis.shop:6379/0"
SAMPLE: Mapping[str, Any] = {
    "config": {
        "store": {"url": URL},
        "accounts": {"acme": {}},
        "trusted_proxies": ["10.0.0.0/8"],
    }
}


def rendered(values: Mapping[str, Any], directory: Path) -> list[Object]:
    file = directory / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    template.cache_clear()
    return objects_in(template(file))


def file_of(objects: list[Object]) -> str:
    return str(the("ConfigMap", objects)["data"]["sidecar.yaml"])


def annotations_of(objects: list[Object]) -> dict[str, str]:
    metadata = the("Deployment", objects)["spec"]["template"]["metadata"]
    return {key: text for key, text in metadata["annotations"].items() if "checksum" in key}


def with_config(**sections: Any) -> dict[str, Any]:
    return {**SAMPLE, "config": {**SAMPLE["config"], **sections}}


def test_values_reach_the_sidecar_as_they_are(tmp_path: Path) -> None:
    """What YAML 1.1, JSON and floating point could change on their way."""
    sections = {
        "credentials": {"realm": "on", "password_fields": None},
        "store": {"url": URL, "cache": {"tokens": 2_000_000}, "prefix": "12:30"},
        "accounts": {"yes": {}, "010": {"max_tokens": 0}, "a@b.c": {"groups": ["no"]}},
        "tracing": {"sample": 0.25},
        "limits": {"body_bytes": "1MiB", "min_rate": 0},
    }
    text = file_of(rendered(with_config(**sections), tmp_path))
    config = tmp_path / "sidecar.yaml"
    config.write_text(text)
    settings = load(config, {})
    assert settings.credentials.realm == "on"
    assert settings.credentials.password_fields is None
    assert settings.store.cache.tokens == 2_000_000
    assert settings.store.prefix == "12:30"
    assert sorted(settings.accounts) == ["010", "a@b.c", "yes"]
    assert settings.accounts["010"].max_tokens == 0
    assert settings.accounts["a@b.c"].groups == ("no",)
    assert settings.tracing.sample == 0.25
    assert settings.limits.body_bytes == 1024 * 1024


@pytest.mark.parametrize("beginning", ["# Comments stay.\n", "\n  # Even here.\n", "---\n"])
def test_a_whole_file_is_the_file_to_the_byte(beginning: str, tmp_path: Path) -> None:
    text = (
        f"{beginning}upstreams: {{a: {{url: 'http://a'}}}}\nroutes: [{{path: /a}}]\n"
        f"store: {{url: '{URL}'}}\noperations: {{address: '0.0.0.0:2022'}}  # deliberate\n"
    )
    assert file_of(rendered({"configText": text}, tmp_path)) == text.removeprefix("\n")


OTHERS: dict[str, dict[str, Any]] = {
    "an account": {"accounts": {"acme": {"disabled": True}}},
    "a route": {"routes": [{"path": "/other"}]},
    "an upstream": {"upstreams": {"listener": {"url": "http://elsewhere"}}},
    "a limit": {"limits": {"headers": 64}},
    "a health path": {"listen": {"address": "0.0.0.0:2020", "health_path": "/healthz"}},
    "the drain": {"drain": {"delay": "5s", "timeout": "30s"}},
    "an address": {"listen": {"address": "0.0.0.0:2030"}},
    "a second address": {"listen": {"address": ["0.0.0.0:2020", "unix:/tmp/a.sock"]}},
    "the mode of sockets": {"listen": {"address": "0.0.0.0:2020", "mode": "0666"}},
    "PROXY headers": {"listen": {"address": "0.0.0.0:2020", "proxy_protocol": True}},
    "the operations listener": {"operations": {"address": "0.0.0.0:9090"}},
    "a portal": {"portal": {"address": "0.0.0.0:2021"}},
    "the store": {"store": {"url": "redis://other.shop:6379/0"}},
    "the store's cache": {"store": {"url": URL, "cache": {"tokens": 7}}},
    "workers": {"workers": 2},
}


@pytest.mark.parametrize("sections", OTHERS.values(), ids=OTHERS)
def test_pods_are_rolled_by_what_the_sidecar_can_t_change_while_it_runs(
    sections: dict[str, Any], tmp_path: Path
) -> None:
    old = rendered(SAMPLE, tmp_path)
    new = rendered(with_config(**sections), tmp_path)
    settings = []
    for objects in (old, new):
        config = tmp_path / "sidecar.yaml"
        config.write_text(file_of(objects))
        settings.append(load(config, {}))
    assert settings[0] != settings[1]
    is_rolled = annotations_of(old) != annotations_of(new)
    assert is_rolled is bool(needs_restart(*settings))


@pytest.mark.parametrize("sections", OTHERS.values(), ids=OTHERS)
def test_every_change_rolls_pods_that_shall_not_reload(
    sections: dict[str, Any], tmp_path: Path
) -> None:
    old = rendered({**SAMPLE, "reloadInPlace": False}, tmp_path)
    new = rendered({**with_config(**sections), "reloadInPlace": False}, tmp_path)
    assert annotations_of(old) != annotations_of(new)


def test_tls_switched_on_rolls_pods_and_a_renewed_certificate_does_not(tmp_path: Path) -> None:
    off = rendered(SAMPLE, tmp_path)
    on = rendered({**SAMPLE, "tls": {"existingSecret": "a"}}, tmp_path)
    client = rendered({**SAMPLE, "tls": {"existingSecret": "a", "clientCa": True}}, tmp_path)
    assert annotations_of(off) != annotations_of(on)
    assert annotations_of(on) == annotations_of(client)


DURATIONS = {
    "0": 0,
    "1ms": 1,
    "1500ms": 2,
    "3s": 3,
    "1.5m": 90,
    "1h": 3600,
    "1d": 86400,
    "0.001s": 1,
}


@pytest.mark.parametrize(("written", "seconds"), DURATIONS.items())
def test_durations_are_read_as_the_sidecar_reads_them(
    written: str, seconds: int, tmp_path: Path
) -> None:
    objects = rendered(with_config(drain={"delay": "0", "timeout": written}), tmp_path)
    pod = the("Deployment", objects)["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == seconds + 15


NAMES = {
    "auth-sidecar": "auth-sidecar",
    "shop": "shop-auth-sidecar",
    "my-auth-sidecar": "my-auth-sidecar",
    "a" * 53: "a" * 50,
}


@pytest.mark.parametrize(("release", "name"), NAMES.items())
def test_names_are_short_enough_for_every_object(release: str, name: str, tmp_path: Path) -> None:
    values = {**SAMPLE, "portal": {"enabled": True}, "dashboard": {"enabled": True}}
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    objects = objects_in(template(file, name=release))
    names = {found["metadata"]["name"] for found in objects}
    assert {found[: len(name)] for found in names} == {name}
    assert max(map(len, names)) <= 63
    assert NAME in str(objects)
