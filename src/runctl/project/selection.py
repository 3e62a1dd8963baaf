"""Which files of a project go to a machine, and why the others do not. The ignore file's rules are read by pathspec."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path

import pathspec

from runctl._dataclasses import dataclass
from runctl.core.errors import ProjectError
from runctl.core.text import counted
from runctl.project.inside import open_file, read_link
from runctl.project.listing import Found, Listing, list_included, list_project
from runctl.project.root import kind_of
from runctl.project.secrets import is_named, secret_parts

IGNORE_FILE = ".runctlignore"
"""In the project's root, in gitignore's syntax; applies whether git selects or not, and to tracked files too."""
DEFAULT_MAX_BYTES = 500 * 1024 * 1024
DEFAULT_MAX_FILES = 20_000
_SHOWN = 5
_LFS_FIRST_LINE = b"version https://git-lfs.github.com/spec/v1\n"
_LFS_SIZES = range(120, 200)
"""Bytes of a Git LFS pointer (its specification, version 1) without extensions."""
_SPECIAL = re.compile(r"[\\*?\[]| $")
"""What must be escaped in a pattern that is to match a name."""


@dataclass(frozen=True)
class Limits:
    """Above this a project is taken for a mistake."""

    max_bytes: int = DEFAULT_MAX_BYTES
    max_files: int = DEFAULT_MAX_FILES


@dataclass(frozen=True)
class LeftOut:
    """A file that stays at home although the rules would have sent it."""

    path: str
    """From the root, with forward slashes."""
    reason: str


@dataclass(frozen=True)
class Selection:
    """The files of a project, as they were found."""

    root: Path
    found: Mapping[str, os.stat_result]
    """By path from the root, with forward slashes: regular files and symlinks. Bytes of a name that are no UTF-8 are
    escaped as ``os.fsdecode`` does."""
    selected_by: str
    """``git``, or ``ignore rules`` and why not git."""
    refused: tuple[LeftOut, ...] = ()
    """They look like secrets."""
    skipped: tuple[LeftOut, ...] = ()
    """They cannot be sent: sockets, symlinks that lead out, submodules that are not there."""
    total_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        total = sum(found.st_size for found in self.found.values())
        object.__setattr__(self, "total_bytes", total)


class ProjectTooLarge(ProjectError):
    """The project is above the limits; the message names what is big in it."""

    code = "project-too-large"


def select(
    root: Path,
    include_patterns: Sequence[str] = (),
    limits: Limits | None = None,
    needed: Sequence[str] = (),
    likely: Sequence[str] = (),
) -> Selection:
    """What of the project at ``root`` is to be sent.

    git says what belongs to it (tracked files, and untracked ones that are not ignored), else the gitignore rules
    found in it do. ``.runctlignore`` takes more out; ``include_patterns`` (gitignore syntax) bring back what is
    ignored. ``.git`` never goes along. ``needed`` are files that no hint suggests to leave out; ``likely`` is as for
    `runctl.project.listing.list_project`. Raises `ProjectError` when nothing is left or a rule cannot be read, and
    `ProjectTooLarge`.
    """
    listing = list_project(root, likely)
    listed = _without_ignored(root, listing.found)
    if include_patterns:
        listed = listed | list_included(root, include_patterns)
    found, refused, skipped = _examine(root, listed, include_patterns)
    selection = Selection(
        root,
        found,
        _described(listing),
        tuple(refused),
        (*(LeftOut(path, reason) for path, reason in listing.skipped), *skipped),
    )
    if not found:
        raise _empty(selection)
    check_limits(selection, limits or Limits(), needed)
    return selection


def lfs_pointers(selection: Selection) -> tuple[str, ...]:
    """The files that are Git LFS pointers: their contents were never fetched."""
    return tuple(
        path
        for path, status in selection.found.items()
        if status.st_size in _LFS_SIZES and stat.S_ISREG(status.st_mode) and _is_pointer(selection.root, path)
    )


def _is_pointer(root: Path, path: str) -> bool:
    try:
        with open_file(root, path) as file:
            return file.read(len(_LFS_FIRST_LINE)) == _LFS_FIRST_LINE
    except (OSError, ProjectError):
        # What cannot be read is said when it is sent.
        return False


def check_limits(selection: Selection, limits: Limits, needed: Sequence[str] = ()) -> None:
    """Raises `ProjectTooLarge`, naming the biggest files and folders, when the selection is above the limits."""
    files, size = len(selection.found), selection.total_bytes
    if files <= limits.max_files and size <= limits.max_bytes:
        return
    by_bytes = size > limits.max_bytes
    biggest = _biggest(selection, by_bytes=by_bytes)
    shown = ", ".join(
        f"{path} ({_mib(amount)})" if by_bytes else f"{path} ({counted(amount, 'file')})"
        for path, amount in biggest
    )
    over = (
        f"{_mib(size)}, the limit {_mib(limits.max_bytes)}" if by_bytes else f"the limit {limits.max_files}"
    )
    # Neither the script nor a folder that it is in.
    spared = [
        path
        for path, _ in biggest
        if not any(f"/{name}/".startswith(f"{path.rstrip('/')}/") for name in needed)
    ]
    such_as = "".join("\n    " + pattern_for(path) for path in spared[:3])
    raise ProjectTooLarge(
        f"the project is too large to sync: {counted(files, 'file')}, {over}. The biggest: {shown}",
        hint=f"keep data on a volume; put what training does not need into {IGNORE_FILE}"
        + (f", such as:{such_as}" if such_as else ""),
    )


def pattern_for(path: str) -> str:
    """The pattern, in gitignore's syntax, that means this very path."""
    return _SPECIAL.sub(r"\\\g<0>", path)


