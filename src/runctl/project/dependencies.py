"""What a script needs on a machine's host, by what its author wrote down: nothing is installed here.

Installing is left to uv and pip, which know the rules. Here it is decided which of them does it from which file, and
what a person should know about that before anything is sent.
"""

from __future__ import annotations

import configparser
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from runctl.agent.spec import Dependencies, DependencyKind
from runctl.core.errors import ProjectError
from runctl.project.files import ProjectFiles

_BLOCK = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
"""The reference pattern of https://packaging.python.org/en/latest/specifications/inline-script-metadata/."""
_OPENING = re.compile(r"(?m)^# /// script$")
_TOML_LINE = re.compile(r"\(at line (\d+), column \d+\)$")
_PINNED_PYTHON = re.compile(r"(?:cpython-|cpython@|python)?(\d+(?:\.\d+){0,2})")
_POETRY_PYTHON = re.compile(r"([\^~])(\d+)(?:\.(\d+))?(?:\.\d+)?")
_LISTED_FILE = re.compile(
    r"^(?:(?:-r|--requirement|-c|--constraint|-e|--editable|-f|--find-links)[ =]*)?(?P<path>[^\s\[;#]+)"
)
_NOT_READ = (
    "environment.yml",
    "environment.yaml",
    "conda-lock.yml",
    "pixi.toml",
    "Pipfile",
    "Pipfile.lock",
    "poetry.lock",
    "pdm.lock",
)
"""They may say what is needed, and neither pip nor uv reads them."""
_EXPORTS = {
    "environment": "conda env export, or a Dockerfile that builds on conda",
    "conda-lock": "a Dockerfile that builds on conda",
    "pixi": "pixi project export conda-environment, or a Dockerfile",
    "Pipfile": "pipenv requirements > requirements.txt",
    "poetry": "poetry export > requirements.txt",
    "pdm": "pdm export > requirements.txt",
}


@dataclass(frozen=True)
class Needs:
    """The dependencies, and what a person is told of them."""

    spec: Dependencies
    reason: str
    warnings: tuple[str, ...] = ()
    """What is likely not what was meant."""
    stays_here: tuple[str, ...] = ()
    """Files that would have decided, and are not sent."""


@dataclass
class _Search:
    files: ProjectFiles
    stays_here: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return self.files.root

    def has(self, folder: str, name: str) -> bool:
        path = _join(folder, name)
        if self.files.has(path):
            return True
        if self.files.stays_here(path) and path not in self.stays_here:
            self.stays_here.append(path)
        return False

    def pyproject(self, folder: str) -> dict[str, Any]:
        """Its content; empty where there is none. Raises `ProjectError`."""
        if not self.has(folder, "pyproject.toml"):
            return {}
        path = _join(folder, "pyproject.toml")
        return _parse(_text(self.root / path, path), path)


def find_dependencies(files: ProjectFiles, script: str) -> Needs:
    """What the script (a path from the root; empty for a command) needs, and why in words.

    In this order: its own inline metadata (PEP 723); the nearest project, from the script's folder up to the root:
    as uv has it where uv manages it (``uv.lock``, ``[tool.uv]``, a workspace), else as pip has it; the nearest
    requirements.txt; the nearest package without a ``[project]`` table (setup.py, setup.cfg, Poetry). What the
    machine does not get does not count. Raises `ProjectError` naming file and line when what should answer cannot be
    read.
    """
    search = _Search(files)
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


def _needs(search: _Search, spec: Dependencies, reason: str) -> Needs:
    return Needs(spec, reason, tuple(search.warnings), tuple(search.stays_here))


def _inline(search: _Search, script: str) -> tuple[Dependencies | None, str]:
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
    data = _parse(content, script, before=_line_of(text, block.start("content")) - 1)
    requirements = _strings(data.get("dependencies", []), f"{script}: dependencies in the script metadata")
    requires_python = data.get("requires-python")
    if requires_python is not None and not isinstance(requires_python, str):
        raise ProjectError(f"{script}: requires-python in the script metadata must be a string")
    folder, name = _split(script)
    locked = search.has(folder, f"{name}.lock")
    uv = bool(_uv_table(data)) or locked
    _check_sources(search, script, folder, data)
    reason = f"{_count(requirements)} in the script itself (PEP 723)"
    reason += f", locked in {name}.lock" if locked else ", by uv ([tool.uv])" if uv else ""
    spec = Dependencies(
        DependencyKind.PEP723, script, requirements, requires_python, folder, uv=uv, locked=locked
    )
    return spec, reason


