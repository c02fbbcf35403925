"""The shipped manifests: valid for Kubernetes, and true of the configuration that they carry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from sidecar.config.load import load
from sidecar.config.settings import Settings
from tests.proxy_process import ROOT

PLACE = ROOT / "deploy" / "kubernetes"
FILES = sorted(PLACE.glob("*.yaml"))
LAYOUTS = ["pod-sidecar", "stand-alone"]
RELEASES = ["1.30", "1.33"]
SPARE_SECONDS = 10
Object = dict[str, Any]


def objects_in(path: Path) -> list[Object]:
    return [found for found in yaml.safe_load_all(path.read_text()) if found]


def the(kind: str, path: Path) -> Object:
    """Return the first object of a kind in a file."""
    return next(found for found in objects_in(path) if found["kind"] == kind)


def container_of(layout: str, name: str = "sidecar") -> Object:
    pod = the("Deployment", PLACE / f"{layout}.yaml")["spec"]["template"]["spec"]
    (found,) = (c for c in pod["containers"] if c["name"] == name)
    return dict(found)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Return the configuration of the ConfigMap, with the Secret mounted somewhere else."""
    directory = tmp_path_factory.mktemp("mounted")
    shared = PLACE / "configuration.yaml"
    for name, text in the("Secret", shared)["stringData"].items():
        (directory / name).write_text(text)
    text = the("ConfigMap", shared)["data"]["sidecar.yaml"]
    config = directory / "sidecar.yaml"
    config.write_text(text.replace("/etc/sidecar-secrets", str(directory)))
    return load(config, {})


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_object_is_valid_by_the_schema_of_kubernetes(path: Path, release: str) -> None:
    for found in objects_in(path):
        kubernetes_validate.validate(found, release, strict=True)


def test_a_member_that_kubernetes_does_not_know_is_found() -> None:
    deployment = the("Deployment", PLACE / "stand-alone.yaml")
    deployment["spec"]["template"]["spec"]["terminationGraceSeconds"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, RELEASES[0], strict=True)


def test_the_configuration_passes_the_check(settings: Settings) -> None:
    assert settings.store.url.startswith("redis://")
    assert list(settings.accounts) == ["acme"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ports_and_probes_are_those_of_the_configuration(layout: str, settings: Settings) -> None:
    container = container_of(layout)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert settings.operations is not None
    assert ports == {
        "proxy": settings.listen.address[0].port,
        "operations": settings.operations.address.port,
    }
    probes = {probe: container[f"{probe}Probe"]["httpGet"] for probe in ("startup", "liveness")}
    probes["readiness"] = container["readinessProbe"]["httpGet"]
    assert {probe["path"] for probe in probes.values()} == {"/healthz", "/readyz"}
    assert {probe["port"] for probe in probes.values()} == {"operations"}
    assert the("Service", PLACE / f"{layout}.yaml")["spec"]["ports"][0]["targetPort"] == "proxy"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_end_has_the_time_that_a_drain_may_take(layout: str, settings: Settings) -> None:
    pod = the("Deployment", PLACE / f"{layout}.yaml")["spec"]["template"]["spec"]
    drain = settings.drain.delay + settings.drain.timeout
    assert pod["terminationGracePeriodSeconds"] >= drain + SPARE_SECONDS


def test_the_listener_in_the_pod_outlives_the_drain(settings: Settings) -> None:
    rest = container_of("pod-sidecar", "listener")["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert rest >= settings.drain.delay + settings.drain.timeout


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_outage_of_redis_leaves_pods_in_service_while_known_tokens_pass(
    layout: str, settings: Settings
) -> None:
    probe = container_of(layout)["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= settings.store.outage_grace


def restricted(pod: Object) -> Iterator[Object]:
    """Yield the containers that keep to the Pod Security Standard *restricted*."""
    is_apart = pod["securityContext"]["runAsNonRoot"] is True
    seccomp = pod["securityContext"]["seccompProfile"]["type"]
    for container in pod["containers"]:
        own = container["securityContext"]
        is_unprivileged = own["allowPrivilegeEscalation"] is False
        if (
            is_apart
            and is_unprivileged
            and seccomp == "RuntimeDefault"
            and own["capabilities"] == {"drop": ["ALL"]}
        ):
            yield container


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pods_keep_to_the_restricted_standard_and_write_nowhere(layout: str) -> None:
    pod = the("Deployment", PLACE / f"{layout}.yaml")["spec"]["template"]["spec"]
    assert [*restricted(pod)] == pod["containers"]
    for container in pod["containers"]:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["runAsUser"] == 10001
        assert container["resources"]["limits"]["memory"]
    assert pod["automountServiceAccountToken"] is False


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_selector_finds_the_pods_of_its_layout(layout: str) -> None:
    path = PLACE / f"{layout}.yaml"
    labels = the("Deployment", path)["spec"]["template"]["metadata"]["labels"]
    assert the("Deployment", path)["spec"]["selector"]["matchLabels"] == labels
    assert the("Service", path)["spec"]["selector"] == labels
    assert the("PodDisruptionBudget", path)["spec"]["selector"]["matchLabels"] == labels
    assert the("NetworkPolicy", path)["spec"]["podSelector"]["matchLabels"] == labels


@pytest.mark.parametrize("layout", LAYOUTS)
def test_mounts_are_directories_so_that_changes_arrive(layout: str) -> None:
    for mount in container_of(layout)["volumeMounts"]:
        assert "subPath" not in mount
        assert mount.get("readOnly", False) is (mount["mountPath"] != "/tmp")


def test_behind_a_stand_alone_sidecar_nobody_else_reaches_the_listener() -> None:
    policies = [o for o in objects_in(PLACE / "stand-alone.yaml") if o["kind"] == "NetworkPolicy"]
    behind = next(p for p in policies if p["metadata"]["name"] == "listener-behind-auth-sidecar")
    ours = the("Deployment", PLACE / "stand-alone.yaml")["spec"]["selector"]
    assert behind["spec"]["ingress"] == [{"from": [{"podSelector": ours}]}]
