"""Which code the bench runs, and that two trees are compared in one form only."""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from benchmarks import trees
from benchmarks.processes import UnavailableError

BUILT = "build/compiled"


def checkout(directory: Path, *compiled: str, source: str = "") -> Path:
    """Make a tree: ``compiled`` are places in it (``.`` or ``BUILT``) with compiled modules."""
    for place in ("", *compiled):
        package = directory / place / "sidecar"
        package.mkdir(parents=True, exist_ok=True)
        (package / "__main__.py").write_text(source)
    for place in compiled:
        (directory / place / "sidecar" / f"gateway{EXTENSION_SUFFIXES[0]}").touch()
    return directory


def test_a_checkout_is_interpreted(tmp_path: Path) -> None:
    tree = trees.find(checkout(tmp_path))

    assert (tree.root, tree.form) == (tmp_path, "interpreted")


def test_what_was_compiled_of_a_checkout_is_preferred(tmp_path: Path) -> None:
    tree = trees.find(checkout(tmp_path, BUILT))

    assert (tree.root, tree.form, tree.interpreted) == (tmp_path / BUILT, "compiled", tmp_path)


def test_a_tree_that_was_compiled_in_place_can_not_be_interpreted(tmp_path: Path) -> None:
    tree = trees.find(checkout(tmp_path, "."))

    assert (tree.root, tree.form, tree.interpreted) == (tmp_path, "compiled", None)


def test_what_was_compiled_for_another_python_does_not_count(tmp_path: Path) -> None:
    checkout(tmp_path, BUILT)
    (tmp_path / BUILT / "sidecar" / f"gateway{EXTENSION_SUFFIXES[0]}").rename(
        tmp_path / BUILT / "sidecar" / "gateway.cpython-36m-x86_64-linux-gnu.so"
    )

    assert trees.find(tmp_path).form == "interpreted"


def test_what_was_compiled_of_other_sources_is_refused(tmp_path: Path) -> None:
    checkout(tmp_path, BUILT)
    (tmp_path / "sidecar" / "__main__.py").write_text("changed = True")

    with pytest.raises(UnavailableError, match="not of these sources"):
        trees.find(tmp_path)


def test_what_was_compiled_of_other_sources_can_be_left_aside(tmp_path: Path) -> None:
    checkout(tmp_path, BUILT)
    (tmp_path / "sidecar" / "__main__.py").write_text("changed = True")

    assert trees.find(tmp_path, ignores_stale=True).root == tmp_path


def test_a_directory_without_the_package_is_no_tree(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="no sidecar package"):
        trees.find(tmp_path)


@pytest.mark.parametrize(
    ("ours", "old", "form"),
    [
        ((), (), "interpreted"),
        ((BUILT,), (), "interpreted"),
        ((), (BUILT,), "interpreted"),
        ((BUILT,), (BUILT,), "compiled"),
        ((BUILT,), (".",), "compiled"),
        ((".",), (".",), "compiled"),
    ],
)
def test_two_trees_are_both_compiled_or_both_interpreted(
    ours: tuple[str, ...], old: tuple[str, ...], form: str, tmp_path: Path
) -> None:
    found = trees.match(
        trees.find(checkout(tmp_path / "ours", *ours)), trees.find(checkout(tmp_path / "old", *old))
    )

    assert [tree.form for tree in found] == [form, form]


@pytest.mark.parametrize(("ours", "old"), [((".",), ()), ((), (".",))])
def test_a_compiled_tree_is_not_compared_with_one_that_can_only_be_interpreted(
    ours: tuple[str, ...], old: tuple[str, ...], tmp_path: Path
) -> None:
    pair = (
        trees.find(checkout(tmp_path / "ours", *ours)),
        trees.find(checkout(tmp_path / "old", *old)),
    )

    with pytest.raises(UnavailableError, match="can't be compared"):
        trees.match(*pair)


def test_the_bench_finds_the_tree_that_it_belongs_to() -> None:
    assert trees.ours().checkout == Path(__file__).resolve().parents[3]