def _project(search: _Search, folder: str) -> tuple[Dependencies, str] | None:
    data = search.pyproject(folder)
    path = _join(folder, "pyproject.toml")
    project = data.get("project")
    if project is not None and not isinstance(project, dict):
        raise ProjectError(f"{path}: project must be a table")
    is_workspace = "workspace" in _uv_table(data)
    if project is None and not is_workspace:
        return None
    project = project or {}
    requirements = _strings(project.get("dependencies", []), f"{path}: project.dependencies")
    requires_python = _text_or_none(project.get("requires-python"))
    workspace = _workspace_of(search, folder)
    home = workspace if workspace is not None else folder
    locked = search.has(home, "uv.lock")
    if locked or workspace is not None or _uses_uv(search, folder, data):
        _check_sources(search, path, folder, data)
        python = _with_pinned_python(search, folder, requires_python)
        lock = _join(home, "uv.lock")
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


def _uses_uv(search: _Search, folder: str, data: dict[str, Any]) -> bool:
    tool = data.get("tool")
    return (isinstance(tool, dict) and "uv" in tool) or search.has(folder, "uv.toml")


def _workspace_of(search: _Search, folder: str) -> str | None:
    """The root of the uv workspace that a project is in, by ``members`` and ``exclude``; uv has the last word."""
    for home in _folders_up_from(folder):
        workspace = _uv_table(search.pyproject(home)).get("workspace")
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


def _with_pinned_python(search: _Search, folder: str, requires_python: str | None) -> str | None:
    """With what ``.python-version`` asks for, which uv reads in the project's folder and above."""
    for above in _folders_up_from(folder):
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


def _requirements(search: _Search, folder: str) -> tuple[Dependencies, str] | None:
    if not search.has(folder, "requirements.txt"):
        return None
    path = _join(folder, "requirements.txt")
    _check_listed_files(search, path, folder)
    return Dependencies(DependencyKind.REQUIREMENTS, path, folder=folder), f"listed in {path}"


def _package(search: _Search, folder: str) -> tuple[Dependencies, str] | None:
    """What pip can install without a ``[project]`` table."""
    data = search.pyproject(folder)
    has_setup_py, declared = search.has(folder, "setup.py"), _declared_in_setup_cfg(search, folder)
    builds = "build-system" in data
    poetry = _table(_table(data, "tool"), "poetry")
    path = _join(folder, "pyproject.toml")
    if poetry:
        if not builds:
            search.warnings.append(
                f"{path} has no [build-system]: pip does not know Poetry's dependencies; add one"
            )
        elif poetry.get("package-mode") is False:
            search.warnings.append(
                f"{path} is no package (package-mode = false): its dependencies are not installed;"
                " poetry export > requirements.txt lists them"
            )
        else:
            python = _python_of_poetry(_table(poetry, "dependencies").get("python"))
            spec = Dependencies(DependencyKind.PACKAGE, path, requires_python=python, folder=folder)
            return spec, f"dependencies of the package in {path} (Poetry)"
    if has_setup_py or (declared is not None and data):
        name = "setup.cfg" if declared is not None else "setup.py"
        path = _join(folder, name)
        python = (declared or {}).get("python_requires")
        spec = Dependencies(DependencyKind.PACKAGE, path, requires_python=python, folder=folder)
        return spec, f"dependencies of the package in {path}"
    if builds and _table(_table(data, "tool"), "flit"):
        return Dependencies(
            DependencyKind.PACKAGE, path, folder=folder
        ), f"dependencies of the package in {path}"
    return None


def _declared_in_setup_cfg(search: _Search, folder: str) -> dict[str, str] | None:
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


def _passed_over(search: _Search, folder: str, found: Dependencies) -> str:
    """Files beside the one that decided, which may have been meant."""
    others = [name for name in (*_NOT_READ, "requirements.txt") if search.files.has(_join(folder, name))]
    if found.kind is DependencyKind.REQUIREMENTS:
        others = [name for name in others if name != "requirements.txt"]
        others += [name for name in ("setup.py",) if search.files.has(_join(folder, name))]
    elif found.kind.may_read_requirements and "requirements.txt" in others:
        # What is dynamic may be read from there, and a lock may have been exported to there.
        others.remove("requirements.txt")
    return f" (not read: {', '.join(others)})" if others else ""


