"""The names of a project's files: by git where git knows them, else by the gitignore rules found on the way."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pathspec

from runctl.core.errors import ProjectError

DEFAULT_EXCLUDES = (
    ".venv/",
    "venv/",
    "__pycache__/",
    "*.py[cod]",
    "node_modules/",
    ".mypy_cache/",
    ".pytest_cache/",
    ".ruff_cache/",
    ".hypothesis/",
    ".tox/",
    ".nox/",
    ".ipynb_checkpoints/",
    ".eggs/",
    "*.egg-info/",
    ".DS_Store",
    ".idea/",
    ".vscode/",
    ".hg/",
    ".svn/",
)
"""Left out unless git tracks them or a pattern names them."""

_GIT_SECONDS = 120
_GLOB = frozenset("*?[!\\")
_HOOK_VARIABLES = frozenset(
    {"GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"}
)
"""git sets them for its hooks; they speak of another repository than the one that is asked about."""


Found = dict[str, os.stat_result]
"""What is there, links not followed, by path from the root with forward slashes. No folders."""


@dataclass(frozen=True)
class Listing:
    """What belongs to a project by its own rules."""

    found: Found
    selected_by: str
    """``git`` or ``ignore rules``."""
    note: str = ""
    """Why not git, when it is not."""
    skipped: tuple[tuple[str, str], ...] = ()
    """Path and reason."""


class _GitFailed(Exception):
    """git cannot say; the message is its own."""


def list_project(root: Path) -> Listing:
    """The files that belong to the project at ``root``. Raises `ProjectError` when a folder or rule cannot be read."""
    if not (root / ".git").exists():
        return Listing(_drop_environments(_walk(root)), "ignore rules", "no git repository")
    found: Found = {}
    skipped: list[tuple[str, str]] = []
    try:
        _ask_git(root, "", found, skipped)
    except _GitFailed as error:
        return Listing(_drop_environments(_walk(root)), "ignore rules", str(error))
    return Listing(_drop_environments(found), "git", skipped=tuple(skipped))


def list_included(root: Path, patterns: Sequence[str]) -> Found:
    """The files that patterns in gitignore's syntax match, ignored or not. Raises `ProjectError` for a bad pattern."""
    for pattern in patterns:
        if pattern.startswith("!"):
            raise ProjectError(
                f"--include-pattern {pattern}: a pattern that brings files back cannot start with !",
                hint="to leave files out, use .runctlignore",
            )
    try:
        spec = pathspec.GitIgnoreSpec.from_lines(patterns)
    except ValueError as error:
        raise ProjectError(f"--include-pattern {' '.join(patterns)}: {error}") from error
    found: Found = {}
    for start in _starts(patterns):
        status = _look(f"{root}/{start}")
        if status is not None and stat.S_ISDIR(status.st_mode):
            found.update((path, seen) for path, seen in _files_below(root, start) if spec.match_file(path))
        elif status is not None and spec.match_file(start):
            found[start] = status
    return found


def _starts(patterns: Sequence[str]) -> set[str]:
    """Where to look for matches: patterns that say where they begin spare a walk over everything."""
    starts = set()
    for pattern in patterns:
        parts = pattern.strip("/").split("/")
        anchored = "/" in pattern.rstrip("/") or pattern.startswith("/")
        literal = []
        for part in parts:
            if _GLOB & set(part):
                break
            literal.append(part)
        start = "/".join(literal)
        starts.add(start if anchored and ".." not in literal else "")
    return {""} if "" in starts else starts


def _ask_git(root: Path, below: str, found: Found, skipped: list[tuple[str, str]]) -> None:
    """Add what git lists in ``below``, and in the repositories inside it."""
    names = _git_files(root / below)
    # By its descriptor: the way to the folder is not looked up anew for each of thousands of files.
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in names:
            # Submodules come as a name without files, untracked repositories with a slash at the end.
            path = (below + name).rstrip("/")
            status = _look(path, descriptor)
            if status is None:
                # Tracked and deleted: it does not belong to the project any more.
                continue
            if not stat.S_ISDIR(status.st_mode):
                found[path] = status
            elif (root / path / ".git").exists():
                _ask_git(root, path + "/", found, skipped)
            else:
                skipped.append((path, "a submodule that is not checked out (git submodule update --init)"))
    finally:
        os.close(descriptor)


