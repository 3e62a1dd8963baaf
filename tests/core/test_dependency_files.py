"""The table of dependency files: each row says all that is to be known of its kind."""

from __future__ import annotations

from collections import Counter

import pytest

from runctl.core.dependency_files import DEPENDENCY_FILES, DependencyFile, Reader, is_dependency_file


@pytest.mark.parametrize("file", DEPENDENCY_FILES, ids=lambda file: file.name)
def test_there_is_a_way_out_of_what_nobody_reads_and_of_nothing_else(file: DependencyFile) -> None:
    assert bool(file.way_out) == (file.reader is Reader.NOBODY)


@pytest.mark.parametrize("file", DEPENDENCY_FILES, ids=lambda file: file.name)
def test_only_what_others_read_is_a_pattern(file: DependencyFile) -> None:
    assert "*" not in file.name or file.reader is Reader.OTHERS


def test_a_kind_of_file_has_one_row() -> None:
    assert Counter(file.name for file in DEPENDENCY_FILES).most_common(1)[0][1] == 1


@pytest.mark.parametrize("name", ["pixi.toml", "pixi.lock", "uv.lock", "requirements-gpu.txt", "Cargo.lock"])
def test_a_change_to_it_is_a_change_to_the_image(name: str) -> None:
    assert is_dependency_file(name)


@pytest.mark.parametrize("name", ["train.py", "requirements", "Pipfile.bak", "my-pyproject.toml"])
def test_other_files_are_code(name: str) -> None:
    assert not is_dependency_file(name)
