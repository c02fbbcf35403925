"""The example of a chart that puts the sidecar into pods of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import kubernetes_validate
import pytest

from tests.chart.mounted_files import mount
from tests.chart.rendering import (
    CHART,
    Object,
    containers_of,
    objects_in,
    objects_of,
    of_kind,
    pods_of,
    run_helm,
    sidecar_of,
    the,
)
from tests.chart.test_rendered import is_restricted, mounts_of, ports_of, selected
from tests.command_line import run_command
from tests.proxy_process import ROOT

EXAMPLE = ROOT / "deploy" / "helm" / "examples" / "listener"


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """Return what a copy of the example renders with the chart as its dependency."""
    place = tmp_path_factory.mktemp("helm")
    example = place / "examples" / "listener"
    shutil.copytree(EXAMPLE, example, ignore=shutil.ignore_patterns("charts", "Chart.lock"))
    shutil.copytree(CHART, place / CHART.name)
    built = run_helm("dependency", "build", str(example))
    assert built.returncode == 0, built.stderr
    linted = run_helm("lint", "--strict", str(example))
    assert linted.returncode == 0, linted.stdout
    done = run_helm("template", "shop", str(example), "--kube-version", "1.31")
    assert (done.returncode, done.stderr) == (0, "")
    return objects_in(done.stdout)


def test_every_object_is_valid_by_the_schema_of_kubernetes(objects: list[Object]) -> None:
    for found in objects:
        kubernetes_validate.validate(found, "1.31", strict=True)


def test_the_container_is_that_of_the_other_layouts(objects: list[Object]) -> None:
    assert sidecar_of(objects) == sidecar_of(objects_of("pod-sidecar"))


def test_the_sidecar_finds_nothing_to_say_of_its_configuration(
    objects: list[Object], tmp_path: Path
) -> None:
    checked = run_command("check", "--strict", config=mount(objects, tmp_path))
    assert checked.returncode == 0, checked.stderr


def test_the_pod_is_confined_and_has_all_its_volumes(objects: list[Object]) -> None:
    for _, pod in pods_of(objects):
        assert [one["name"] for one in containers_of(pod) if not is_restricted(pod, one)] == []
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        assert {mount["name"] for mount in mounts_of(pod)} <= volumes


def test_services_and_policies_find_the_pods_of_the_other_chart(objects: list[Object]) -> None:
    services = of_kind(objects, "Service")
    assert len(services) == 2
    for service in services:
        (pod,) = selected(service["spec"]["selector"], objects)
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports_of(pod)
    policy = the("NetworkPolicy", objects, "shop-auth-sidecar")
    assert len(selected(policy["spec"]["podSelector"]["matchLabels"], objects)) == 1


def test_the_chart_leaves_pods_and_their_way_in_to_the_other(objects: list[Object]) -> None:
    made = {(found["kind"], found["metadata"]["name"]) for found in objects_of("library")}
    assert made == {
        ("ConfigMap", "auth-sidecar"),
        ("NetworkPolicy", "auth-sidecar"),
        ("Pod", "auth-sidecar-test"),
        ("Service", "auth-sidecar-operations"),
        ("ServiceMonitor", "auth-sidecar"),
    }
