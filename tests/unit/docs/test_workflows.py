"""The rules for workflows: least rights, nothing that moves, nothing that the tree has not."""

from __future__ import annotations

import os
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
PLACE = ROOT / ".github"
FILES = {path.stem: path for path in sorted((PLACE / "workflows").glob("*.yml"))}
ACTIONS = sorted((PLACE / "actions").glob("*/action.yml"))
# What may write, and what for; all of it runs from `main` or from a tag alone.
WRITERS = {
    ("chart", "push"): {"packages", "id-token"},
    ("docs", "add"): {"contents"},
    ("docs", "deploy"): {"pages", "id-token"},
    ("image", "push"): {"packages"},
    ("image", "sign"): {"packages", "id-token"},
    ("wheels", "draft"): {"contents"},
    ("wheels", "publish"): {"id-token", "attestations"},
}
NOT_FOR_PULL_REQUESTS = (
    "startsWith(github.ref, 'refs/tags/v')",
    "github.event_name != 'pull_request'",
)
AGREES = 'deploy.release --notes "${TAG#v}"'
Part = dict[str, Any]


class Loader(yaml.SafeLoader):
    """Reads ``on`` as the word that it is in a workflow, and not as a truth value."""


Loader.yaml_implicit_resolvers = {
    letter: [rule for rule in rules if rule[0] != "tag:yaml.org,2002:bool" or letter not in "oO"]
    for letter, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read(path: Path) -> Part:
    return dict(yaml.load(path.read_text("utf-8"), Loader))


WORKFLOWS = {name: read(path) for name, path in FILES.items()}
JOBS = [(name, job) for name, workflow in WORKFLOWS.items() for job in workflow["jobs"]]
STEPS = [
    (f"{name}/{job}", step)
    for name, workflow in WORKFLOWS.items()
    for job, content in workflow["jobs"].items()
    for step in content["steps"]
] + [(path.parent.name, step) for path in ACTIONS for step in read(path)["runs"]["steps"]]

every_workflow = pytest.mark.parametrize("name", WORKFLOWS)
every_job = pytest.mark.parametrize(("name", "job"), JOBS)


def commands() -> Iterator[tuple[str, str]]:
    """Yield every piece of shell, and where it stands."""
    yield from ((place, step["run"]) for place, step in STEPS if "run" in step)


def conditions_of(name: str, job: str) -> set[str]:
    """Return the conditions of a job, and of all jobs that it waits for."""
    content = WORKFLOWS[name]["jobs"][job]
    needed = [conditions_of(name, other) for other in content.get("needs", [])]
    return {content.get("if", "").split(" && ")[0]}.union(*needed)


def test_there_is_a_workflow_for_each_thing_that_is_released() -> None:
    assert {*WORKFLOWS} == {"tests", "wheels", "image", "chart", "docs"}


@every_workflow
def test_a_workflow_has_no_rights_but_those_of_its_jobs_and_stops_at_the_first_failure(
    name: str,
) -> None:
    workflow = WORKFLOWS[name]
    assert workflow["permissions"] == {}
    assert workflow["defaults"]["run"] == {"shell": "bash"}  # with pipefail, where it is named
    assert set(workflow["on"]) <= {"push", "pull_request", "workflow_dispatch"}
    assert "concurrency" in workflow


@every_job
def test_a_job_ends_and_says_what_it_may_do(name: str, job: str) -> None:
    content = WORKFLOWS[name]["jobs"][job]
    assert content["timeout-minutes"] <= 90
    rights = content["permissions"]
    assert {right for right, kind in rights.items() if kind == "write"} == WRITERS.get(
        (name, job), set()
    )
    assert {*rights.values()} <= {"read", "write"}


@pytest.mark.parametrize(("name", "job"), WRITERS)
def test_what_may_write_runs_for_no_pull_request(name: str, job: str) -> None:
    assert conditions_of(name, job).intersection(NOT_FOR_PULL_REQUESTS)


@pytest.mark.parametrize("path", [*FILES.values(), *ACTIONS], ids=lambda path: path.stem)
def test_no_secret_is_kept_anywhere(path: Path) -> None:
    """Publishing is by identity, and every job has a token of its own."""
    assert re.findall(r"secrets\s*[.\[]", path.read_text("utf-8")) == []


def test_every_action_is_pinned_by_content_and_one_way_everywhere() -> None:
    pins: dict[str, set[str]] = defaultdict(set)
    for path in [*FILES.values(), *ACTIONS]:
        for line in re.findall(r"\buses: (.+)", path.read_text("utf-8")):
            if line.startswith("./"):
                assert (ROOT / line / "action.yml").is_file()
                continue
            pinned = re.fullmatch(r"([\w.-]+/[\w./-]+)@([0-9a-f]{40} # v\d+\.\d+\.\d+)", line)
            assert pinned, f"{path.name}: {line}"
            pins[pinned[1]].add(pinned[2])
    assert len(pins) > 10
    assert {action: found for action, found in pins.items() if len(found) > 1} == {}


def test_every_checkout_leaves_no_credentials_behind() -> None:
    checkouts = [step for _, step in STEPS if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"] == {"persist-credentials": False} for step in checkouts)


def test_no_expression_is_put_into_a_shell() -> None:
    assert [place for place, text in commands() if "${{" in text] == []


def test_every_target_script_and_file_that_a_workflow_names_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    text = "\n".join(text for _, text in commands())
    targets = set(re.findall(r"^\s*make ([a-z-]+)", text, re.M))
    assert {"check", "quick"} <= targets
    assert [name for name in sorted(targets) if not re.search(rf"^{name}:", makefile, re.M)] == []
    scripts = set(re.findall(r"(?<![\w/])(\.ci/[\w-]+)", text))
    assert scripts == {".ci/run", ".ci/sdist", ".ci/try-image"}
    assert all(os.access(ROOT / script, os.X_OK) for script in scripts)
    named = set(re.findall(r"(?<![\w/])((?:\.github|deploy/helm)/[\w./-]+\w)", text))
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@every_workflow
def test_every_path_that_a_workflow_waits_for_or_passes_over_is_there(name: str) -> None:
    asked = WORKFLOWS[name]["on"]["pull_request"] or {}
    paths = [path for listed in asked.values() for path in listed if path != "**.md"]
    assert [path for path in paths if not (ROOT / path.removesuffix("/**")).exists()] == []


@pytest.mark.parametrize("name", ["wheels", "image", "chart"])
def test_what_a_tag_publishes_is_the_version_that_the_tag_names(name: str) -> None:
    workflow = WORKFLOWS[name]
    assert workflow["on"]["push"]["tags"] == ["v*"]
    jobs = workflow["jobs"]
    checking = {job for job, content in jobs.items() if AGREES in str(content["steps"])}
    for (writing, job), _ in WRITERS.items():
        if writing == name:
            assert checking & {job, *needed_by(name, job)}


def needed_by(name: str, job: str) -> set[str]:
    """Return the jobs that a job waits for, at any distance."""
    needs = WORKFLOWS[name]["jobs"][job].get("needs", [])
    return {*needs}.union(*(needed_by(name, other) for other in needs))


def test_the_versions_of_python_are_those_that_the_package_names() -> None:
    parser = ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    named = re.findall(r":: Python :: (3\.\d+)$", parser["metadata"]["classifiers"], re.M)
    jobs = WORKFLOWS["tests"]["jobs"]
    assert jobs["quick"]["strategy"]["matrix"]["python"] == named
    assert parser["options"]["python_requires"] == f">={named[0]}"
    assert f"uv python install {named[-1]}" in str(jobs["gate"]["steps"])


def test_the_workflow_passes_on_whatever_the_settings_of_the_wheels_pass_on() -> None:
    """A setting in the environment replaces the one of the file, and is not added to it."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8")).get("tool", {})
    table = settings.get("cibuildwheel", {})
    listed = {
        *table.get("environment-pass", []),
        *table.get("linux", {}).get("environment-pass", []),
    }
    (step,) = (s for place, s in STEPS if place == "wheels/wheels" and "CIBW_ARCHS" in str(s))
    assert {"SOURCE_DATE_EPOCH"} | listed == {*step["env"]["CIBW_ENVIRONMENT_PASS_LINUX"].split()}


def test_the_tests_run_in_the_system_that_the_image_is_made_of() -> None:
    base = re.findall(r"^ARG BASE=(\S+)$", (ROOT / "Dockerfile").read_text("utf-8"), re.M)
    jobs = WORKFLOWS["tests"]["jobs"].values()
    assert {job["container"]["image"] for job in jobs if "container" in job} == {*base}


def test_what_is_installed_from_elsewhere_is_pinned_by_content() -> None:
    wanted = re.findall(r"^([\w-]+)", (PLACE / "tools.in").read_text("utf-8"), re.M)
    pinned = (PLACE / "tools.txt").read_text("utf-8")
    entries = re.findall(r"^([\w-]+)==\S+((?: \\\n +--hash=sha256:[0-9a-f]{64})+)$", pinned, re.M)
    assert {*wanted} <= {name for name, _ in entries}
    assert len(entries) == pinned.count("==")
    installs = [line for _, text in commands() for line in re.findall(r"pip install.*", text)]
    assert installs
    assert all("--require-hashes --requirement .github/tools.txt" in line for line in installs)


def test_dependabot_watches_every_place_that_pins() -> None:
    updates = read(PLACE / "dependabot.yml")["updates"]
    watched = {
        (update["package-ecosystem"], place)
        for update in updates
        for place in update["directories"]
    }
    assert watched == {
        ("github-actions", "/"),
        ("github-actions", "/.github/actions/*"),
        ("pip", "/.github"),
        ("pip", "/deploy/image"),
        ("docker", "/"),
    }
    assert all(update["cooldown"]["default-days"] >= 7 for update in updates)
