"""What the chart makes of a set of values, by the real ``helm``; and the sets that are tried."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import yaml

from tests.kubernetes_tools import tool
from tests.patience import PATIENCE_SECONDS
from tests.proxy_process import ROOT

CHART: Final = ROOT / "deploy" / "helm" / "auth-sidecar"
SETS: Final = {path.stem: path for path in sorted((CHART / "ci").glob("*.yaml"))}
USUAL: Final = "1.31"
LATEST: Final = ".".join(kubernetes_validate.latest_version().split(".")[:2])
RELEASES: Final = [*dict.fromkeys(("1.28", USUAL, LATEST))]
"""Of Kubernetes: the oldest, the one that most tests are about, the newest with a known schema."""

NAME: Final = "auth-sidecar"
TOO_OLD: Final = [("native-sidecar", "1.28")]
"""Sets that need a newer Kubernetes: they are refused."""

CASES: Final = [
    (name, release) for name in SETS for release in RELEASES if (name, release) not in TOO_OLD
]

Object = dict[str, Any]
Done = subprocess.CompletedProcess[str]


def run_helm(*arguments: str) -> Done:
    """Run ``helm`` to its end, whatever its exit status."""
    command = [tool("helm"), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )


@functools.cache
def template(values: Path, release: str = USUAL, name: str = NAME) -> str:
    """Return what ``helm template`` prints for values, a version of Kubernetes, and a name."""
    done = run_helm(
        *("template", name, str(CHART), "--values", str(values), "--kube-version", release)
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def objects_in(text: str) -> list[Object]:
    """Return the objects of a stream of YAML."""
    return [found for found in yaml.safe_load_all(text) if found]


def objects_of(name: str, release: str = USUAL) -> list[Object]:
    """Return the objects of one of ``SETS``."""
    return objects_in(template(SETS[name], release))


def of_kind(objects: Sequence[Object], kind: str) -> list[Object]:
    """Return the objects of a kind."""
    return [found for found in objects if found["kind"] == kind]


def the(kind: str, objects: Sequence[Object], name: str = NAME) -> Object:
    """Return the one object of a kind and a name."""
    (found,) = (one for one in of_kind(objects, kind) if one["metadata"]["name"] == name)
    return found


def pods_of(objects: Sequence[Object]) -> Iterator[tuple[Object, Object]]:
    """Yield the labels and the specification of every pod that the objects lead to."""
    for found in objects:
        if found["kind"] == "Pod":
            yield found["metadata"]["labels"], found["spec"]
        elif found["kind"] in {"Deployment", "Job", "StatefulSet"}:
            pod = found["spec"]["template"]
            yield pod["metadata"]["labels"], pod["spec"]


def containers_of(pod: Object) -> list[Object]:
    """Return the containers of a pod's specification, those that run first included."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def sidecar_of(objects: Sequence[Object]) -> Object:
    """Return the container of the sidecar."""
    (deployment,) = of_kind(objects, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (found,) = (one for one in containers_of(pod) if one["name"] == "sidecar")
    return dict(found)
