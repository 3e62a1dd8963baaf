"""Where a project begins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runctl.core.errors import NotFound, ProjectError, RunctlError, UsageError
from runctl.project.root import MARKERS, find_root, project_name
from tests.project.files import repository, write


def test_the_folder_with_git_is_the_root_however_deep_the_script_is(tmp_path: Path) -> None:
    repository(tmp_path / "proj", {"a/b/c/train.py": "", "a/requirements.txt": ""})

    root = find_root(Path("a/b/c/train.py"), tmp_path / "proj")

    assert root.path == tmp_path / "proj"
    assert root.script == "a/b/c/train.py"
    assert ".git" in root.reason


def test_a_worktree_whose_git_is_a_file_is_a_root(tmp_path: Path) -> None:
    write(tmp_path, {"tree/.git": "gitdir: elsewhere", "tree/x/train.py": ""})

    assert find_root(Path("x/train.py"), tmp_path / "tree").path == tmp_path / "tree"


OTHERS_PROJECTS = ("environment.yaml", "conda-lock.yml", "pixi.toml", "pixi.lock", "Pipfile.lock", "pdm.lock")
"""Files of tools that runctl does not read mark a project all the same."""


@pytest.mark.parametrize("marker", sorted({*MARKERS, *OTHERS_PROJECTS}))
def test_without_git_the_nearest_marker_is_the_root(tmp_path: Path, marker: str) -> None:
    write(tmp_path, {"outer/pyproject.toml": "", f"outer/inner/{marker}": "", "outer/inner/src/train.py": ""})

    root = find_root(Path("src/train.py"), tmp_path / "outer" / "inner")

    assert root.path == tmp_path / "outer" / "inner"
    assert marker in root.reason


def test_without_any_marker_the_scripts_folder_is_the_root(tmp_path: Path) -> None:
    write(tmp_path, {"some/where/train.py": ""})

    root = find_root(Path("where/train.py"), tmp_path / "some")

    assert (root.path, root.script) == (tmp_path / "some" / "where", "train.py")


def test_a_script_from_elsewhere_brings_its_own_project(tmp_path: Path) -> None:
    repository(tmp_path / "here", {"train.py": ""})
    repository(tmp_path / "there", {"sub/train.py": ""})

    root = find_root(tmp_path / "there" / "sub" / "train.py", tmp_path / "here")

    assert root.path == tmp_path / "there"


def test_a_stray_script_is_outside_the_project_that_one_stands_in(tmp_path: Path) -> None:
    repository(tmp_path / "proj", {"train.py": ""})
    write(tmp_path, {"stray.py": ""})

    with pytest.raises(ProjectError, match="outside the project") as caught:
        find_root(Path("../stray.py"), tmp_path / "proj")

    assert caught.value.code == "script-outside"
    assert caught.value.hint


def test_a_link_in_the_project_to_a_script_in_it_keeps_its_own_name(tmp_path: Path) -> None:
    repository(tmp_path / "proj", {"src/train.py": ""})
    (tmp_path / "proj" / "latest.py").symlink_to("src/train.py")

    assert find_root(Path("latest.py"), tmp_path / "proj").script == "latest.py"


def test_a_link_out_of_the_project_is_refused(tmp_path: Path) -> None:
    repository(tmp_path / "proj", {"train.py": ""})
    write(tmp_path, {"elsewhere/real.py": ""})
    (tmp_path / "proj" / "linked.py").symlink_to(tmp_path / "elsewhere" / "real.py")

    with pytest.raises(ProjectError, match="outside the project"):
        find_root(Path("linked.py"), tmp_path / "proj")


def test_a_link_outside_every_project_leads_to_the_scripts_own(tmp_path: Path) -> None:
    repository(tmp_path / "proj", {"src/train.py": ""})
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "go.py").symlink_to(tmp_path / "proj" / "src" / "train.py")

    root = find_root(Path("go.py"), tmp_path / "bin")

    assert (root.path, root.script) == (tmp_path / "proj", "src/train.py")


def test_a_linked_folder_above_the_script_is_resolved(tmp_path: Path) -> None:
    repository(tmp_path / "proj", {"train.py": ""})
    (tmp_path / "short").symlink_to(tmp_path / "proj")

    assert find_root(Path("train.py"), tmp_path / "short").path == tmp_path / "proj"


@pytest.mark.parametrize("typed", ["trian.py", "train", "trainpy"])
def test_a_script_that_is_not_there_is_answered_with_the_nearest_name(tmp_path: Path, typed: str) -> None:
    write(tmp_path, {"train.py": "", "other.txt": ""})

    with pytest.raises(NotFound) as caught:
        find_root(Path(typed), tmp_path)

    assert caught.value.hint == 'did you mean "train.py"?'


def test_a_script_that_is_in_another_folder_is_found_for_the_hint(tmp_path: Path) -> None:
    write(tmp_path, {"training/deep/train.py": "", "readme": ""})

    with pytest.raises(NotFound) as caught:
        find_root(Path("train.py"), tmp_path)

    assert caught.value.hint == 'did you mean "training/deep/train.py"?'


def test_a_dangling_link_says_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "train.py").symlink_to("gone.py")

    with pytest.raises(NotFound, match=r"a link to gone\.py"):
        find_root(Path("train.py"), tmp_path)


def test_a_folder_is_no_script(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()

    with pytest.raises(UsageError, match="is a folder"):
        find_root(Path("src"), tmp_path)


def test_the_home_folder_is_no_project_even_with_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    repository(home, {"train.py": "", ".bashrc": ""})
    monkeypatch.setenv("HOME", str(home))

    with pytest.raises(ProjectError, match="too much") as caught:
        find_root(Path("train.py"), home)

    assert caught.value.code == "no-project"


def test_a_project_below_a_home_folder_with_git_is_its_own_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    repository(home, {"proj/pyproject.toml": "", "proj/train.py": ""})
    monkeypatch.setenv("HOME", str(home))

    assert find_root(Path("train.py"), home / "proj").path == home / "proj"


def test_a_folder_that_everybody_writes_to_is_no_project(tmp_path: Path) -> None:
    write(tmp_path, {"shared/requirements.txt": "", "shared/mine/train.py": ""})
    (tmp_path / "shared").chmod(0o1777)

    assert find_root(Path("train.py"), tmp_path / "shared" / "mine").path == tmp_path / "shared" / "mine"


def test_projects_of_the_same_name_have_different_names_on_the_machine() -> None:
    first, second = project_name(Path("/home/a/train")), project_name(Path("/home/b/train"))

    assert first != second
    assert first.startswith("train-")


@pytest.mark.parametrize("folder", ["mein Projekt ü!", "...", "-x", "a" * 300, "日本"])
def test_any_folders_name_becomes_one_that_machines_accept(folder: str) -> None:
    from runctl.agent.trees.names import is_name

    assert is_name(project_name(Path("/home") / folder))


def test_what_is_no_file_is_no_script(tmp_path: Path) -> None:
    write(tmp_path, {"pyproject.toml": ""})
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(UsageError, match="is a pipe"):
        find_root(Path("pipe"), tmp_path)
    with pytest.raises(UsageError, match="is a device"):
        find_root(Path("/dev/null"), tmp_path)


@pytest.mark.parametrize("path", ["~nobodyhere/train.py", "x" * 300, "train.py/x"])
def test_a_path_that_leads_nowhere_is_an_error_like_any_other(tmp_path: Path, path: str) -> None:
    write(tmp_path, {"train.py": ""})

    with pytest.raises(RunctlError, match=r"no script|cannot be read"):
        find_root(Path(path), tmp_path)
