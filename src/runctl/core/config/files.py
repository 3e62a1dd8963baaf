"""Where configuration files are, and what stands in them, with the line of every key."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runctl._dataclasses import dataclass

if TYPE_CHECKING:
    import tomllib

FILE_NAME = ".runctl.toml"
PYPROJECT = "pyproject.toml"
PYPROJECT_TABLE = ("tool", "runctl")


@dataclass(frozen=True)
class Problem:
    """Something wrong in a file or variable."""

    where: str
    """The file's path, or ``$NAME`` of a variable."""
    line: int | None
    key: str
    """Dotted; empty when the whole file is meant."""
    message: str
    hint: str = ""

    def text(self) -> str:
        """One line for a person: place, key, what is wrong."""
        position = self.where if self.line is None else f"{self.where}:{self.line}"
        return f"{position}: {self.key}: {self.message}" if self.key else f"{position}: {self.message}"


@dataclass(frozen=True)
class ConfigFile:
    """A file that holds configuration, and the table of it that is ours."""

    path: Path
    table: tuple[str, ...] = ()
    """``("tool", "runctl")`` in a pyproject.toml, else empty: the whole file."""


@dataclass(frozen=True)
class Parsed:
    """What a file says."""

    text: str
    table: tuple[str, ...]
    content: Mapping[str, Any]
    """Our table; empty when the file could not be read."""
    problems: tuple[Problem, ...]

    def line_of(self, path: tuple[str, ...]) -> int | None:
        """The line on which a key or table begins, from 1; found by parsing ever longer beginnings of the file.

        A beginning that ends inside a multi-line value does not parse, so the statement that brings a key in
        starts on the line after the last beginning that did.
        """
        import tomllib

        full = (*self.table, *path)
        lines = self.text.splitlines(keepends=True)
        start = 0
        for end in range(1, len(lines) + 1):
            try:
                begun: Any = tomllib.loads("".join(lines[:end]))
            except (tomllib.TOMLDecodeError, RecursionError):
                continue
            for name in full:
                begun = begun.get(name) if isinstance(begun, dict) else None
            if begun is not None:
                return start + 1
            start = end
        return None


def user_config_path() -> Path:
    """The user's own file, whether it exists or not."""
    from platformdirs import user_config_path as config_path

    return config_path("runctl", appauthor=False) / "config.toml"


def find_project_file(cwd: Path) -> tuple[ConfigFile | None, list[Problem]]:
    """The nearest ``.runctl.toml`` or ``[tool.runctl]``, from ``cwd`` up to the project's root.

    The root is the folder with ``.git``; without one the search ends below the home folder and below folders that
    everybody may write to. Both in one folder is a problem: which of them is meant cannot be known.
    """
    for folder in project_folders(cwd):
        own = folder / FILE_NAME
        pyproject = folder / PYPROJECT
        has_table, problems = _has_table(pyproject)
        if _is_folder(own):
            message = "it is a folder, and a configuration file is needed there"
            problems.append(Problem(str(own), None, "", message, "move it away, or rename it"))
        if is_readable_file(own):
            if has_table:
                message = f"{PYPROJECT} beside it has a [tool.runctl] table too"
                problems.append(Problem(str(own), None, "", message, "keep one of the two"))
            return ConfigFile(own), problems
        if has_table:
            return ConfigFile(pyproject, PYPROJECT_TABLE), problems
        if problems or _exists(folder / ".git"):
            return None, problems
    return None, []


def project_folders(cwd: Path) -> list[Path]:
    """``cwd`` and those above it that may belong to the same project, the nearest first.

    Neither the home folder nor anything above it, nor a folder like ``/tmp``, where anybody could leave a file that
    would then configure everybody's work below; but ``cwd`` itself always counts.
    """
    folders = [cwd]
    for folder in cwd.parents:
        if folder == Path(folder.anchor) or _holds_home(folder) or _is_everybodys(folder):
            break
        folders.append(folder)
    return folders


def parse_file(file: ConfigFile) -> Parsed:
    """What stands in the file; a file that cannot be read or parsed is a problem, not an exception."""

    import tomllib

    def nothing(message: str, line: int | None = None, hint: str = "", text: str = "") -> Parsed:
        return Parsed(text, file.table, {}, (Problem(str(file.path), line, "", message, hint),))

    try:
        text = file.path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        return nothing(f"not UTF-8 text (byte {error.start})")
    except OSError as error:
        return nothing(f"cannot be read: {error.strerror}")
    try:
        content: Any = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return nothing(*_syntax(error), text=text)
    except RecursionError:
        return nothing("nested too deeply to be configuration", text=text)
    for name in file.table:
        content = content.get(name, {}) if isinstance(content, dict) else {}
    if not isinstance(content, dict):
        return nothing(f"expected a table [{'.'.join(file.table)}]", text=text)
    return Parsed(text, file.table, content, ())


def _syntax(error: tomllib.TOMLDecodeError) -> tuple[str, int | None, str]:
    message = str(error)
    what, _, position = message.rpartition(" (at ")
    position_parts = position.rstrip(")").replace(",", "").split()
    if what and position_parts[:1] == ["line"] and position_parts[1].isdigit():
        return (
            f"not valid TOML: {what}, column {position_parts[-1]}",
            int(position_parts[1]),
            'texts stand in quotes: region = "eu-west-1"',
        )
    return f"not valid TOML: {message}", None, ""


def _has_table(pyproject: Path) -> tuple[bool, list[Problem]]:
    """Whether a pyproject.toml configures runctl; most do not, and are not worth parsing."""
    try:
        text = pyproject.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False, []
    if "runctl" not in text:
        return False, []
    import tomllib

    try:
        content = tomllib.loads(text)
    except RecursionError:
        return False, []
    except tomllib.TOMLDecodeError as error:
        if "tool.runctl" not in text:
            return False, []
        message, line, hint = _syntax(error)
        return False, [Problem(str(pyproject), line, "", message, hint)]
    tool = content.get("tool")
    return isinstance(tool, dict) and "runctl" in tool, []


def is_readable_file(path: Path) -> bool:
    """Whether there is such a file; a folder that may not be looked into holds none for us."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _holds_home(folder: Path) -> bool:
    try:
        return Path.home().is_relative_to(folder)
    except RuntimeError:
        return False


def _is_everybodys(folder: Path) -> bool:
    try:
        return bool(folder.stat().st_mode & stat.S_ISVTX)
    except OSError:
        return True
