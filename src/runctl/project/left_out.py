"""What of a project's folder the ignore rules leave out: by folder and count, and where that is likely a mistake."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pathspec

from runctl._dataclasses import dataclass
from runctl.project.files import ProjectFiles
from runctl.project.listing import DEFAULT_EXCLUDES

_MOST_COUNTED = 20_000
"""Files that are looked at in all: enough to say that there are many."""
_ENOUGH_NAMED = 3


@dataclass(frozen=True)
class LeftOutFolder:
    """Files that stay here together."""

    path: str
    """With a slash at its end: a folder of which nothing is sent, or the one that the files are in; else a file."""
    files: int
    is_more: bool = False
    """There are more than were counted."""
    python_files: int = 0
    is_code: bool = False
    """It lies in code that is sent, or is a package: Python files in it are likely missed."""
    outermost: str = ""
    """The outermost folder of which nothing is sent, where that holds nothing but this one."""

    @property
    def described(self) -> str:
        """For a person: ``data/ (1,204 files)``."""
        if self.files == 1 and not self.path.endswith("/"):
            return self.path
        more = " or more" if self.is_more else ""
        return f"{self.path} ({self.files:,}{more} file{'' if self.files == 1 else 's'})"


def left_out(files: ProjectFiles) -> tuple[LeftOutFolder, ...]:
    """What is on this disk and is not sent, biggest first. Not counted: ``.git``, caches and environments, which nobody
    expects to be sent."""
    never = pathspec.GitIgnoreSpec.from_lines([".git/", *DEFAULT_EXCLUDES])
    budget = [_MOST_COUNTED]
    found = list(_below(files, "", never, budget))
    return tuple(sorted(found, key=lambda folder: (-folder.files, folder.path)))


def described(folders: tuple[LeftOutFolder, ...]) -> str:
    """The biggest by name, the rest by their number."""
    shown = [folder.described for folder in folders[:_ENOUGH_NAMED]]
    rest = folders[_ENOUGH_NAMED:]
    if rest:
        more = sum(folder.files for folder in rest)
        shown.append(f"and {more:,} more file{'' if more == 1 else 's'}")
    return ", ".join(shown)


def _below(
    files: ProjectFiles, folder: str, never: pathspec.GitIgnoreSpec, budget: list[int]
) -> Iterator[LeftOutFolder]:
    sent = files.sent or ()
    single = []
    for entry in _entries(files.root / folder):
        path = f"{folder}{entry.name}"
        is_folder = entry.is_dir(follow_symlinks=False)
        if never.match_file(path + "/" if is_folder else path):
            continue
        if not is_folder:
            if path not in sent:
                single.append(path)
        elif files.has_below(path):
            yield from _below(files, path + "/", never, budget)
        elif not os.path.exists(files.root / path / "pyvenv.cfg"):  # noqa: PTH110 (False where it cannot be read)
            yield from _whole(files, path + "/", budget)
    if single:
        path = single[0] if len(single) == 1 else folder or "./"
        yield LeftOutFolder(path, len(single))


def _whole(files: ProjectFiles, path: str, budget: list[int]) -> Iterator[LeftOutFolder]:
    outer, path = path, _only_folder_in(files.root, path)
    count = python = 0
    is_more = False
    for _folder, _folders, names in os.walk(files.root / path):
        count += len(names)
        python += sum(name.endswith(".py") for name in names)
        budget[0] -= len(names)
        if budget[0] < 0:
            is_more = True
            break
    if not count:
        return
    is_package = os.path.isfile(files.root / path / "__init__.py")  # noqa: PTH113 (False where it cannot be read)
    above = path.rstrip("/").rpartition("/")[0]
    in_code = bool(above) and any(
        name.endswith(".py") and name.rpartition("/")[0] == above for name in files.sent or ()
    )
    is_code = bool(python) and (is_package or in_code)
    yield LeftOutFolder(path, count, is_more, python, is_code, "" if outer == path else outer)


def _only_folder_in(root: Path, path: str) -> str:
    """The folder below that holds everything: ``src/pkg/data/`` says more than ``src/``."""
    while True:
        entries = _entries(root / path)
        if len(entries) != 1 or not entries[0].is_dir(follow_symlinks=False):
            return path
        path += entries[0].name + "/"


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as listing:
            return sorted(listing, key=lambda entry: entry.name)
    except OSError:
        return []