def _described(listing: Listing) -> str:
    return f"ignore rules ({listing.note})" if listing.note else listing.selected_by


def _without_ignored(root: Path, found: Found) -> Found:
    try:
        text = (root / IGNORE_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return found
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(f"{IGNORE_FILE} cannot be read: {error}") from error
    spec = ignore_spec(text.splitlines(), IGNORE_FILE)
    return {path: status for path, status in found.items() if not spec.match_file(path)}


def ignore_spec(lines: Sequence[str], where: str) -> pathspec.GitIgnoreSpec:
    """The rules. Raises `ProjectError` naming the first line that is none."""
    try:
        return pathspec.GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        for number, line in enumerate(lines, start=1):
            try:
                pathspec.GitIgnoreSpec.from_lines([line])
            except ValueError:
                raise ProjectError(f"{where}:{number}: {line!r} is not a pattern") from error
        raise


def _examine(
    root: Path, listed: Found, include_patterns: Sequence[str]
) -> tuple[Found, list[LeftOut], list[LeftOut]]:
    found: Found = {}
    refused: list[LeftOut] = []
    skipped: list[LeftOut] = []
    secrets = {path for path, part in secret_parts(listed).items() if not is_named(part, include_patterns)}
    for path, status in listed.items():
        if path in secrets:
            refused.append(LeftOut(path, "it looks like a secret"))
        elif stat.S_ISREG(status.st_mode):
            found[path] = status
        elif not stat.S_ISLNK(status.st_mode):
            skipped.append(LeftOut(path, kind_of(status.st_mode)))
        elif not leads_inside(root, path):
            skipped.append(LeftOut(path, f"a link out of the project, to {(root / path).readlink()}"))
        else:
            found[path] = status
    return found, refused, skipped


def leads_inside(root: Path, path: str) -> bool:
    """Whether a symlink points to a place in the project, be there anything or not."""
    try:
        return (root / path).resolve().is_relative_to(root) and link_target(root, path) is not None
    except (OSError, RuntimeError):
        # A link to itself leads nowhere.
        return False


def link_target(root: Path, path: str) -> str | None:
    """Where the symlink points, as it must be written on the machine; ``None`` if that is outside.

    A link by absolute path would point elsewhere there, so that it becomes relative.
    """
    target = read_link(root, path)
    folder = os.path.dirname(path)  # noqa: PTH120
    text = os.fspath(target)
    if target.is_absolute():
        if not target.is_relative_to(root):
            return None
        return os.path.relpath(text, os.fspath(root / folder))
    climbed = len(folder.split("/")) if folder else 0
    for part in text.split("/"):
        climbed += -1 if part == ".." else part not in {"", "."}
        if climbed < 0:
            return None
    return text


def _biggest(selection: Selection, *, by_bytes: bool) -> list[tuple[str, int]]:
    """Top-level folders and single files, by what they weigh."""
    weights: Counter[str] = Counter()
    for path, status in selection.found.items():
        top, slash, _ = path.partition("/")
        weights[f"/{top}/" if slash else f"/{path}"] += status.st_size if by_bytes else 1
    return weights.most_common(_SHOWN)


def _mib(size: int) -> str:
    return f"{size / 1024 / 1024:.1f} MiB"


def _empty(selection: Selection) -> ProjectError:
    left_out = len(selection.refused) + len(selection.skipped)
    note = f"; {left_out} left out" if left_out else ""
    return ProjectError(
        f"the project {selection.root} is empty: nothing is selected by {selection.selected_by}{note}",
        hint=f"check .gitignore and {IGNORE_FILE}, or bring files back with --include-pattern",
        code="empty-project",
    )
