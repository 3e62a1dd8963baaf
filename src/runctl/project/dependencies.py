"""What a script needs on a machine's host, by what its author wrote down: nothing is installed here.

Installing is left to uv and pip, which know the rules. Here it is decided which of them does it from which file, and
what a person should know about that before anything is sent.
"""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any

from runctl._dataclasses import dataclass
from runctl.agent.spec import Dependencies, DependencyKind
from runctl.core.dependency_files import NOT_READ
from runctl.core.errors import ProjectError
from runctl.project.declarations import (
    Declarations,
    check_listed_files,
    check_sources,
    folders_up_from,
    join_path,
    parse_toml,
    split_path,
    strings,
    table_in,
    text_or_none,
    uv_table,
)
from runctl.project.files import ProjectFiles

_BLOCK = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
"""The reference pattern of https://packaging.python.org/en/latest/specifications/inline-script-metadata/."""
_OPENING = re.compile(r"(?m)^# /// script$")
_PINNED_PYTHON = re.compile(r"(?:cpython-|cpython@|python)?(\d+(?:\.\d+){0,2})")
_POETRY_PYTHON = re.compile(r"([\^~])(\d+)(?:\.(\d+))?(?:\.\d+)?")


@dataclass(frozen=True)
class Needs:
    """The dependencies, and what a person is told of them."""

    spec: Dependencies
    reason: str
    warnings: tuple[str, ...] = ()
    """What is likely not what was meant."""
    stays_here: tuple[str, ...] = ()
    """Files that would have decided, and are not sent."""


def find_dependencies(files: ProjectFiles, script: str) -> Needs:
    """What the script (a path from the root; empty for a command) needs, and why in words.

    In this order: its own inline metadata (PEP 723); the nearest project, from the script's folder up to the root:
    as uv has it where uv manages it (``uv.lock``, ``[tool.uv]``, a workspace), else as pip has it; the nearest
    requirements.txt; the nearest package without a ``[project]`` table (setup.py, setup.cfg, Poetry). What the
    machine does not get does not count. Raises `ProjectError` naming file and line when what should answer cannot be
    read.
    """
    search = Declarations(files)
    inline, note = _inline(search, script)
    if inline is not None:
        return _needs(search, inline, note)
    folders = _upwards(script)
    for find in (_project, _requirements, _package):
        for folder in folders:
            found = find(search, folder)
            if found is not None:
                return _needs(search, found[0], found[1] + note + _passed_over(search, folder, found[0]))
    return _needs(search, Dependencies(), _nothing(search, folders) + note)


def _needs(search: Declarations, spec: Dependencies, reason: str) -> Needs:
    return Needs(spec, reason, tuple(search.warnings), tuple(search.stays_here))