def _look(path: str, descriptor: int | None = None) -> os.stat_result | None:
    """The path's status, from the folder behind the descriptor; ``None`` when there is nothing."""
    try:
        return os.lstat(path, dir_fd=descriptor)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ProjectError(f"{path} cannot be looked at: {error.strerror}") from error


def _git_files(folder: Path) -> Iterator[str]:
    command = [
        "git",
        "--no-optional-locks",
        "-C",
        os.fspath(folder),
        "ls-files",
        "-z",
        "-co",
        "--exclude-standard",
    ]
    for pattern in DEFAULT_EXCLUDES:
        command += ["-x", pattern]
    environment = {name: value for name, value in os.environ.items() if name not in _HOOK_VARIABLES}
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, timeout=_GIT_SECONDS, env=environment
        )
    except FileNotFoundError:
        raise _GitFailed("git is not installed") from None
    except subprocess.TimeoutExpired:
        raise _GitFailed("git did not answer") from None
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise _GitFailed(f"git: {words[0] if words else done.returncode}")
    # Conflicts are listed once per side.
    return iter(dict.fromkeys(os.fsdecode(done.stdout).split("\0")[:-1]))


def _walk(root: Path) -> Found:
    """Files that no gitignore rule takes out; a folder that is ignored is not looked into, as in git."""
    defaults = pathspec.GitIgnoreSpec.from_lines(DEFAULT_EXCLUDES)
    return dict(_walk_below(root, "", [("", defaults)]))


def _walk_below(
    root: Path, below: str, rules: list[tuple[str, pathspec.GitIgnoreSpec]]
) -> Iterator[tuple[str, os.stat_result]]:
    own = _own_rules(root, below)
    if own is not None:
        rules = [*rules, (below, own)]
    for entry in _scan(root, below):
        path = below + entry.name
        is_folder = entry.is_dir(follow_symlinks=False)
        if entry.name == ".git" or _is_ignored(path + "/" if is_folder else path, rules):
            continue
        if is_folder:
            yield from _walk_below(root, path + "/", rules)
        else:
            yield from _seen(path, entry)


def _seen(path: str, entry: os.DirEntry[str]) -> Iterator[tuple[str, os.stat_result]]:
    # It may be gone since the folder was read.
    with contextlib.suppress(FileNotFoundError):
        yield path, entry.stat(follow_symlinks=False)


def _own_rules(root: Path, below: str) -> pathspec.GitIgnoreSpec | None:
    file = root / below / ".gitignore"
    if file.is_symlink() or not file.is_file():
        return None
    lines = os.fsdecode(file.read_bytes()).splitlines()
    good = []
    for line in lines:
        try:
            pathspec.GitIgnoreSpec.from_lines([line])
        except ValueError:
            # git itself passes over what it cannot read.
            continue
        good.append(line)
    return pathspec.GitIgnoreSpec.from_lines(good)


def _is_ignored(path: str, rules: Sequence[tuple[str, pathspec.GitIgnoreSpec]]) -> bool:
    """The nearest file with a word on it decides."""
    for below, spec in reversed(rules):
        verdict = spec.check_file(path[len(below) :]).include
        if verdict is not None:
            return verdict
    return False


def _files_below(root: Path, start: str) -> Iterator[tuple[str, os.stat_result]]:
    below = start + "/" if start else ""
    for entry in _scan(root, below):
        if entry.name == ".git":
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files_below(root, below + entry.name)
        else:
            yield from _seen(below + entry.name, entry)


def _scan(root: Path, below: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(f"{root}/{below}") as listing:
            return sorted(listing, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ProjectError(
            f"{below or root} cannot be read: {error.strerror}",
            hint="change its mode, or put it into .runctlignore",
        ) from error


def _drop_environments(found: Found) -> Found:
    """Virtual environments by any name: a folder with pyvenv.cfg is one."""
    prefixes = tuple(path[: -len("pyvenv.cfg")] for path in found if path.endswith("/pyvenv.cfg"))
    return (
        {path: seen for path, seen in found.items() if not path.startswith(prefixes)} if prefixes else found
    )
