"""What a person is told of what a run sends."""

from __future__ import annotations

from pathlib import Path

import pytest

from runctl.core.errors import UsageError
from runctl.project.left_out import described
from runctl.project.sent import choose_sent
from runctl.runs.train.project_plan import TrainRequest, plan_project
from tests.project.files import repository, write

IGNORED = {
    "data/a.csv": "",
    "data/b/c.csv": "",
    "src/pkg/data/load.py": "",
    "x.ckpt": "",
    "y.ckpt": "",
    "a.log": "",
}
RULES = "data/\n*.ckpt\na.log\n"


@pytest.mark.parametrize("kind", ["git", "rules"])
def test_what_is_left_out_is_told_by_folder_and_count(tmp_path: Path, kind: str) -> None:
    files = {"train.py": "", "src/pkg/m.py": "", ".gitignore": RULES, "__pycache__/x.pyc": "", **IGNORED}
    (repository if kind == "git" else write)(tmp_path, files)

    sent = choose_sent(tmp_path, (), None, ())

    assert [(item.path, item.files, item.is_code) for item in sent.left_out] == [
        ("./", 3, False),
        ("data/", 2, False),
        ("src/pkg/data/", 1, True),
    ]
    assert described(sent.left_out) == "./ (3 files), data/ (2 files), src/pkg/data/ (1 file)"
    (warning,) = sent.warnings
    assert "src/pkg/data/ is not sent" in warning
    assert ("(.gitignore:1: data/)" in warning) is (kind == "git")


def test_a_package_is_named_though_nothing_of_the_folders_around_it_is_sent(tmp_path: Path) -> None:
    files = {"t.py": "", "src/pkg/data/__init__.py": "", "build/lib/pkg/__init__.py": "", "data/raw/x": ""}
    repository(tmp_path, {**files, ".gitignore": "data/\nbuild/\n"})

    sent = choose_sent(tmp_path, (), None, ())

    assert described(sent.left_out) == "build/lib/pkg/ (1 file), data/raw/ (1 file), src/pkg/data/ (1 file)"
    (warning,) = sent.warnings
    assert "src/pkg/data/ is not sent (.gitignore:1: data/)" in warning


def test_runctlignore_leaves_out_too_and_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": "", "lib/__init__.py": "", ".runctlignore": "# x\nlib/\n"})

    (warning,) = choose_sent(tmp_path, (), None, ()).warnings

    assert "lib/ is not sent (.runctlignore:2: lib/), with 1 Python file in it" in warning


def test_a_pattern_that_brings_nothing_back_is_told(tmp_path: Path) -> None:
    write(tmp_path, {"t.py": "", "data/x.csv": "", ".gitignore": "data/\n"})

    sent = choose_sent(tmp_path, ("data/", "dta/*.csv"), None, ())

    assert sent.warnings == ("--include-pattern dta/*.csv matches no file of the project",)


def test_a_rule_for_this_very_folder_is_no_mistake(tmp_path: Path) -> None:
    repository(tmp_path, {"a.py": "", "pkg/m.py": "", "pkg/data/x.py": "", ".gitignore": "/pkg/data/\n"})

    sent = choose_sent(tmp_path, (), None, ())

    assert sent.left_out[0].path == "pkg/data/"
    assert sent.warnings == ()


def test_a_script_that_is_named_is_sent_although_it_is_ignored(tmp_path: Path) -> None:
    repository(tmp_path, {".gitignore": "scratch/\n", "scratch/[1] try.py": "", "scratch/other.py": ""})

    plan = plan_project(TrainRequest(Path("scratch/[1] try.py"), cwd=tmp_path))

    assert plan.sent.selection is not None
    assert set(plan.sent.selection.found) == {".gitignore", "scratch/[1] try.py"}
    assert "sent all the same" in plan.sent.warnings[0]


@pytest.mark.parametrize(
    ("ignored", "files"),
    [
        ("uv.lock", {"pyproject.toml": "[project]\nname = 'a'\nversion = '1'\n", "uv.lock": ""}),
        ("requirements.txt", {"requirements.txt": "x"}),
        ("pyproject.toml", {"pyproject.toml": "[project]\nname = 'a'\nversion = '1'\n[build-system]\n"}),
        ("Dockerfile", {"Dockerfile": "FROM x\n"}),
    ],
)
def test_what_is_not_sent_does_not_decide_and_is_said(
    tmp_path: Path, ignored: str, files: dict[str, str]
) -> None:
    repository(tmp_path, {"t.py": "", ".gitignore": f"{ignored}\n", **files})

    plan = plan_project(TrainRequest(Path("t.py"), cwd=tmp_path))

    assert plan.container is None
    assert plan.dependencies.kind in {"none", "pyproject"}
    assert any(
        f"{ignored} is not sent (.gitignore:1: {ignored})" in warning for warning in plan.sent.warnings
    )


def test_in_a_container_the_plan_says_what_is_not_installed(tmp_path: Path) -> None:
    header = '# /// script\n# dependencies = ["numpy"]\n# ///\n'
    write(tmp_path, {"t.py": header, "plain.py": "", "broken.py": header.replace("[", "")})

    def plan(script: str) -> tuple[str, tuple[str, ...]]:
        found = plan_project(TrainRequest(Path(script), cwd=tmp_path, image="python:3.11"))
        return found.dependencies_reason, found.sent.warnings

    reason, warnings = plan("t.py")
    assert "not installed in a container: 1 requirement" in reason
    assert "--no-docker" in warnings[0]
    assert plan("plain.py") == plan("broken.py") == ("what the image has", ())


@pytest.mark.parametrize(
    ("name", "hint"), [("data.txt", "--interpreter"), ("a.ipynb", "nbconvert"), ("x", "chmod")]
)
def test_a_file_that_nothing_runs_is_refused_before_anything_is_sent(
    tmp_path: Path, name: str, hint: str
) -> None:
    write(tmp_path, {name: "1, 2\n"})

    with pytest.raises(UsageError, match="no extension") as caught:
        plan_project(TrainRequest(Path(name), cwd=tmp_path))

    assert hint in caught.value.hint
