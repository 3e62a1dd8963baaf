"""What a script needs on a machine's host, by what its author wrote down: nothing is installed here."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from runctl.agent.spec import Dependencies
from runctl.core.errors import ProjectError

_BLOCK = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
"""The reference pattern of https://packaging.python.org/en/latest/specifications/inline-script-metadata/."""
_OPENING = re.compile(r"(?m)^# /// script$")
_TOML_LINE = re.compile(r"\(at line (\d+), column \d+\)$")


def find_dependencies(root: Path, script: str) -> tuple[Dependencies, str]:
    """What the script (a path from the root; empty for a command) needs, and why in words.

    In this order: its own inline metadata (PEP 723), ``uv.lock`` beside a pyproject.toml, a pyproject.toml with a
    ``[project]`` table, requirements.txt; of each kind the nearest one from the script's folder up to the root. Raises
    `ProjectError` naming file and line when what should answer cannot be read.
    """
    inline, note = _inline(root, script)
    if inline is not None:
        return inline, note
    folders = _upwards(root, (root / script).parent) if script else [root]
    for find in (_lock, _pyproject, _requirements):
        for folder in folders:
            found = find(root, folder)
            if found is not None:
                return found[0], found[1] + note
    return Dependencies(), "no dependencies written down: plain Python" + note


def _inline(root: Path, script: str) -> tuple[Dependencies | None, str]:
    path = root / script
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
    data = _parse(content, script, before=_line_of(text, block.start("content")) - 1)
    requirements = _strings(data.get("dependencies", []), f"{script}: dependencies in the script metadata")
    requires_python = data.get("requires-python")
    if requires_python is not None and not isinstance(requires_python, str):
        raise ProjectError(f"{script}: requires-python in the script metadata must be a string")
    words = f"{_count(requirements)} in the script itself (PEP 723)"
    return Dependencies("pep723", script, requirements, requires_python), words


def _lock(root: Path, folder: Path) -> tuple[Dependencies, str] | None:
    if not (folder / "uv.lock").is_file() or not (folder / "pyproject.toml").is_file():
        return None
    path = _relative(root, folder / "uv.lock")
    project = _project_table(root, folder) or {}
    return Dependencies("uv.lock", path, requires_python=_requires_python(project)), f"locked in {path}"


def _pyproject(root: Path, folder: Path) -> tuple[Dependencies, str] | None:
    project = _project_table(root, folder)
    if project is None:
        return None
    path = _relative(root, folder / "pyproject.toml")
    requirements = _strings(project.get("dependencies", []), f"{path}: project.dependencies")
    found = Dependencies("pyproject", path, requirements, _requires_python(project))
    return found, f"{_count(requirements)} in {path}"


def _requirements(root: Path, folder: Path) -> tuple[Dependencies, str] | None:
    if not (folder / "requirements.txt").is_file():
        return None
    path = _relative(root, folder / "requirements.txt")
    return Dependencies("requirements", path), f"listed in {path}"


def _project_table(root: Path, folder: Path) -> dict[str, Any] | None:
    file = folder / "pyproject.toml"
    if not file.is_file():
        return None
    path = _relative(root, file)
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ProjectError(f"{path} is not UTF-8") from error
    project = _parse(text, path).get("project")
    if project is not None and not isinstance(project, dict):
        raise ProjectError(f"{path}: project must be a table")
    return project


def _parse(text: str, path: str, before: int = 0) -> dict[str, Any]:
    """TOML, or an error with the line of the file, ``before`` lines of which are not in ``text``."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        place = _TOML_LINE.search(message)
        last = len(text.splitlines())
        line = before + (int(place[1]) if place else last)
        words = _TOML_LINE.sub("", message).strip()
        raise ProjectError(f"{path}:{line}: {words}", hint="it must be valid TOML") from error


def _strings(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ProjectError(f"{where} must be a list of strings", hint='such as ["numpy>=2"]')
    return tuple(value)


def _requires_python(project: dict[str, Any]) -> str | None:
    value = project.get("requires-python")
    return value if isinstance(value, str) else None


def _is_python(path: Path) -> bool:
    if path.suffix:
        return path.suffix == ".py"
    with path.open("rb") as file:
        first = file.readline(200)
    return first.startswith(b"#!") and b"python" in first


def _upwards(root: Path, folder: Path) -> list[Path]:
    """From the script's folder to the root."""
    return [place for place in (folder, *folder.parents) if place.is_relative_to(root)]


def _relative(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _count(requirements: tuple[str, ...]) -> str:
    return f"{len(requirements)} requirement{'' if len(requirements) == 1 else 's'}"
