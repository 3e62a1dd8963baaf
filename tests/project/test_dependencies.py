"""What a script needs, by what its author wrote down."""

from __future__ import annotations

from pathlib import Path

import pytest

from runctl.agent.spec import Dependencies
from runctl.core.errors import ProjectError
from runctl.project.dependencies import find_dependencies
from tests.project.files import write

INLINE = (
    '# /// script\n# requires-python = ">=3.11"\n# dependencies = ["numpy>=2", "rich"]\n# ///\nimport numpy\n'
)
PYPROJECT = '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.10"\ndependencies = ["torch"]\n'


def test_metadata_in_the_script_comes_first(tmp_path: Path) -> None:
    write(
        tmp_path, {"a/train.py": INLINE, "uv.lock": "", "pyproject.toml": PYPROJECT, "requirements.txt": "x"}
    )

    found, reason = find_dependencies(tmp_path, "a/train.py")

    assert found == Dependencies("pep723", "a/train.py", ("numpy>=2", "rich"), ">=3.11")
    assert "PEP 723" in reason


def test_a_lock_file_comes_before_what_it_locks(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": "", "uv.lock": "", "pyproject.toml": PYPROJECT, "requirements.txt": "x"})

    found, _ = find_dependencies(tmp_path, "train.py")

    assert (found.kind, found.path, found.requires_python) == ("uv.lock", "uv.lock", ">=3.10")


def test_a_lock_file_without_its_project_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": "", "uv.lock": "", "requirements.txt": "x"})

    assert find_dependencies(tmp_path, "train.py")[0].kind == "requirements"


def test_the_project_table_comes_before_requirements(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": "", "pyproject.toml": PYPROJECT, "requirements.txt": "x"})

    found, _ = find_dependencies(tmp_path, "train.py")

    assert found == Dependencies("pyproject", "pyproject.toml", ("torch",), ">=3.10")


def test_a_pyproject_that_only_configures_tools_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": "", "pyproject.toml": "[tool.ruff]\n", "requirements.txt": "x"})

    assert find_dependencies(tmp_path, "train.py")[0].kind == "requirements"


def test_the_nearest_file_of_a_kind_counts(tmp_path: Path) -> None:
    write(tmp_path, {"requirements.txt": "far", "a/requirements.txt": "near", "a/b/train.py": ""})

    assert find_dependencies(tmp_path, "a/b/train.py")[0].path == "a/requirements.txt"


def test_files_above_the_root_do_not_count(tmp_path: Path) -> None:
    write(tmp_path, {"requirements.txt": "x", "proj/train.py": ""})

    found, reason = find_dependencies(tmp_path / "proj", "train.py")

    assert found == Dependencies()
    assert "plain Python" in reason


@pytest.mark.parametrize(
    "text",
    [
        INLINE.replace("\n", "\r\n"),
        "\ufeff" + INLINE,
        "#!/usr/bin/env python3\n\n" + INLINE,
        INLINE.removesuffix("import numpy\n").rstrip("\n"),
        INLINE.replace("# dependencies", "#\n# dependencies"),
        "# /// other\n# a = 1\n# ///\n\n" + INLINE,
    ],
    ids=["windows", "byte order mark", "shebang", "no last newline", "empty line", "another block"],
)
def test_metadata_is_found_in_scripts_of_any_make(tmp_path: Path, text: str) -> None:
    (tmp_path / "train.py").write_bytes(text.encode())

    assert find_dependencies(tmp_path, "train.py")[0].requirements == ("numpy>=2", "rich")


def test_an_empty_block_is_a_word_too(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": "# /// script\n# dependencies = []\n# ///\n", "requirements.txt": "x"})

    assert find_dependencies(tmp_path, "train.py")[0] == Dependencies("pep723", "train.py")


def test_an_unclosed_block_is_ignored_and_mentioned(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": "\n# /// script\n# dependencies = []\nimport x\n", "requirements.txt": "x"})

    found, reason = find_dependencies(tmp_path, "train.py")

    assert found.kind == "requirements"
    assert "train.py:2 is not closed" in reason


def test_two_blocks_are_an_error_at_the_second(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": INLINE + "\n" + INLINE})

    with pytest.raises(ProjectError, match=r"train\.py:7: a second"):
        find_dependencies(tmp_path, "train.py")


def test_broken_metadata_is_an_error_at_its_line_of_the_script(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"train.py": '#!/x\n# /// script\n# requires-python = ">=3"\n# dependencies = [nope]\n# ///\n'},
    )

    with pytest.raises(ProjectError, match=r"^train\.py:4: "):
        find_dependencies(tmp_path, "train.py")


def test_metadata_that_ends_in_the_middle_of_a_list_is_an_error_with_a_line(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": '# /// script\n# dependencies = [\n#   "numpy",\n# ///\n'})

    with pytest.raises(ProjectError, match=r"^train\.py:3: "):
        find_dependencies(tmp_path, "train.py")


@pytest.mark.parametrize("value", ['"numpy"', "[1]", "{}"])
def test_dependencies_that_are_no_list_of_strings_are_an_error(tmp_path: Path, value: str) -> None:
    write(tmp_path, {"train.py": f"# /// script\n# dependencies = {value}\n# ///\n"})

    with pytest.raises(ProjectError, match="must be a list of strings"):
        find_dependencies(tmp_path, "train.py")


def test_a_broken_pyproject_is_an_error_with_file_and_line(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": "", "a/pyproject.toml": '[project]\nname = "x\n', "a/train.py": ""})

    with pytest.raises(ProjectError, match=r"^a/pyproject\.toml:2: "):
        find_dependencies(tmp_path, "a/train.py")


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("train.sh", INLINE, "none"),
        ("train", "#!/usr/bin/env python3\n" + INLINE, "pep723"),
        ("train", "#!/bin/sh\n" + INLINE, "none"),
    ],
)
def test_only_python_scripts_have_metadata(tmp_path: Path, name: str, text: str, kind: str) -> None:
    write(tmp_path, {name: text})

    assert find_dependencies(tmp_path, name)[0].kind == kind


def test_a_script_in_another_encoding_has_none_and_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_bytes("# -*- coding: latin-1 -*-\n# \xfc\n".encode("latin-1"))

    assert find_dependencies(tmp_path, "train.py")[0].kind == "none"
