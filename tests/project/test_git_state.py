"""What git says of a project, without running anything of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from runctl.project.git import MOST_NAMED, git_state


def git(folder: Path, *argv: str) -> str:
    done = subprocess.run(
        ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b.c", *argv],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("train.py", "gone.py", "same.py", "mode.sh"):
        (folder / name).write_text(name)
    (folder / ".gitignore").write_text("data/\n")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
    return folder


def test_a_clean_project_is_its_commit(project: Path) -> None:
    found = git_state(project)
    assert found is not None
    assert (found.commit, found.changed, found.changed_count) == (git(project, "rev-parse", "HEAD"), (), 0)


def test_what_differs_from_the_commit_is_named(project: Path) -> None:
    (project / "train.py").write_text("other")
    (project / "gone.py").unlink()
    (project / "mode.sh").chmod(0o755)
    (project / "data").mkdir()
    (project / "data" / "ignored").touch()
    (project / "ün tracked").touch()
    # Written again with the same content: its time alone is another.
    (project / "same.py").write_text("same.py")
    os.utime(project / "same.py", (1, 1))

    found = git_state(project)

    assert found is not None
    assert found.changed == ("gone.py", "mode.sh", "train.py", "ün tracked")


def test_a_project_without_a_commit_has_none(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "train.py").touch()
    found = git_state(tmp_path)
    assert found is not None
    assert (found.commit, found.changed) == (None, ("train.py",))


def test_a_folder_without_git_has_no_state(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None


def test_many_files_are_counted(project: Path) -> None:
    for number in range(MOST_NAMED + 5):
        (project / f"{number}.txt").touch()
    found = git_state(project)
    assert found is not None
    assert (len(found.changed), found.changed_count) == (MOST_NAMED, MOST_NAMED + 5)


def test_no_filter_of_the_repository_is_run(project: Path) -> None:
    witness = project.parent / "ran"
    git(project, "config", "filter.evil.clean", f"touch {witness}")
    git(project, "config", "core.fsmonitor", f"touch {witness}")
    (project / ".gitattributes").write_text("* filter=evil\n")
    (project / "train.py").write_text("other")

    found = git_state(project)

    assert found is not None
    assert "train.py" in found.changed
    assert not witness.exists()


def test_a_project_that_is_a_part_of_a_repository_has_paths_of_its_own(project: Path) -> None:
    (project / "part").mkdir()
    (project / "part" / "a.py").touch()
    (project / "train.py").write_text("other")
    found = git_state(project / "part")
    assert found is not None
    assert found.changed == ("a.py",)