def _nothing(search: _Search, folders: list[str]) -> str:
    for folder in folders:
        here = [name for name in _NOT_READ if search.files.has(_join(folder, name))]
        here += sorted(
            path.name
            for path in (search.root / folder).glob("requirements*.txt")
            if search.files.has(_join(folder, path.name))
        )
        if not here:
            continue
        first = next((command for start, command in _EXPORTS.items() if here[0].startswith(start)), None)
        way_out = first or f"rename it to requirements.txt, or write one that says -r {here[0]}"
        search.warnings.append(
            f"{_join(folder, here[0])} is not read: its packages are not installed; {way_out}"
        )
        return f"no dependencies that pip or uv read: plain Python (not read: {', '.join(here)})"
    return "none declared: plain Python"


def _check_sources(search: _Search, where: str, folder: str, data: dict[str, Any]) -> None:
    """Warn of ``[tool.uv.sources]`` that lead to a path which the machine does not get."""
    sources = _uv_table(data).get("sources")
    for name, source in sources.items() if isinstance(sources, dict) else ():
        for each in source if isinstance(source, list) else [source]:
            path = each.get("path") if isinstance(each, dict) else None
            if isinstance(path, str):
                _check_path(search, f"{where}: the source of {name}", folder, path)


def _check_listed_files(search: _Search, path: str, folder: str) -> None:
    """Warn of files and folders that requirements.txt names and the machine does not get."""
    for raw in _text(search.root / path, path).splitlines():
        line = raw.strip()
        match = _LISTED_FILE.match(line)
        named = match["path"] if match else ""
        is_path = line.startswith("-") or named.startswith(".") or named.endswith((".whl", ".tar.gz", ".zip"))
        if is_path and not named.startswith("-") and "://" not in named and "$" not in named:
            _check_path(search, path, folder, named)


def _check_path(search: _Search, where: str, folder: str, path: str) -> None:
    full = search.root / folder / path
    if not full.exists():
        # The installer says so, better than we could.
        return
    resolved = full.resolve()
    if not resolved.is_relative_to(search.root):
        search.warnings.append(f"{where}: {path} is outside the project and is not sent")
        return
    inside = resolved.relative_to(search.root).as_posix()
    if search.files.stays_here(inside):
        search.warnings.append(
            f"{where}: {path} is ignored and is not sent; --include-pattern {inside} sends it"
        )


def _parse(text: str, path: str, before: int = 0) -> dict[str, Any]:
    """TOML, or an error with the line of the file, ``before`` lines of which are not in ``text``."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        position = _TOML_LINE.search(message)
        last = len(text.splitlines())
        line = before + (int(position[1]) if position else last)
        problem = _TOML_LINE.sub("", message).strip()
        raise ProjectError(f"{path}:{line}: {problem}", hint="it must be valid TOML") from error


def _text(file: Path, path: str) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ProjectError(f"{path} is not UTF-8") from error
    except OSError as error:
        raise ProjectError(f"{path} cannot be read: {error.strerror}", code="unreadable-file") from error


def _table(data: dict[str, Any], name: str) -> dict[str, Any]:
    found = data.get(name)
    return found if isinstance(found, dict) else {}


def _uv_table(data: dict[str, Any]) -> dict[str, Any]:
    return _table(_table(data, "tool"), "uv")


def _strings(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ProjectError(f"{where} must be a list of strings", hint='such as ["numpy>=2"]')
    return tuple(value)


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _is_python(path: Path) -> bool:
    if path.suffix:
        return path.suffix == ".py"
    with path.open("rb") as file:
        first = file.readline(200)
    return first.startswith(b"#!") and b"python" in first


def _upwards(script: str) -> list[str]:
    """The folders from the script's own up to the root, as paths from the root; the root is ``""``."""
    return list(_folders_up_from(_split(script)[0]))


def _folders_up_from(folder: str) -> Iterator[str]:
    path = PurePosixPath(folder)
    for above in (path, *path.parents):
        yield "" if above == PurePosixPath(".") else above.as_posix()


def _split(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition("/")
    return folder, name


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _count(requirements: tuple[str, ...]) -> str:
    return f"{len(requirements)} requirement{'' if len(requirements) == 1 else 's'}"
