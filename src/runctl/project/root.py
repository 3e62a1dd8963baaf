"""Where a project begins, seen from the script that is to run."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.core.dependency_files import MARK_A_PROJECT
from runctl.core.errors import NotFound, ProjectError, UsageError
from runctl.core.files import expand_user
from runctl.core.names import did_you_mean

MARKERS = (
    ".runctl.toml",
    *MARK_A_PROJECT,
    "Dockerfile",
    ".runctlignore",
)
"""Without git, the nearest folder with one of these is the root. ``.git`` anywhere above comes before them."""

_NEARBY_FILES = 2000
_NEARBY_DEPTH = 3
_SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules", "venv"})


@dataclass(frozen=True)
class ProjectRoot:
    """The folder that is sent to the machine, and the script in it."""

    path: Path
    """Absolute, without symlinks."""
    reason: str
    """For a person: "it has .git"."""
    script: str
    """From the root, with forward slashes."""


def find_root(script: Path, cwd: Path) -> ProjectRoot:
    """The root of the script's project: the folder with ``.git`` above it, else the nearest marker, else its own.

    Folders above the script are resolved; the script itself may be a symlink and keeps its own name, as long as what
    it points to is in the project too. The home folder, ``/`` and /tmp are never a project. Raises `NotFound` without
    such a script, `UsageError` when it is a folder, and `ProjectError` when it is outside the project: it is a
    symlink that leads out, or lies in no project while ``cwd`` is in one.
    """
    given = cwd / expand_user(script)
    _check_kind(script, given, cwd)
    # Resolving a file would lose the name that its author gave it in the project.
    path = given.parent.resolve() / given.name
    found = _project_above(path.parent)
    if found is None and path.is_symlink():
        path = path.resolve()
        found = _project_above(path.parent)
    if found is None:
        _refuse_stray(path, script, cwd)
        found = path.parent, "the script's folder; there is no .git and no project file above it"
    root, reason = found
    if path.is_symlink() and not path.resolve().is_relative_to(root):
        raise ProjectError(
            f"{script} is outside the project: it is a link to {path.resolve()}, and the project is {root} ({reason})",
            hint="copy the script into the project",
            code="script-outside",
        )
    if _is_too_much(root):
        raise ProjectError(
            f"{root} would be the project, and that is too much to send",
            hint="put the script into a folder of its own",
            code="no-project",
        )
    return ProjectRoot(root, reason, path.relative_to(root).as_posix())


def _check_kind(script: Path, given: Path, cwd: Path) -> None:
    try:
        mode = given.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(script, given, cwd) from None
    except OSError as error:
        raise ProjectError(
            f"{script} cannot be read: {error.strerror}",
            hint="check the path and its modes",
            code="no-script",
        ) from error
    if stat.S_ISDIR(mode):
        raise UsageError(f"{script} is a folder", hint="name the script in it that is to run")
    if not stat.S_ISREG(mode):
        raise UsageError(
            f"{script} is {kind_of(mode)}, not a script",
            hint="save its output to a file, and name that file",
        )


def kind_of(mode: int) -> str:
    """What a path is that is neither a file nor a folder nor a link, for a person."""
    kinds = {
        stat.S_IFSOCK: "a socket",
        stat.S_IFIFO: "a pipe",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "no file")


def find_root_of_folder(cwd: Path) -> ProjectRoot:
    """The root of the project that a folder is in, else the folder itself; its ``script`` is empty.

    Raises `ProjectError` where that would be the home folder, ``/`` or /tmp.
    """
    folder = cwd.resolve()
    found = _project_above(folder)
    root, reason = found or (
        folder,
        "the folder that you are in; there is no .git and no project file above it",
    )
    if _is_too_much(root):
        raise ProjectError(
            f"{root} would be the project, and that is too much to send",
            hint="run the command in the project's folder",
            code="no-project",
        )
    return ProjectRoot(root, reason, "")


def project_name(root: Path) -> str:
    """The project's name on machines: the folder's own, and what tells it from others of that name."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", root.name).strip("-._") or "project"
    return f"{name[:48]}-{hashlib.sha256(os.fsencode(root)).hexdigest()[:8]}"


def _project_above(folder: Path) -> tuple[Path, str] | None:
    candidates = [candidate for candidate in (folder, *folder.parents) if not _is_too_much(candidate)]
    for candidate in candidates:
        if (candidate / ".git").exists():
            return candidate, "it has .git"
    for candidate in candidates:
        for marker in MARKERS:
            if (candidate / marker).is_file():
                return candidate, f"it has {marker}"
    return None


def _is_too_much(folder: Path) -> bool:
    """The root, the home folder, what is above it, and folders like /tmp, which everybody writes to."""
    if folder == Path(folder.anchor) or folder.stat().st_mode & stat.S_ISVTX:
        return True
    try:
        return Path.home().resolve().is_relative_to(folder)
    except RuntimeError:
        return False


def _refuse_stray(path: Path, script: Path, cwd: Path) -> None:
    """A script in no project is its own project, but not for somebody who stands in another one."""
    here = _project_above(cwd.resolve())
    if here is not None and not path.is_relative_to(here[0]):
        raise ProjectError(
            f"{script} is outside the project {here[0]} ({here[1]})",
            hint=f"move the script into the project, or run the command in {path.parent}",
            code="script-outside",
        )


def _missing(script: Path, given: Path, cwd: Path) -> NotFound:
    if given.is_symlink():
        return NotFound(f"{script} is a link to {given.readlink()}, which does not exist", code="no-script")
    nearby = _files_nearby(cwd)
    near = did_you_mean(script.as_posix(), nearby)
    if not near:
        by_name = {Path(name).name: name for name in reversed(nearby)}
        same = by_name.get(script.name)
        near = f'did you mean "{same}"?' if same else did_you_mean(script.name, by_name)
    return NotFound(
        f"there is no script {script} in {cwd}",
        hint=near or "the path is relative to the folder that you are in",
        code="no-script",
    )


def _files_nearby(cwd: Path) -> list[str]:
    """Files below the folder, nearest first; enough of them to find a typing mistake."""
    found: list[str] = []
    level = [cwd]
    for _ in range(_NEARBY_DEPTH):
        below: list[Path] = []
        for folder in level:
            try:
                children = sorted(folder.iterdir())
            except OSError:
                continue
            for child in children:
                if child.name.startswith(".") or child.name in _SKIPPED_FOLDERS:
                    continue
                if child.is_dir():
                    below.append(child)
                elif len(found) < _NEARBY_FILES:
                    found.append(child.relative_to(cwd).as_posix())
        level = below[:_NEARBY_FILES]
    return found
