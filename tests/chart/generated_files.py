"""The files beside the chart's templates that follow from others; ``python -m`` writes them anew.

- the chart's copies of the alerts and the dashboard, as a chart can read no file outside of it;
- in ``values.schema.json``, the schema of the configuration, and the description of each value;
- the table of values in the chart's README;
- the kustomize base and component, from what the chart renders.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from tests.chart.rendering import CHART, NAME, Object, objects_in, sidecar_of, template, the
from tests.proxy_process import ROOT

VALUES: Final = CHART / "values.yaml"
SCHEMA: Final = CHART / "values.schema.json"
README: Final = CHART / "README.md"
TABLE: Final = "<!-- The table of values, written by `make chart`, from here to the end. -->\n"

KUSTOMIZE: Final = ROOT / "deploy" / "kustomize"
BASE: Final = KUSTOMIZE / "base"
COMPONENT: Final = KUSTOMIZE / "components" / "pod-sidecar"
MADE: Final = (
    "# Made of the chart by `make chart`: change deploy/helm/auth-sidecar, not this file.\n"
)
BASE_TEMPLATES: Final = [
    *("deployment", "disruption-budget", "network-policy", "operations-service"),
    *("service", "service-account"),
]
HELM_LABELS: Final = ("app.kubernetes.io/managed-by", "helm.sh/chart")
HELM_ANNOTATIONS: Final = ("checksum/restart",)
"""What only ``helm`` keeps up to date: without it, they would be wrong one day."""

COPIES: Final = {
    CHART / "files" / "auth-sidecar.rules.yaml": ROOT / "deploy/prometheus/auth-sidecar.rules.yaml",
    CHART / "files" / "auth-sidecar.json": ROOT / "deploy/grafana/auth-sidecar.json",
}


def generated_files() -> Iterator[tuple[Path, str]]:
    """Yield what every file must hold that follows from others. Needs ``helm``.

    Later files need earlier ones: what is rendered depends on the schema.
    """
    for copy, original in COPIES.items():
        yield copy, original.read_text()
    yield SCHEMA, _schema()
    yield README, README.read_text().split(TABLE)[0] + TABLE + "\n" + _table()
    yield from _base()
    yield from _component()


# values.schema.json


def _schema() -> str:
    schema = json.loads(SCHEMA.read_text())
    configuration = json.loads((ROOT / "config" / "sidecar.schema.json").read_text())
    definitions = configuration.pop("$defs")
    del configuration["$schema"]
    del configuration["required"]  # the chart adds what is missing
    schema["$defs"] = _for_helm({"Configuration": configuration, **definitions})
    for row in described_values():
        _at(schema, row.path)["description"] = row.text
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _at(schema: Any, path: str) -> Any:
    """Return the part of the schema that a value has, not that of others of its form."""
    for step in path.split("."):
        schema = schema["properties"][step]
    return schema


def _for_helm(node: Any) -> Any:
    """Return a part of a schema without what Go's regular expressions can't say.

    These are look-arounds and more than a thousand repetitions; the sidecar checks them itself.
    """
    if isinstance(node, list):
        return [_for_helm(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    kept = {key: _for_helm(value) for key, value in node.items()}
    if isinstance(pattern := kept.get("pattern"), str) and not _is_for_go(pattern):
        del kept["pattern"]
    patterns = kept.get("patternProperties", {})
    for pattern in [pattern for pattern in patterns if not _is_for_go(pattern)]:
        kept["additionalProperties"] = patterns.pop(pattern)
    if "patternProperties" in kept and not patterns:
        del kept["patternProperties"]
    return kept


def _is_for_go(pattern: str) -> bool:
    most = max((int(times) for times in re.findall(r"\{\d+,(\d+)\}", pattern)), default=0)
    return most <= 1000 and not re.search(r"\(\?[=!<]", pattern)


# values.yaml


class DescribedValue:
    """A row of the table: a value's path, its default as YAML in one line, and what it means."""

    def __init__(self, path: str, default: object, text: str) -> None:
        self.path = path
        self.default = json.dumps(default, ensure_ascii=False)
        self.text = text


def described_values() -> Iterator[DescribedValue]:
    """Yield each value of ``values.yaml`` that has a comment ``# --``, in its order."""
    tree = yaml.safe_load(VALUES.read_text())
    place: list[tuple[int, str]] = []
    text: list[str] = []
    for line in VALUES.read_text().splitlines():
        if comment := re.match(r" *# (-- )?(.*)", line):
            text = [comment[2]] if comment[1] else [*text, comment[2]] if text else []
        elif entry := re.match(r"( *)([\w.-]+):", line):
            place = [step for step in place if step[0] < len(entry[1])]
            place.append((len(entry[1]), entry[2]))
            if text:
                steps = [name for _, name in place]
                yield DescribedValue(".".join(steps), _value_at(tree, steps), " ".join(text))
            text = []
        else:
            text = []


def _value_at(tree: Any, steps: list[str]) -> Any:
    for step in steps:
        tree = tree[step]
    return tree


def _table() -> str:
    rows = (f"| `{row.path}` | {_cell(row)} | {row.text} |\n" for row in described_values())
    return "| value | default | meaning |\n|---|---|---|\n" + "".join(rows)


def _cell(row: DescribedValue) -> str:
    return "see values.yaml" if len(row.default) > 80 else f"`{row.default}`".replace("|", "\\|")


# Kustomize


def _base() -> Iterator[tuple[Path, str]]:
    rendered = _rendered({})
    for name in BASE_TEMPLATES:
        yield BASE / f"{name}.yaml", MADE + _without_helm(_documents_of(rendered, name))
    yield BASE / "sidecar.yaml", the("ConfigMap", objects_in(rendered))["data"]["sidecar.yaml"]


def _component() -> Iterator[tuple[Path, str]]:
    """Yield what the component adds to a pod: the chart's container, volumes and settings."""
    app: Mapping[str, object] = {"name": "app", "image": "app"}
    rendered = _rendered({"mode": "podSidecar", "app": {"containers": [app]}})
    objects = objects_in(rendered)
    pod = the("Deployment", objects)["spec"]["template"]["spec"]
    kept = ("enableServiceLinks", "terminationGracePeriodSeconds", "volumes")
    patch: Object = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME},
        "spec": {
            "template": {
                "spec": {
                    **{key: pod[key] for key in kept},
                    "containers": [sidecar_of(objects)],
                }
            }
        },
    }
    yield COMPONENT / "deployment.yaml", MADE + yaml.safe_dump(patch, sort_keys=False)


def _rendered(values: Mapping[str, object]) -> str:
    with tempfile.TemporaryDirectory(prefix="chart-values-") as directory:
        path = Path(directory) / "values.yaml"
        path.write_text(yaml.safe_dump(values))
        return template(path)


def _documents_of(rendered: str, name: str) -> str:
    """Return what one template made, its comments included."""
    source = f"# Source: {NAME}/templates/{name}.yaml\n"
    parts = [part.strip("\n") for part in re.split(r"^---\n", rendered, flags=re.M)]
    return "\n---\n".join(p.removeprefix(source) for p in parts if p.startswith(source)) + "\n"


def _without_helm(text: str) -> str:
    names = "|".join(re.escape(name) for name in (*HELM_LABELS, *HELM_ANNOTATIONS))
    return re.sub(rf"^ *({names}): .*\n", "", text, flags=re.M)


if __name__ == "__main__":
    for path, text in generated_files():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
