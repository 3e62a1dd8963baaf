"""The files of a project that say what a script needs: read, and looked at for what the machine does not get."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import field
from pathlib import Path, PurePosixPath
from typing import Any

from runctl._dataclasses import dataclass
from runctl.core.errors import ProjectError
from runctl.project.files import ProjectFiles

_TOML_LINE = re.compile(r"\(at line (\d+), column \d+\)$")
_LISTED_FILE = re.compile(
    r"^(?:(?:-r|--requirement|-c|--constraint|-e|--editable|-f|--find-links)[ =]*)?(?P<path>[^\s\[;#]+)"
)


@dataclass
class Declarations:
    """What a project has declared in files that are sent."""

    files: ProjectFiles
    stays_here: list[str] = field(default_factory=list)
    """Files that were asked for, and are not sent."""
    warnings: list[str] = field(default_factory=list)

    @property
    def root(self) -> Path:
        """The project's folder."""
        return self.files.root

    def has(self, folder: str, name: str) -> bool:
        """Whether the file is sent; one that is here and stays here is noted."""
        path = join_path(folder, name)
        if self.files.has(path):
            return True
        if self.files.stays_here(path) and path not in self.stays_here:
            self.stays_here.append(path)
        return False

    def pyproject(self, folder: str) -> dict[str, Any]:
        """Its content; empty where there is none. Raises `ProjectError`."""
        if not self.has(folder, "pyproject.toml"):
            return {}
        path = join_path(folder, "pyproject.toml")
        return parse_toml(read_text(self.root / path, path), path)


def check_sources(search: Declarations, where: str, folder: str, data: dict[str, Any]) -> None:
    """Warn of ``[tool.uv.sources]`` that lead to a path which the machine does not get."""
    sources = uv_table(data).get("sources")
    for name, source in sources.items() if isinstance(sources, dict) else ():
        for each in source if isinstance(source, list) else [source]:
            path = each.get("path") if isinstance(each, dict) else None
            if isinstance(path, str):
                _check_path(search, f"{where}: the source of {name}", folder, path)


def check_listed_files(search: Declarations, path: str, folder: str) -> None:
    """Warn of files and folders that requirements.txt names and the machine does not get."""
    for raw in read_text(search.root / path, path).splitlines():
        line = raw.strip()
        match = _LISTED_FILE.match(line)
        named = match["path"] if match else ""
        is_path = line.startswith("-") or named.startswith(".") or named.endswith((".whl", ".tar.gz", ".zip"))
        if is_path and not named.startswith("-") and "://" not in named and "$" not in named:
            _check_path(search, path, folder, named)


def _check_path(search: Declarations, where: str, folder: str, path: str) -> None:
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


def parse_toml(text: str, path: str, before: int = 0) -> dict[str, Any]:
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
    except RecursionError:
        raise ProjectError(f"{path} is nested too deeply", hint="it must be valid TOML") from None


def read_text(file: Path, path: str) -> str:
    """The file, which is at ``path`` from the root. Raises `ProjectError`."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ProjectError(f"{path} is not UTF-8") from error
    except OSError as error:
        raise ProjectError(f"{path} cannot be read: {error.strerror}", code="unreadable-file") from error


def table_in(data: dict[str, Any], name: str) -> dict[str, Any]:
    """The table of that name; empty where there is none."""
    found = data.get(name)
    return found if isinstance(found, dict) else {}


def uv_table(data: dict[str, Any]) -> dict[str, Any]:
    """``[tool.uv]`` of a pyproject.toml."""
    return table_in(table_in(data, "tool"), "uv")


def strings(value: Any, where: str) -> tuple[str, ...]:
    """A list of strings, or a `ProjectError`."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ProjectError(f"{where} must be a list of strings", hint='such as ["numpy>=2"]')
    return tuple(value)


def text_or_none(value: Any) -> str | None:
    """A string, or nothing."""
    return value if isinstance(value, str) else None


def folders_up_from(folder: str) -> Iterator[str]:
    """The folder and those above it up to the root, as paths from the root; the root is ``""``."""
    path = PurePosixPath(folder)
    for above in (path, *path.parents):
        yield "" if above == PurePosixPath(".") else above.as_posix()


def split_path(path: str) -> tuple[str, str]:
    """Folder and name; the root is ``""``."""
    folder, _, name = path.rpartition("/")
    return folder, name


def join_path(folder: str, name: str) -> str:
    """The name in the folder, from the root."""
    return f"{folder}/{name}" if folder else name
