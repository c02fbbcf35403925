"""What the workflows run where it can't be undone, run here with stand-ins for the tools around it.

A stand-in notes how it was called, and answers with what the test gives it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
COMPOSE = "compose logs --no-color --tail 50 sidecar"


class Desk:
    """A directory to run steps in, with stand-ins that come before everything on the ``PATH``."""

    def __init__(self, directory: Path) -> None:
        self.work = directory / "work"
        self.work.mkdir()
        self._tools = directory / "tools"
        self._tools.mkdir()
        self._calls = directory / "calls"
        self._calls.touch()

    def stand_in(self, name: str, shell: str = "") -> None:
        path = self._tools / name
        path.write_text(f'#!/bin/bash\necho "{name} $*" >>{self._calls}\n{shell}\n')
        path.chmod(0o755)

    def run(self, text: str, **environment: str) -> tuple[int, str]:
        return self._execute(["bash", "-eo", "pipefail", "-c", text], **environment)

    def execute(self, script: Path, *arguments: str) -> tuple[int, str]:
        return self._execute([str(script), *arguments])

    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines()

    def _execute(self, command: list[str], **environment: str) -> tuple[int, str]:
        done = subprocess.run(
            command,
            cwd=self.work,
            env={**os.environ, "PATH": f"{self._tools}:{os.environ['PATH']}", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    return Desk(tmp_path)


def step(workflow: str, job: str, name: str) -> str:
    text = (ROOT / ".github" / "workflows" / f"{workflow}.yml").read_text("utf-8")
    steps = yaml.safe_load(text)["jobs"][job]["steps"]
    return str(next(found["run"] for found in steps if found.get("name") == name))


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_each_version_of_the_site_is_kept_beside_the_others(desk: Desk, tmp_path: Path) -> None:
    origin = tmp_path / "origin.git"
    begin = (
        f"git init -q --bare {origin}; git init -q -b main; echo x >file; git add file; "
        "git -c user.name=a -c user.email=a@example.com commit -qm x; "
        f"git remote add origin {origin}; git push -q origin main"
    )
    assert desk.run(begin)[0] == 0
    desk.stand_in("gh")
    desk.stand_in(
        "make",
        'for word in "$@"; do [[ $word != *=* ]] || export "$word"; done; mkdir -p '
        '"$PAGES/$VERSION"; date +%N >"$PAGES/$VERSION/index.html"',
    )
    build = "Build this one, and put it beside them"
    for ref, is_tag in [
        ("main", "false"),
        ("v0.1.0", "true"),
        ("v0.1.1", "true"),
        ("main", "false"),
    ]:
        for name in ("Get the versions that are published", build, "Keep it"):
            text = step("docs", "add", name)
            place = "cd build/pages\n" if name == "Keep it" else ""
            status, said = desk.run(place + text, REF=ref, IS_TAG=is_tag)
            assert status == 0, said
        assert (
            desk.run("git worktree remove --force build/pages; git branch -D gh-pages || :")[0] == 0
        )
    listing = desk.run(f"git -C {origin} ls-tree -r --name-only gh-pages")[1].split()
    assert listing == ["0.1/index.html", "dev/index.html"]
    subjects = desk.run(f"git -C {origin} log --format=%s gh-pages")[1].splitlines()
    assert [subject.rsplit(" ", 1)[1] for subject in subjects] == [
        "main",
        "v0.1.1",
        "v0.1.0",
        "main",
    ]


@pytest.mark.parametrize(("tag", "options"), [("v0.2.0", ""), ("v0.2.0-rc.1", "--prerelease ")])
def test_the_draft_of_a_release_has_its_notes_and_every_file_with_its_sum(
    desk: Desk, tag: str, options: str
) -> None:
    desk.stand_in("python3", "echo '- A new thing.'")
    desk.stand_in("gh")
    (desk.work / "dist").mkdir()
    for name in ("a.tar.gz", "b.whl"):
        (desk.work / "dist" / name).write_text(name)
    status, said = desk.run(step("wheels", "draft", "Draft it from the changelog"), TAG=tag)
    assert status == 0, said
    version = tag[1:]
    assert desk.calls() == [
        f"python3 -m deploy.release --notes {version}",
        f"gh release create {tag} --draft --verify-tag --title auth-sidecar {version} "
        f"--notes-file notes.md {options}dist/a.tar.gz dist/b.whl SHA256SUMS",
    ]
    assert (desk.work / "notes.md").read_text() == "- A new thing.\n"
    assert desk.run("cd dist && sha256sum --check --quiet ../SHA256SUMS") == (0, "")


def test_the_index_names_both_architectures_and_is_signed_by_digest(desk: Desk) -> None:
    desk.stand_in("docker", 'case $* in *" inspect "*) echo sha256:99;; esac')
    desk.stand_in("cosign")
    (desk.work / "digests").mkdir()
    for digest in ("11", "22"):
        (desk.work / "digests" / digest).touch()
    image = "registry.example.com/auth-sidecar"
    status, said = desk.run(
        step("image", "sign", "Make the index, and sign it and what it names by digest"),
        IMAGE=image,
        TAGS=f"{image}:0.2.0\n{image}:0.2",
        VERSION="0.2.0",
        GITHUB_STEP_SUMMARY=str(desk.work / "summary"),
    )
    assert status == 0, said
    assert desk.calls() == [
        f"docker buildx imagetools create --tag {image}:0.2.0 --tag {image}:0.2 "
        f"{image}@sha256:11 {image}@sha256:22",
        f"docker buildx imagetools inspect {image}:0.2.0 --format {{{{.Manifest.Digest}}}}",
        f"cosign sign --yes --recursive {image}@sha256:99",
    ]
    assert (desk.work / "summary").read_text() == f"`{image}@sha256:99`\n"


@pytest.mark.parametrize(("said", "is_signed"), [("Digest: sha256:77", True), ("Pushed.", False)])
def test_the_chart_is_signed_by_the_digest_that_helm_tells_or_not_at_all(
    desk: Desk, said: str, is_signed: bool
) -> None:
    desk.stand_in("helm", f'case $1 in push) echo "Pushed: x"; echo "{said}" >&2;; esac')
    desk.stand_in("cosign")
    status, _ = desk.run(
        step("chart", "push", "Push the chart, and sign it by digest"),
        CHARTS="registry.example.com/Owner/charts",
        TAG="v0.2.0",
        GITHUB_STEP_SUMMARY=str(desk.work / "summary"),
    )
    assert (status == 0) is is_signed
    signed = "cosign sign --yes registry.example.com/owner/charts/auth-sidecar@sha256:77"
    assert desk.calls() == [
        "helm package deploy/helm/auth-sidecar",
        "helm push auth-sidecar-0.2.0.tgz oci://registry.example.com/owner/charts",
        *([signed] if is_signed else []),
    ]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_source_archive_has_the_same_bytes_whenever_and_under_whatever_umask_it_is_built(
    desk: Desk,
) -> None:
    tree = desk.work / "tree"
    (tree / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "sdist", tree / ".ci")
    commit = "git init -q; git add .; git -c user.name=a -c user.email=a@example.com commit -qm x"
    assert desk.run(f"cd tree; {commit}")[0] == 0
    building = (
        "mkdir a-1; mkdir a-1/sub; echo text >a-1/sub/file; echo x >a-1/run; chmod u+x a-1/run; "
        f'touch --date "$DAY" a-1/sub; mkdir -p "$5"; tar czf "$5/a-1.tar.gz" {"{}"}; rm -r a-1'
    )
    sums = set()
    for day, mask, order in (
        ("2020-01-01", "022", "a-1"),
        ("2021-01-01", "077", "a-1/sub a-1/run"),
    ):
        desk.stand_in("python3", f"umask {mask}; DAY={day}; {building.format(order)}")
        status, said = desk.execute(tree / ".ci" / "sdist")
        assert status == 0, said
        sums.add(said.splitlines()[-1])
    assert len(sums) == 1
    listing = desk.run("tar tvzf tree/dist/a-1.tar.gz")[1].splitlines()
    assert [line.split()[0] for line in listing] == [
        *("drwxr-xr-x", "-rwxr-xr-x", "drwxr-xr-x", "-rw-r--r--"),
    ]


def answers(without: int, before: int, after: int) -> str:
    """Return shell for a ``curl`` that looks for a token, and for whether it was revoked."""
    return (
        f"case $* in *access_token*) [ -e revoked ] && echo {after} || echo {before};; "
        f"*) echo {without};; esac"
    )


def test_an_image_that_does_not_become_ready_is_told_with_its_log_and_taken_down(
    desk: Desk,
) -> None:
    tree = desk.work / "tree"
    (tree / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "try-image", tree / ".ci")
    desk.stand_in("docker", 'case $* in *" up "*) exit 1;; esac')
    status, said = desk.execute(tree / ".ci" / "try-image")
    assert (status, said.splitlines()[-1]) == (1, "It does not become ready.")
    assert desk.calls()[-2:] == [f"docker {COMPOSE}", "docker compose down --volumes --timeout 30"]


@pytest.mark.parametrize(
    ("statuses", "version", "complaint"),
    [
        ((401, 200, 401), "0.2.0", ""),
        ((401, 200, 401), "", ""),
        ((401, 200, 401), "0.2", "This is not version 0.2."),
        ((200, 200, 401), "0.2.0", "A call without a token is not refused with 401."),
        ((401, 503, 401), "0.2.0", "A call with a token is not forwarded."),
        ((401, 200, 200), "0.2.0", "A revoked token is still taken."),
    ],
)
def test_an_image_is_tried_by_calls_that_it_has_to_forward_and_to_refuse(
    desk: Desk, statuses: tuple[int, int, int], version: str, complaint: str
) -> None:
    tree = desk.work / "tree"
    (tree / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "try-image", tree / ".ci")
    desk.stand_in(
        "docker",
        'case $* in *--version) echo "auth-sidecar 0.2.0 (compiled)";; *create*) echo secret;; '
        "*revoke*) touch revoked;; esac",
    )
    desk.stand_in("curl", answers(*statuses))
    desk.stand_in("sleep")
    status, said = desk.execute(tree / ".ci" / "try-image", *filter(None, [version]))
    assert (status, complaint in said.splitlines()) == (1 if complaint else 0, bool(complaint))
    calls = [call for call in desk.calls() if call.startswith("docker")]
    is_up = complaint != "This is not version 0.2."
    assert (f"docker {COMPOSE}" in calls) is bool(complaint)
    assert ("docker compose down --volumes --timeout 30" in calls) is is_up
