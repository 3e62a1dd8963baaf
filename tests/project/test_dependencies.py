"""What a script needs, by what its author wrote down."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runctl.agent.spec import Dependencies, DependencyKind
from runctl.core.dependency_files import NOT_READ
from runctl.core.errors import ProjectError
from runctl.project.declarations import parse_toml
from runctl.project.dependencies import Needs
from runctl.project.dependencies import find_dependencies as find
from runctl.project.files import ProjectFiles
from tests.project.files import write


def find_dependencies(root: Path, script: str) -> Needs:
    return find(ProjectFiles(root), script)


INLINE = (
    '# /// script\n# requires-python = ">=3.11"\n# dependencies = ["numpy>=2", "rich"]\n# ///\nimport numpy\n'
)
PYPROJECT = '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.10"\ndependencies = ["torch"]\n'


def test_metadata_in_the_script_comes_first(tmp_path: Path) -> None:
    write(
        tmp_path, {"a/train.py": INLINE, "uv.lock": "", "pyproject.toml": PYPROJECT, "requirements.txt": "x"}
    )

    needs = find_dependencies(tmp_path, "a/train.py")

    assert needs.spec == Dependencies(
        DependencyKind.PEP723, "a/train.py", ("numpy>=2", "rich"), ">=3.11", "a"
    )
    assert "PEP 723" in needs.reason


def test_a_lock_file_comes_before_what_it_locks(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": "", "uv.lock": "", "pyproject.toml": PYPROJECT, "requirements.txt": "x"})

    needs = find_dependencies(tmp_path, "train.py")

    assert (needs.spec.kind, needs.spec.path, needs.spec.requires_python) == ("uv.lock", "uv.lock", ">=3.10")


def test_a_lock_file_without_its_project_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": "", "uv.lock": "", "requirements.txt": "x"})

    assert find_dependencies(tmp_path, "train.py").spec.kind == "requirements"


def test_the_project_table_comes_before_requirements(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": "", "pyproject.toml": PYPROJECT, "requirements.txt": "x"})

    needs = find_dependencies(tmp_path, "train.py")

    assert needs.spec == Dependencies(DependencyKind.PYPROJECT, "pyproject.toml", ("torch",), ">=3.10")


def test_a_pyproject_that_only_configures_tools_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": "", "pyproject.toml": "[tool.ruff]\n", "requirements.txt": "x"})

    assert find_dependencies(tmp_path, "train.py").spec.kind == "requirements"


def test_the_nearest_file_of_a_kind_counts(tmp_path: Path) -> None:
    write(tmp_path, {"requirements.txt": "far", "a/requirements.txt": "near", "a/b/train.py": ""})

    assert find_dependencies(tmp_path, "a/b/train.py").spec.path == "a/requirements.txt"


def test_files_above_the_root_do_not_count(tmp_path: Path) -> None:
    write(tmp_path, {"requirements.txt": "x", "proj/train.py": ""})

    needs = find_dependencies(tmp_path / "proj", "train.py")

    assert needs.spec == Dependencies()
    assert "plain Python" in needs.reason


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

    assert find_dependencies(tmp_path, "train.py").spec.requirements == ("numpy>=2", "rich")


def test_an_empty_block_is_a_word_too(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": "# /// script\n# dependencies = []\n# ///\n", "requirements.txt": "x"})

    assert find_dependencies(tmp_path, "train.py").spec == Dependencies(DependencyKind.PEP723, "train.py")


def test_an_unclosed_block_is_ignored_and_mentioned(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": "\n# /// script\n# dependencies = []\nimport x\n", "requirements.txt": "x"})

    needs = find_dependencies(tmp_path, "train.py")

    assert needs.spec.kind == "requirements"
    assert "train.py:2 is not closed" in needs.reason


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

    assert find_dependencies(tmp_path, name).spec.kind == kind


def test_a_script_in_another_encoding_has_none_and_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_bytes("# -*- coding: latin-1 -*-\n# \xfc\n".encode("latin-1"))

    assert find_dependencies(tmp_path, "train.py").spec.kind == "none"


WORKSPACE = (
    '[project]\nname = "root"\nversion = "1"\n'
    '[tool.uv.workspace]\nmembers = ["packages/*"]\nexclude = ["packages/old"]\n'
)
PROJECT = '[project]\nname = "m"\nversion = "1"\ndependencies = ["numpy"]\n'
BUILDS = '[build-system]\nrequires = ["setuptools"]\n'
POETRY = '[tool.poetry]\nname = "x"\n[tool.poetry.dependencies]\npython = "^3.11"\n'


@pytest.mark.parametrize(
    ("files", "script", "expected"),
    [
        ({"pyproject.toml": WORKSPACE, "uv.lock": "", "packages/a/pyproject.toml": PROJECT}, "packages/a/t.py",
         ("uv.lock", "uv.lock", "packages/a", None)),
        ({"pyproject.toml": WORKSPACE, "packages/a/pyproject.toml": PROJECT}, "packages/a/src/t.py",
         ("uv", "packages/a/pyproject.toml", "packages/a", None)),
        ({"pyproject.toml": WORKSPACE, "uv.lock": "", "packages/old/pyproject.toml": PROJECT}, "packages/old/t.py",
         ("pyproject", "packages/old/pyproject.toml", "packages/old", None)),
        ({"pyproject.toml": "[tool.uv.workspace]\nmembers = ['p']\n", "p/pyproject.toml": PROJECT}, "x/t.py",
         ("uv", "pyproject.toml", "", None)),
        ({"pyproject.toml": PROJECT + "[tool.uv]\n"}, "t.py", ("uv", "pyproject.toml", "", None)),
        ({"pyproject.toml": PROJECT, "uv.toml": ""}, "t.py", ("uv", "pyproject.toml", "", None)),
        ({"pyproject.toml": PROJECT + "[tool.uv]\n", ".python-version": "3.12\n"}, "t.py",
         ("uv", "pyproject.toml", "", "==3.12.*")),
        ({"pyproject.toml": PROJECT + BUILDS}, "t.py", ("package", "pyproject.toml", "", None)),
        ({"pyproject.toml": '[project]\nname="x"\nversion="1"\ndynamic=["dependencies"]\n', "requirements.txt": ""},
         "t.py", ("package", "pyproject.toml", "", None)),
        ({"pyproject.toml": '[project]\nname="x"\nversion="1"\n', "requirements.txt": "a"}, "t.py",
         ("requirements", "requirements.txt", "", None)),
        ({"pyproject.toml": POETRY + BUILDS}, "t.py", ("package", "pyproject.toml", "", ">=3.11,<4")),
        ({"pyproject.toml": POETRY + BUILDS, "requirements.txt": "a"}, "t.py",
         ("requirements", "requirements.txt", "", None)),
        ({"pyproject.toml": BUILDS, "setup.cfg": "[metadata]\nname=x\n[options]\npython_requires = >=3.9\n"}, "t.py",
         ("package", "setup.cfg", "", ">=3.9")),
        ({"setup.cfg": "[metadata]\nname=x\n"}, "t.py", ("none", None, "", None)),
        ({"pyproject.toml": "[tool.ruff]\n", "setup.cfg": "[flake8]\n"}, "t.py", ("none", None, "", None)),
        ({"setup.py": ""}, "a/t.py", ("package", "setup.py", "", None)),
        ({"setup.py": "", "a/requirements.txt": "x"}, "a/t.py", ("requirements", "a/requirements.txt", "a", None)),
    ],
)  # fmt: skip
def test_who_installs_what_from_where(
    tmp_path: Path, files: dict[str, str], script: str, expected: tuple[str, str | None, str, str | None]
) -> None:
    write(tmp_path, {script: "", **files})

    found = find_dependencies(tmp_path, script).spec

    assert (found.kind, found.path, found.folder, found.requires_python) == expected


def test_a_header_with_settings_of_uv_is_for_uv_alone(tmp_path: Path) -> None:
    header = INLINE.replace(
        "# ///\nimport", "#\n# [tool.uv.sources]\n# rich = { path = 'rich' }\n# ///\nimport"
    )
    write(tmp_path, {"t.py": header, "plain.py": INLINE, "locked.py": INLINE, "locked.py.lock": ""})

    def kinds(script: str) -> tuple[bool, bool]:
        spec = find_dependencies(tmp_path, script).spec
        return spec.uv, spec.locked

    assert [kinds(item) for item in ("t.py", "plain.py", "locked.py")] == [
        (True, False),
        (False, False),
        (True, True),
    ]


@pytest.mark.parametrize(
    ("file", "text", "phrase"),
    [
        *(
            (name, "", re.escape(f"{name} is not read: its packages are not installed; {out}"))
            for name, out in NOT_READ.items()
        ),
        ("requirements-gpu.txt", "", "-r requirements-gpu.txt"),
        ("pyproject.toml", POETRY, "no \\[build-system\\]"),
        (
            "pyproject.toml",
            POETRY.replace("[tool.poetry.d", "package-mode = false\n[tool.poetry.d") + BUILDS,
            "package-mode",
        ),
    ],
)
def test_what_nobody_reads_is_said_with_a_way_out(tmp_path: Path, file: str, text: str, phrase: str) -> None:
    write(tmp_path, {"t.py": "", file: text})

    needs = find_dependencies(tmp_path, "t.py")

    assert needs.spec.kind == "none"
    assert any(re.search(phrase, warning) for warning in needs.warnings)


def test_what_is_not_sent_decides_nothing_and_is_named(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"t.py": "", "uv.lock": "", "pyproject.toml": PROJECT + "[tool.uv]\n", "requirements.txt": "a"},
    )

    def kind(*sent: str) -> tuple[str, tuple[str, ...]]:
        needs = find(ProjectFiles(tmp_path, {"t.py", *sent}), "t.py")
        return needs.spec.kind, needs.stays_here

    assert kind("pyproject.toml", "requirements.txt") == ("uv", ("uv.lock",))
    assert kind("uv.lock", "requirements.txt") == ("requirements", ("pyproject.toml",))
    assert kind()[0] == "none"
    assert "requirements.txt" in kind()[1]


def test_paths_that_the_machine_does_not_get_are_warned_of(tmp_path: Path) -> None:
    root = tmp_path / "p"
    write(root, {"t.py": "", "requirements.txt": "-r more.txt\n-e ../lib\n./pkg\nnumpy\n-c there.txt # x\n"})
    write(root, {"more.txt": "", "there.txt": "", "pkg/setup.py": ""})
    (tmp_path / "lib").mkdir()

    warnings = find(ProjectFiles(root, {"t.py", "requirements.txt", "there.txt"}), "t.py").warnings

    assert [warning.split(": ", 1)[1].split(" is ")[0] for warning in warnings] == [
        "more.txt",
        "../lib",
        "./pkg",
    ]


def test_toml_that_is_nested_too_deeply_is_an_error_of_the_project() -> None:
    with pytest.raises(ProjectError, match=r"pyproject\.toml is nested too deeply"):
        parse_toml("a = " + "[" * 5_000, "pyproject.toml")
