from __future__ import annotations

from pathlib import Path

import pytest

from runctl.agent.trees.manifest import Manifest
from runctl.core.errors import NotFound
from runctl.project import kept
from runctl.project.kept import KeptProjects, NotKept
from runctl.project.manifest import build_manifest
from runctl.project.selection import select
from tests.project.machine import Machine


def a_project(root: Path, **files: str) -> Manifest:
    root.mkdir(exist_ok=True)
    for name, text in files.items():
        (root / f"{name}.py").write_text(text)
    return build_manifest(select(root))


def test_a_project_is_sent_as_it_was_kept_though_the_folder_has_changed(tmp_path: Path) -> None:
    root, projects = tmp_path / "p", KeptProjects(tmp_path / "kept")
    manifest = a_project(root, train="one", model="two")
    projects.keep(root, manifest)
    (root / "train.py").write_text("changed")
    (root / "model.py").unlink()

    machine = Machine(tmp_path / "machine")
    projects.send(manifest.digest, "p-1", machine, "i-1")

    assert machine.files("p-1") == {"train.py": b"one", "model.py": b"two"}


def test_what_no_run_needs_any_more_goes_and_what_another_tree_has_stays(tmp_path: Path) -> None:
    root, projects = tmp_path / "p", KeptProjects(tmp_path / "kept")
    first = a_project(root, train="one", model="same")
    projects.keep(root, first)
    second = a_project(root, train="two")
    projects.keep(root, second)

    projects.prune({second.digest})

    assert (projects.has(first.digest), projects.has(second.digest)) == (False, True)
    contents = {path.read_text() for path in (tmp_path / "kept" / "contents").glob("*/*")}
    assert contents == {"two", "same"}


def test_a_file_that_is_written_meanwhile_is_kept_as_it_is_then(tmp_path: Path) -> None:
    root, projects = tmp_path / "p", KeptProjects(tmp_path / "kept")
    manifest = a_project(root, train="one", log="first")
    (root / "log.py").write_text("first, second")

    tree = projects.keep(root, manifest)

    assert tree.changed == ("log.py",)
    machine = Machine(tmp_path / "machine")
    projects.send(tree.digest, "p-1", machine, "i-1")
    assert machine.files("p-1") == {"train.py": b"one", "log.py": b"first, second"}
    with pytest.raises(NotFound, match="not kept"):
        projects.check(manifest.digest)


def test_a_project_that_is_too_large_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "LARGEST_TREE", 5)
    manifest = a_project(tmp_path / "p", train="123456")

    with pytest.raises(NotKept, match="up to 5 B"):
        KeptProjects(tmp_path / "kept").keep(tmp_path / "p", manifest)
