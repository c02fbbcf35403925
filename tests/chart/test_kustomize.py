"""The kustomize base is what the chart renders by default; the examples on top of it work."""

from __future__ import annotations

import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest

from tests.chart.generated_files import HELM_ANNOTATIONS, HELM_LABELS, KUSTOMIZE
from tests.chart.mounted_files import POD, mount
from tests.chart.rendering import (
    NAME,
    Object,
    containers_of,
    objects_in,
    objects_of,
    of_kind,
    pods_of,
    sidecar_of,
    the,
)
from tests.chart.test_rendered import is_restricted, ports_of, selected
from tests.command_line import run_command
from tests.kubernetes_tools import tool
from tests.patience import PATIENCE_SECONDS

EXAMPLES: Final = ["examples/pod-sidecar", "examples/stand-alone"]
# The rest of the listener in the pod is `preStop.sleep`, which came with 1.30.
CASES: Final = [("base", "1.28"), ("examples/stand-alone", "1.28")] + [
    (name, "1.31") for name in ("base", *EXAMPLES)
]


def kustomized(name: str) -> list[Object]:
    command = [tool("kubectl"), "kustomize", str(KUSTOMIZE / name)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return objects_in(done.stdout)


def without_helm(found: Object) -> Object:
    """Return an object without what only helm uses: two labels and the checksum of a roll-out."""
    kept = deepcopy(found)
    pod = kept.get("spec", {}).get("template", {})
    for metadata in (kept["metadata"], pod.get("metadata", {})):
        for name in HELM_LABELS:
            metadata.get("labels", {}).pop(name, None)
        for name in HELM_ANNOTATIONS:
            metadata.get("annotations", {}).pop(name, None)
    return kept


def is_hook(found: Object) -> bool:
    """Return whether only `helm test` makes the object."""
    return "helm.sh/hook" in found["metadata"].get("annotations", {})


def by_name(objects: list[Object]) -> dict[tuple[Any, ...], Object]:
    named = {
        (found["apiVersion"], found["kind"], found["metadata"]["name"]): found for found in objects
    }
    assert len(named) == len(objects)
    return named


def test_the_base_is_what_the_chart_renders_by_default() -> None:
    rendered = [without_helm(found) for found in objects_of("default") if not is_hook(found)]
    assert len(rendered) == 7
    assert by_name(kustomized("base")) == by_name(rendered)


@pytest.mark.parametrize(("name", "release"), CASES)
def test_every_object_is_valid_by_the_schema_of_kubernetes(name: str, release: str) -> None:
    for found in kustomized(name):
        kubernetes_validate.validate(found, release, strict=True)


def test_the_component_adds_the_container_of_the_chart() -> None:
    added = sidecar_of(kustomized("examples/pod-sidecar"))
    own = sidecar_of(objects_of("pod-sidecar"))
    assert added == own


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_sidecar_finds_nothing_to_say_of_an_example(name: str, tmp_path: Path) -> None:
    objects = kustomized(name)
    (secret,) = of_kind(objects, "Secret")
    assert sorted(secret["data"]) == ["acme-password-hash", "store-url"]
    config = mount([one for one in objects if one["kind"] != "Secret"], tmp_path)
    checked = run_command("check", "--strict", config=config, environment=POD)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_confined_and_its_parts_find_each_other(name: str) -> None:
    objects = kustomized(name)
    for _, pod in pods_of(objects):
        assert [one["name"] for one in containers_of(pod) if not is_restricted(pod, one)] == []
        assert pod["automountServiceAccountToken"] is False
    for service in of_kind(objects, "Service"):
        (pod,) = selected(service["spec"]["selector"], objects)
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports_of(pod)
    for kind in ("ConfigMap", "Secret"):
        (found,) = of_kind(objects, kind)
        assert found["metadata"]["name"] == NAME
    assert {found["metadata"]["namespace"] for found in objects} == {"shop"}


def test_the_listener_in_the_pod_outlives_the_drain() -> None:
    pod = the("Deployment", kustomized("examples/pod-sidecar"), "listener")["spec"]["template"][
        "spec"
    ]
    (listener,) = (one for one in pod["containers"] if one["name"] == "listener")
    seconds = listener["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert seconds + 10 <= pod["terminationGracePeriodSeconds"]


def test_an_example_with_an_image_of_its_own_runs_it() -> None:
    objects = kustomized("examples/stand-alone")
    assert sidecar_of(objects)["image"] == "registry.example.com/platform/auth-sidecar:0.1.0"
    assert the("Deployment", objects)["spec"]["replicas"] == 3
