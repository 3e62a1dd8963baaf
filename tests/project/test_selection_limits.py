"""A project that is empty, or too large to be sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from runctl.core.errors import ProjectError
from runctl.project.selection import Limits, ProjectTooLarge, select
from tests.project.files import Make, write


def test_an_empty_project_is_an_error(tmp_path: Path, make: Make) -> None:
    make(tmp_path, {".gitignore": "*\n", "train.py": ""})

    with pytest.raises(ProjectError) as caught:
        select(tmp_path)

    assert caught.value.code == "empty-project"


def test_a_project_above_the_size_limit_names_what_is_big(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"train.py": "", "data/a": "x" * 3000, "data/b": "x" * 3000, "model.bin": "x" * 5000, "s/x": "y"},
    )

    with pytest.raises(ProjectTooLarge) as caught:
        select(tmp_path, limits=Limits(max_bytes=10_000))

    message, hint = caught.value.message, caught.value.hint
    assert message.index("/data/") < message.index("/model.bin") < message.index("/s/")
    assert ".runctlignore" in hint
    assert "/data/" in hint


def test_what_the_error_suggests_makes_the_project_small_enough(tmp_path: Path) -> None:
    write(
        tmp_path, {"train.py": "", "my data/[1].csv": "x" * 9000, "#odd/x": "y" * 9000, "!bang": "z" * 9000}
    )

    with pytest.raises(ProjectTooLarge) as caught:
        select(tmp_path, limits=Limits(max_bytes=1000))
    lines = [line.strip() for line in caught.value.hint.splitlines()[1:]]
    write(tmp_path, {".runctlignore": "\n".join(lines)})

    assert set(select(tmp_path, limits=Limits(max_bytes=1000)).found) == {"train.py", ".runctlignore"}


def test_a_project_with_too_many_files_counts_them_by_folder(tmp_path: Path) -> None:
    write(tmp_path, {f"many/{n}": "" for n in range(30)} | {"few/1": ""})

    with pytest.raises(ProjectTooLarge, match=r"31 files, the limit 20\. The biggest: /many/ \(30 files\)"):
        select(tmp_path, limits=Limits(max_files=20))


def test_a_project_at_the_limit_is_let_through(tmp_path: Path) -> None:
    write(tmp_path, {"a": "12345", "b": "12345"})

    assert len(select(tmp_path, limits=Limits(max_bytes=10, max_files=2)).found) == 2


def test_neither_the_script_nor_its_folder_is_offered_for_leaving_out(tmp_path: Path) -> None:
    write(tmp_path, {"src/train.py": "x" * 5000, "a.py": "x" * 4000, "data/x": "x" * 3000})

    with pytest.raises(ProjectTooLarge) as caught:
        select(tmp_path, limits=Limits(max_bytes=10_000), needed=("src/train.py", "a.py"))

    assert "/data/" in caught.value.hint
    assert "src" not in caught.value.hint
    assert "a.py" not in caught.value.hint
