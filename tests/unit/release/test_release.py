"""`make release` on a clone to throw away: what it refuses, and what it leaves behind."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.release.__main__ import main
from deploy.release.changelog import Section, read_sections
from tests.unit.release.throwaway_clone import CHANGELOG, CHART, Clone

HELM = "deploy/helm/auth-sidecar/Chart.yaml"
PROGRAM = "sidecar/__init__.py"
LOCK = "deploy/image/requirements.txt"


def fall_behind(clone: Clone) -> None:
    newest = clone.git("commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "Newer")
    clone.git("update-ref", "refs/remotes/origin/main", newest)


@dataclass(frozen=True)
class Refused:
    """What is done to a clone, and every sentence that the release is then refused with."""

    why: str
    change: Callable[[Clone], object]
    sentences: tuple[str, ...]
    version: str = "0.2.0"


REFUSED = [
    Refused(
        "no version",
        lambda clone: None,
        ("Name a version: write X.Y.Z, or X.Y.Z-rc.N for a candidate.",),
        version="",
    ),
    Refused(
        "a version of another form",
        lambda clone: None,
        ("'v0.2' is not a version: write X.Y.Z, or X.Y.Z-rc.N for a candidate.",),
        version="v0.2",
    ),
    Refused(
        "a version that is tagged",
        lambda clone: clone.git("tag", "v0.2.0"),
        ("Take the next version: v0.2.0 is tagged, and a tag is never moved.",),
    ),
    Refused(
        "a version before the last tag",
        lambda clone: [clone.git("tag", tag) for tag in ("v0.9.0", "v0.10.0", "vital")],
        ("Take a version greater than 0.10.0, the last one tagged: 0.2.0 is less.",),
    ),
    Refused(
        "a version before that of the tree",
        lambda clone: None,
        (f"Take 0.1.0, which {PROGRAM} names, or a greater version: 0.0.9 is less.",),
        version="0.0.9",
    ),
    Refused(
        "a chart of another version",
        lambda clone: clone.commit({HELM: CHART.format("0.0.9")}),
        (
            f"Make every place name the same version: {PROGRAM} (__version__) 0.1.0; "
            f"{HELM} (appVersion) 0.0.9.",
        ),
    ),
    Refused(
        "no chart",
        lambda clone: [clone.git("rm", "--quiet", HELM), clone.git("commit", "-qm", "x")],
        (
            f"Make every place name the same version: {PROGRAM} (__version__) 0.1.0; "
            f"{HELM} (version) names none; {HELM} (appVersion) names none.",
        ),
    ),
    Refused(
        "another branch",
        lambda clone: clone.git("switch", "--quiet", "--create", "work"),
        ("Switch to main (git switch main): this is work.",),
    ),
    Refused(
        "no branch",
        lambda clone: clone.git("switch", "--quiet", "--detach"),
        ("Switch to main (git switch main): no branch is checked out.",),
    ),
    Refused(
        "a branch that is behind",
        fall_behind,
        ("Take up a commit of origin/main first: git pull --ff-only.",),
    ),
    Refused(
        "files that are not committed",
        lambda clone: clone.write({"a b": "", "setup.cfg": "[options]\n"}),
        ("Commit or stash what is not in git yet: setup.cfg, a b.",),
    ),
    Refused(
        "many files that are not committed",
        lambda clone: clone.write({f"x{number}": "" for number in range(7)}),
        ("Commit or stash what is not in git yet: x0, x1, x2, x3, x4 and 2 more.",),
    ),
    Refused(
        "nothing unreleased",
        lambda clone: clone.commit({"CHANGELOG.md": CHANGELOG.split("###")[0]}),
        ("Write under Unreleased in CHANGELOG.md what changes for users: nothing is there.",),
    ),
    Refused(
        "no place for what is unreleased",
        lambda clone: clone.commit({"CHANGELOG.md": "# Changelog\n"}),
        ("Begin CHANGELOG.md with a section '## [Unreleased]': there is none.",),
    ),
    Refused(
        "lines that came after the section was prepared",
        lambda clone: clone.commit(
            {"CHANGELOG.md": f"{CHANGELOG}\n## [0.2.0] - 2027-01-01\n\n- x\n"}
        ),
        ("Move what CHANGELOG.md has under Unreleased into its section 0.2.0.",),
    ),
    Refused(
        "a library below its floor, and one that is missing",
        lambda clone: clone.commit({LOCK: "aiohttp==3.14.2 \\\n"}),
        (
            f"Run make lock and commit the list: setup.cfg wants aiohttp>=3.14.3, and {LOCK} "
            "holds 3.14.2.",
            f"Run make lock and commit the list: setup.cfg wants redis[hiredis]>=5, and {LOCK} "
            "does not name it.",
        ),
    ),
    Refused(
        "a major version without notes on upgrading",
        lambda clone: clone.git("tag", "v0.1.0"),
        ("Say under '### 1.0.0' in docs/how-to/upgrade.md what an administrator must do.",),
        version="1.0.0",
    ),
    Refused(
        "tests that fail",
        lambda clone: clone.commit({"Makefile": "test:\n\t@exit 1\n"}),
        ("Find out why make test fails, mend it, and begin again.",),
    ),
    Refused(
        "several things at once",
        lambda clone: clone.write({"x": clone.git("switch", "-qc", "work")}),
        (
            "Commit or stash what is not in git yet: x.",
            "Switch to main (git switch main): this is work.",
            "'one' is not a version: write X.Y.Z, or X.Y.Z-rc.N for a candidate.",
        ),
        version="one",
    ),
]


def is_makes_own(line: str) -> bool:
    """Tell a line of make about itself; below another make it counts how deep it is."""
    return re.match(r"make(\[\d+\])?: ", line) is not None


def release(clone: Clone, version: str, *options: str) -> int:
    return main([version, "--root", str(clone.root), *options])


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.why)
def test_a_release_is_refused_with_all_that_is_to_be_done_and_changes_nothing(
    clone: Clone, case: Refused, capfd: pytest.CaptureFixture[str]
) -> None:
    case.change(clone)
    before = clone.git("status", "--porcelain"), clone.git("rev-parse", "HEAD"), clone.git("tag")
    assert release(clone, case.version) == 1
    told = capfd.readouterr().err.splitlines()
    assert [line for line in told if not is_makes_own(line)] == [*case.sentences]
    after = clone.git("status", "--porcelain"), clone.git("rev-parse", "HEAD"), clone.git("tag")
    assert after == before


def test_a_release_is_a_commit_and_an_annotated_tag_with_notes_and_no_push(
    clone: Clone, capfd: pytest.CaptureFixture[str]
) -> None:
    assert release(clone, "0.2.0") == 0
    assert read_sections(clone.read("CHANGELOG.md")) == (
        Section("Unreleased", "", ""),
        Section("0.2.0", "2027-01-15", "### For callers\n\n- A new thing."),
    )
    assert clone.read(PROGRAM).endswith('__version__ = "0.2.0"\n')
    assert clone.read(HELM).endswith('version: 0.2.0\nappVersion: "0.2.0"\n')
    assert (
        clone.read("deploy/kubernetes/pod.yaml") == "image: auth-sidecar:0.2.0        # by digest\n"
    )
    assert clone.git("log", "-1", "--format=%s") == "Release 0.2.0"
    assert clone.git("status", "--porcelain") == ""
    assert clone.git("cat-file", "-t", "v0.2.0") == "tag"
    assert clone.git("rev-parse", "v0.2.0^{commit}") == clone.git("rev-parse", "HEAD")
    assert clone.read("dist/notes-0.2.0.md") == "### For callers\n\n- A new thing.\n"
    told = capfd.readouterr().out.splitlines()
    assert told[0] == "tested"
    assert "  git push --atomic origin main v0.2.0" in told
    assert told[-1] == (
        "  gh release create v0.2.0 --draft --verify-tag --title 'auth-sidecar 0.2.0' "
        "--notes-file dist/notes-0.2.0.md"
    )


def test_the_first_release_keeps_the_version_and_ends_that_it_is_not_released_yet(
    clone: Clone,
) -> None:
    assert release(clone, "0.1.0", "--checked") == 0
    assert "### 0.1.0\n" in clone.read("docs/how-to/upgrade.md")
    assert clone.git("show", "--stat", "--format=", "--name-only").splitlines() == [
        "CHANGELOG.md",
        "docs/how-to/upgrade.md",
    ]


def test_a_candidate_leaves_what_is_unreleased_to_the_release(clone: Clone) -> None:
    for number in (1, 2):
        assert release(clone, f"0.1.0-rc.{number}", "--checked") == 0
    assert clone.read(PROGRAM).endswith('__version__ = "0.1.0-rc.2"\n')
    assert clone.read("CHANGELOG.md") == CHANGELOG
    assert clone.read("dist/notes-0.1.0-rc.2.md") == "### For callers\n\n- A new thing.\n"
    assert release(clone, "0.1.0-rc.2", "--notes") == 0
    assert release(clone, "0.1.0", "--checked") == 0
    assert [section.name for section in read_sections(clone.read("CHANGELOG.md"))] == [
        *("Unreleased", "0.1.0"),
    ]
    assert clone.git("tag").split() == ["v0.1.0", "v0.1.0-rc.1", "v0.1.0-rc.2"]


def test_a_release_after_another_has_both_sections(clone: Clone) -> None:
    assert release(clone, "0.1.0", "--checked") == 0
    text = clone.read("CHANGELOG.md").replace("[Unreleased]\n", "[Unreleased]\n\n- Another.\n")
    clone.commit({"CHANGELOG.md": text})
    assert release(clone, "0.2.0", "--checked") == 0
    names = [section.name for section in read_sections(clone.read("CHANGELOG.md"))]
    assert names == ["Unreleased", "0.2.0", "0.1.0"]
    assert clone.git("tag").split() == ["v0.1.0", "v0.2.0"]


def test_a_dry_run_shows_the_difference_and_changes_nothing(
    clone: Clone, capfd: pytest.CaptureFixture[str]
) -> None:
    before = clone.git("rev-parse", "HEAD")
    assert release(clone, "0.2.0", "--dry-run") == 0
    told = capfd.readouterr().out.splitlines()
    assert "+## [0.2.0] - 2027-01-15" in told
    assert '+__version__ = "0.2.0"' in told
    assert "tested" not in told
    assert (clone.git("rev-parse", "HEAD"), clone.git("status", "--porcelain")) == (before, "")
    assert clone.git("tag") == ""


def test_what_was_prepared_on_a_branch_and_merged_needs_the_tag_alone(clone: Clone) -> None:
    clone.git("switch", "--quiet", "--create", "release")
    assert release(clone, "0.2.0", "--prepare-only") == 0
    assert (clone.git("tag"), clone.git("log", "-1", "--format=%s")) == ("", "Change something")
    clone.git("commit", "--quiet", "--all", "--message", "Release 0.2.0")
    clone.git("switch", "--quiet", "main")
    clone.git("merge", "--quiet", "release")
    before = clone.git("rev-parse", "HEAD")
    assert release(clone, "0.2.0", "--checked") == 0
    assert clone.git("rev-parse", "HEAD", "v0.2.0^{commit}").split() == [before, before]


def test_a_tag_is_signed_where_git_is_configured_so(
    clone: Clone, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    signer = tmp_path / "signer"
    signer.write_text(
        '#!/bin/sh\necho "[GNUPG:] SIG_CREATED " >&2\n'
        "echo -----BEGIN PGP SIGNATURE-----; cat >/dev/null; echo -----END PGP SIGNATURE-----\n"
    )
    signer.chmod(0o755)
    clone.git("config", "user.signingKey", "me")
    clone.git("config", "gpg.program", str(signer))
    assert release(clone, "0.2.0", "--checked") == 0
    assert "BEGIN PGP SIGNATURE" in clone.git("cat-file", "tag", "v0.2.0")


def test_a_tag_that_fails_leaves_a_commit_that_a_second_run_tags(
    clone: Clone, capfd: pytest.CaptureFixture[str]
) -> None:
    clone.git("config", "user.signingKey", "me")
    clone.git("config", "gpg.program", "/bin/false")
    assert release(clone, "0.2.0", "--checked") == 1
    assert capfd.readouterr().err.startswith("git tag: ")
    clone.git("config", "--unset", "user.signingKey")
    assert release(clone, "0.2.0", "--checked") == 0
    assert clone.git("log", "--format=%s").splitlines() == ["Release 0.2.0", "Change something"]


def test_the_notes_of_a_tag_are_printed_where_the_tree_is_that_version(
    clone: Clone, capfd: pytest.CaptureFixture[str]
) -> None:
    assert release(clone, "0.2.0", "--checked") == 0
    capfd.readouterr()
    assert release(clone, "0.2.0", "--notes") == 0
    assert capfd.readouterr().out == "### For callers\n\n- A new thing.\n"
    assert release(clone, "0.1.0", "--notes") == 1
    told = capfd.readouterr().err.splitlines()
    assert told[:2] == [
        "CHANGELOG.md does not tell of '0.1.0'.",
        f"{PROGRAM} (__version__) 0.2.0 instead of 0.1.0.",
    ]


def test_make_passes_what_it_is_told(clone: Clone) -> None:
    makefile = Path(__file__).resolve().parents[3] / "Makefile"
    flags = ("--dry-run", "--no-print-directory", "--old-file", ".venv/.installed-dev")
    asked = ["make", *flags, "-f", str(makefile)]
    for words, options in {
        ("VERSION=1.2.3",): "1.2.3",
        ("VERSION=1.2.3", "DRY_RUN=1"): "--dry-run 1.2.3",
        ("VERSION=1.2.3", "PREPARE_ONLY=1", "CHECKED=1"): "--prepare-only --checked 1.2.3",
    }.items():
        done = subprocess.run(
            [*asked, "release", *words], cwd=clone.root, capture_output=True, text=True, check=True
        )
        said = done.stdout.splitlines()[-1]
        assert said.split("-m deploy.release")[1].split() == options.split()