def _inline(search: Declarations, script: str) -> tuple[Dependencies | None, str]:
    path = search.root / script
    if not script or not _is_python(path):
        return None, ""
    try:
        text = path.read_text(encoding="utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        # Python itself may know its encoding; there is no metadata to be had from it.
        return None, ""
    if text and not text.endswith("\n"):
        text += "\n"
    blocks = [block for block in _BLOCK.finditer(text) if block["type"] == "script"]
    if len(blocks) > 1:
        line = _line_of(text, blocks[1].start())
        raise ProjectError(
            f"{script}:{line}: a second script metadata block", hint="a script has one at most (PEP 723)"
        )
    if not blocks:
        # The specification: an unclosed block must be ignored. Its author will want to know.
        opened = _OPENING.search(text)
        note = (
            f"; the block at {script}:{_line_of(text, opened.start())} is not closed by # ///"
            if opened
            else ""
        )
        return None, note
    block = blocks[0]
    content = "".join(
        line[2:] if line.startswith("# ") else line[1:] for line in block["content"].splitlines(keepends=True)
    )
    data = parse_toml(content, script, before=_line_of(text, block.start("content")) - 1)
    requirements = strings(data.get("dependencies", []), f"{script}: dependencies in the script metadata")
    requires_python = data.get("requires-python")
    if requires_python is not None and not isinstance(requires_python, str):
        raise ProjectError(f"{script}: requires-python in the script metadata must be a string")
    folder, name = split_path(script)
    locked = search.has(folder, f"{name}.lock")
    uv = bool(uv_table(data)) or locked
    check_sources(search, script, folder, data)
    reason = f"{_count(requirements)} in the script itself (PEP 723)"
    reason += f", locked in {name}.lock" if locked else ", by uv ([tool.uv])" if uv else ""
    spec = Dependencies(
        DependencyKind.PEP723, script, requirements, requires_python, folder, uv=uv, locked=locked
    )
    return spec, reason


def _project(search: Declarations, folder: str) -> tuple[Dependencies, str] | None:
    data = search.pyproject(folder)
    path = join_path(folder, "pyproject.toml")
    project = data.get("project")
    if project is not None and not isinstance(project, dict):
        raise ProjectError(f"{path}: project must be a table")
    is_workspace = "workspace" in uv_table(data)
    if project is None and not is_workspace:
        return None
    project = project or {}
    requirements = strings(project.get("dependencies", []), f"{path}: project.dependencies")
    requires_python = text_or_none(project.get("requires-python"))
    workspace = _workspace_of(search, folder)
    home = workspace if workspace is not None else folder
    locked = search.has(home, "uv.lock")
    if locked or workspace is not None or _uses_uv(search, folder, data):
        check_sources(search, path, folder, data)
        python = _with_pinned_python(search, folder, requires_python)
        lock = join_path(home, "uv.lock")
        kind, file = (DependencyKind.UV_LOCK, lock) if locked else (DependencyKind.UV, path)
        spec = Dependencies(kind, file, requirements, python, folder, uv=True, locked=locked)
        if locked:
            return spec, f"locked in {lock}" + (f", for {folder}" if folder != home else "")
        return spec, f"{_count(requirements)} in {path}, by uv"
    is_dynamic = {"dependencies", "optional-dependencies"} & set(project.get("dynamic", ()))
    if "build-system" in data or is_dynamic:
        listed = "dependencies" if is_dynamic else _count(requirements)
        return Dependencies(
            DependencyKind.PACKAGE, path, requirements, requires_python, folder
        ), f"{listed} of the package in {path}"
    if "dependencies" not in project and search.has(folder, "requirements.txt"):
        # Nothing is written down here.
        return None
    return Dependencies(
        DependencyKind.PYPROJECT, path, requirements, requires_python, folder
    ), f"{_count(requirements)} in {path}"


def _uses_uv(search: Declarations, folder: str, data: dict[str, Any]) -> bool:
    tool = data.get("tool")
    return (isinstance(tool, dict) and "uv" in tool) or search.has(folder, "uv.toml")


def _workspace_of(search: Declarations, folder: str) -> str | None:
    """The root of the uv workspace that a project is in, by ``members`` and ``exclude``; uv has the last word."""
    for home in folders_up_from(folder):
        workspace = uv_table(search.pyproject(home)).get("workspace")
        if not isinstance(workspace, dict):
            continue
        if home == folder:
            return home
        members, excluded = workspace.get("members", []), workspace.get("exclude", [])
        if _is_among(search.root, home, folder, members) and not _is_among(
            search.root, home, folder, excluded
        ):
            return home
    return None


def _is_among(root: Path, home: str, folder: str, patterns: Any) -> bool:
    try:
        return any((root / folder) in (root / home).glob(str(pattern)) for pattern in patterns)
    except (TypeError, ValueError, NotImplementedError):
        return False


def _with_pinned_python(search: Declarations, folder: str, requires_python: str | None) -> str | None:
    """With what ``.python-version`` asks for, which uv reads in the project's folder and above."""
    for above in folders_up_from(folder):
        if not search.has(above, ".python-version"):
            continue
        text = (search.root / above / ".python-version").read_text(encoding="utf-8", errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        match = _PINNED_PYTHON.fullmatch(lines[0]) if lines else None
        if match is None:
            return requires_python
        pinned = f"=={match[1]}" + (".*" if match[1].count(".") < 2 else "")
        return f"{requires_python},{pinned}" if requires_python else pinned
    return requires_python


def _requirements(search: Declarations, folder: str) -> tuple[Dependencies, str] | None:
    if not search.has(folder, "requirements.txt"):
        return None
    path = join_path(folder, "requirements.txt")
    check_listed_files(search, path, folder)
    return Dependencies(DependencyKind.REQUIREMENTS, path, folder=folder), f"listed in {path}"


def _package(search: Declarations, folder: str) -> tuple[Dependencies, str] | None:
    """What pip can install without a ``[project]`` table."""
    data = search.pyproject(folder)
    has_setup_py, declared = search.has(folder, "setup.py"), _declared_in_setup_cfg(search, folder)
    builds = "build-system" in data
    poetry = table_in(table_in(data, "tool"), "poetry")
    path = join_path(folder, "pyproject.toml")
    if poetry:
        if not builds:
            search.warnings.append(
                f"{path} has no [build-system]: pip does not know Poetry's dependencies; add one"
            )
        elif poetry.get("package-mode") is False:
            search.warnings.append(
                f"{path} is not a package (package-mode = false): its dependencies are not installed;"
                " poetry export > requirements.txt lists them"
            )
        else:
            python = _python_of_poetry(table_in(poetry, "dependencies").get("python"))
            spec = Dependencies(DependencyKind.PACKAGE, path, requires_python=python, folder=folder)
            return spec, f"dependencies of the package in {path} (Poetry)"
    if has_setup_py or (declared is not None and data):
        name = "setup.cfg" if declared is not None else "setup.py"
        path = join_path(folder, name)
        python = (declared or {}).get("python_requires")
        spec = Dependencies(DependencyKind.PACKAGE, path, requires_python=python, folder=folder)
        return spec, f"dependencies of the package in {path}"
    if builds and table_in(table_in(data, "tool"), "flit"):
        return Dependencies(
            DependencyKind.PACKAGE, path, folder=folder
        ), f"dependencies of the package in {path}"
    return None


def _declared_in_setup_cfg(search: Declarations, folder: str) -> dict[str, str] | None:
    """What setuptools' ``[options]`` are; ``None`` where setup.cfg only configures other tools."""
    if not search.has(folder, "setup.cfg"):
        return None
    parser = configparser.RawConfigParser()
    try:
        parser.read(search.root / folder / "setup.cfg", encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return None
    if parser.has_section("options"):
        return dict(parser.items("options"))
    return {} if parser.has_section("metadata") else None


def _python_of_poetry(value: Any) -> str | None:
    """Poetry's own ``^3.11`` and ``~3.11`` as the specifiers that everybody knows; ``None`` for what is neither."""
    if not isinstance(value, str):
        return None
    match = _POETRY_PYTHON.fullmatch(value.strip())
    if match is None:
        return value if re.match(r"[<>=!~]", value.strip()) and "|" not in value else None
    sign, major, minor = match.groups()
    lower = f">={value.strip()[1:]}"
    is_major = sign == "^" or minor is None
    return f"{lower},<{int(major) + 1}" if is_major else f"{lower},<{major}.{int(minor) + 1}"


def _passed_over(search: Declarations, folder: str, found: Dependencies) -> str:
    """Files beside the one that decided, which may have been meant."""
    others = [name for name in (*NOT_READ, "requirements.txt") if search.files.has(join_path(folder, name))]
    if found.kind is DependencyKind.REQUIREMENTS:
        others = [name for name in others if name != "requirements.txt"]
        others += [name for name in ("setup.py",) if search.files.has(join_path(folder, name))]
    elif found.kind.may_read_requirements and "requirements.txt" in others:
        # What is dynamic may be read from there, and a lock may have been exported to there.
        others.remove("requirements.txt")
    return f" (not read: {', '.join(others)})" if others else ""


def _nothing(search: Declarations, folders: list[str]) -> str:
    for folder in folders:
        here = [name for name in NOT_READ if search.files.has(join_path(folder, name))]
        here += sorted(
            path.name
            for path in (search.root / folder).glob("requirements*.txt")
            if search.files.has(join_path(folder, path.name))
        )
        if not here:
            continue
        way_out = (
            NOT_READ.get(here[0]) or f"rename it to requirements.txt, or write one that says -r {here[0]}"
        )
        search.warnings.append(
            f"{join_path(folder, here[0])} is not read: its packages are not installed; {way_out}"
        )
        return f"no dependencies that pip or uv read: plain Python (not read: {', '.join(here)})"
    return "none declared: plain Python"


def _is_python(path: Path) -> bool:
    if path.suffix:
        return path.suffix == ".py"
    with path.open("rb") as file:
        first = file.readline(200)
    return first.startswith(b"#!") and b"python" in first


def _upwards(script: str) -> list[str]:
    """The folders from the script's own up to the root, as paths from the root; the root is ``""``."""
    return list(folders_up_from(split_path(script)[0]))


def _line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _count(requirements: tuple[str, ...]) -> str:
    return f"{len(requirements)} requirement{'' if len(requirements) == 1 else 's'}"
