"""A run's copy of a tree: its own to write to, and never of a tree that was written to."""

from __future__ import annotations

from pathlib import Path

import pytest

from runctl.agent.trees import verbs as trees
from runctl.agent.trees.names import TreeError
from tests.agent.trees.project import (
    FIRST,
    NAME,
    bring,
    copied,
    current,
    digest_of,
)


def test_a_copy_can_be_written_to_and_the_tree_stays(tmp_path: Path) -> None:
    bring(tmp_path, FIRST)
    work = tmp_path / "work"

    digest, files = trees.copy_tree(str(tmp_path), NAME, None, str(work))
    (work / "train.py").write_text("changed")
    (work / "src" / "model" / "new.py").write_text("new")

    assert (digest, files) == (digest_of(FIRST), len(FIRST))
    assert current(tmp_path) == FIRST


def test_a_copy_of_a_project_that_was_never_synced_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(TreeError) as caught:
        trees.copy_tree(str(tmp_path), NAME, None, str(tmp_path / "work"))

    assert caught.value.code == "no-tree"
    assert not (tmp_path / "work").exists()


def test_a_copy_into_a_folder_that_is_in_use_is_refused(tmp_path: Path) -> None:
    bring(tmp_path, FIRST)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "mine").touch()

    with pytest.raises(TreeError) as caught:
        trees.copy_tree(str(tmp_path), NAME, None, str(tmp_path / "work"))

    assert caught.value.code == "not-empty"
    assert (tmp_path / "work" / "mine").exists()


@pytest.mark.parametrize("damage", ["same size", "gone"])
def test_a_tree_that_was_written_to_is_not_run_and_the_next_sync_repairs_it(
    tmp_path: Path, damage: str
) -> None:
    bring(tmp_path, FIRST)
    victim = tmp_path / "projects" / NAME / "current" / "train.py"
    if damage == "gone":
        victim.unlink()
    else:
        victim.chmod(0o644)
        victim.write_bytes(b"print(2)\n")

    with pytest.raises(TreeError) as caught:
        trees.copy_tree(str(tmp_path), NAME, None, str(tmp_path / "work"))

    assert caught.value.code == "tree-damaged"
    assert not (tmp_path / "work").exists()
    bring(tmp_path, FIRST)
    assert copied(tmp_path) == FIRST


def test_a_tree_whose_manifest_was_damaged_is_not_run_and_the_next_sync_repairs_it(tmp_path: Path) -> None:
    bring(tmp_path, FIRST)
    (tmp_path / "projects" / NAME / "manifests" / f"{digest_of(FIRST)}.json").write_bytes(b"\0" * 100)

    with pytest.raises(TreeError) as caught:
        copied(tmp_path)

    assert caught.value.code == "tree-damaged"
    bring(tmp_path, FIRST)
    assert copied(tmp_path) == FIRST
