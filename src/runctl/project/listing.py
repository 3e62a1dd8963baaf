"""The names of a project's files: by git where git knows them, else by the gitignore rules found on the way.

A rule's meaning is pathspec's, a library that follows git. The walk is our own: pathspec's goes into ignored folders
too, and knows no .gitignore in a folder below.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pathspec

from runctl._dataclasses import dataclass
from runctl.core.errors import ProjectError
from runctl.project.git import GitFailed, run_git, run_git_with_warnings
from runctl.project.inside import RealFolders, may_be_sent

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

_GLOB = frozenset("*?[!\\")
_FOLDER = "ps_d"
"""The group of pathspec's expressions that holds the slash behind a folder's name."""
_UNREADABLE = re.compile(r"warning: could not open directory '(.*?)/?': (.*)")
_SUBMODULE = b"160000 "


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


def list_project(root: Path, likely: Sequence[str] = ()) -> Listing:
    """The files that belong to the project at ``root``. Raises `ProjectError` when a folder or rule cannot be read.

    ``likely`` are paths that git will probably list: they are looked at while it does.
    """
    if not (root / ".git").exists():
        return _by_rules(root, "no git repository")
    found: Found = {}
    skipped: list[tuple[str, str]] = []
    try:
        _ask_git(root, "", found, skipped, likely)
    except GitFailed as error:
        return _by_rules(root, str(error))
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
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        folders = RealFolders(descriptor)
        for start in _starts(patterns):
            if start and not (may_be_sent(start) and folders.lead_to(start)):
                continue
            status = _status(start or ".", descriptor)
            if status is not None and stat.S_ISDIR(status.st_mode):
                found.update(
                    (path, seen) for path, seen in _files_below(root, start) if spec.match_file(path)
                )
            elif status is not None and spec.match_file(start):
                found[start] = status
    finally:
        os.close(descriptor)
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


def _ask_git(
    root: Path, below: str, found: Found, skipped: list[tuple[str, str]], likely: Sequence[str] = ()
) -> None:
    """Add what git lists in ``below``, and in the repositories inside it."""
    folders: list[str] = []
    # By its descriptor: the way to the folder is not looked up anew for each of thousands of files.
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with ThreadPoolExecutor(1) as pool:
            listed = pool.submit(_git_files, root / below)
            seen = _statuses(likely, descriptor)
            names, unreadable = listed.result()
        skipped += [(below + path, f"it cannot be read: {why}") for path, why in unreadable]
        real_folders = RealFolders(descriptor)
        for name in names:
            # Submodules come as a name without files, untracked repositories with a slash at the end.
            path = (below + name).rstrip("/")
            if not may_be_sent(path):
                # git adds no such path: somebody else has written its index.
                skipped.append((path, "git's index names a path that is outside of the project or git's own"))
                continue
            status = seen[path] if path in seen else _status(path, descriptor)
            if status is None or not real_folders.lead_to(path):
                # Tracked and deleted, also where a link is in the place of its folder: it does not belong to the
                # project any more.
                continue
            if not stat.S_ISDIR(status.st_mode):
                found[path] = status
            elif (root / path / ".git").exists():
                _ask_git(root, path + "/", found, skipped)
            else:
                folders.append(path)
    finally:
        os.close(descriptor)
    for path in _submodules(root, below, folders):
        skipped.append((path, "a submodule that is not checked out (git submodule update --init)"))


def _submodules(root: Path, below: str, folders: Sequence[str]) -> list[str]:
    """Those of the folders that are tracked as submodules: another one was a file when it was tracked."""
    if not folders:
        return []
    names = [f":(literal){path[len(below) :]}" for path in folders]
    listed = run_git(root / below, "ls-files", "-z", "--stage", "--", *names)
    entries = (entry for entry in listed.split(b"\0") if entry.startswith(_SUBMODULE))
    return [below + os.fsdecode(entry.partition(b"\t")[2]) for entry in entries]


def _statuses(paths: Sequence[str], descriptor: int) -> dict[str, os.stat_result | None]:
    """What `_status` says of each, up to the first that it cannot tell: whether that matters is not known here."""
    seen: dict[str, os.stat_result | None] = {}
    # Of thousands, a call of ours for each would take as long as a fifth of the looks.
    lstat, rest = os.lstat, iter(paths)
    while True:
        path = ""
        try:
            for path in rest:
                seen[path] = lstat(path, dir_fd=descriptor)
        except (FileNotFoundError, NotADirectoryError):
            seen[path] = None
        except OSError:
            return seen
        else:
            return seen


def _status(path: str, descriptor: int | None = None) -> os.stat_result | None:
    """The path's status, from the folder behind the descriptor; ``None`` when there is nothing."""
    try:
        return os.lstat(path, dir_fd=descriptor)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ProjectError(f"{path} cannot be read: {error.strerror}") from error


def _git_files(folder: Path) -> tuple[Iterator[str], list[tuple[str, str]]]:
    """Names, and the folders that git could not read."""
    arguments = ["ls-files", "-z", "-co", "--exclude-standard"]
    for pattern in DEFAULT_EXCLUDES:
        arguments += ["-x", pattern]
    listed, warnings = run_git_with_warnings(folder, *arguments)
    unreadable = [(match[1], match[2]) for match in _UNREADABLE.finditer(warnings)]
    # Conflicts are listed once per side.
    return iter(dict.fromkeys(os.fsdecode(listed).split("\0")[:-1])), unreadable


def _by_rules(root: Path, why_not_git: str) -> Listing:
    """Files that no gitignore rule takes out; a folder that is ignored is not looked into, as in git."""
    defaults = pathspec.GitIgnoreSpec.from_lines(DEFAULT_EXCLUDES)
    skipped: list[tuple[str, str]] = []
    found = dict(_walk_below(root, "", [("", defaults)], skipped))
    return Listing(_drop_environments(found), "ignore rules", why_not_git, tuple(skipped))


def _walk_below(
    root: Path,
    below: str,
    rules: list[tuple[str, pathspec.GitIgnoreSpec]],
    skipped: list[tuple[str, str]],
) -> Iterator[tuple[str, os.stat_result]]:
    try:
        entries = _scan(root, below)
    except PermissionError as error:
        skipped.append((below.rstrip("/") or ".", f"it cannot be read: {error.strerror}"))
        return
    own = _own_rules(root, below)
    if own is not None:
        rules = [*rules, (below, own)]
    for entry in entries:
        path = below + entry.name
        is_folder = entry.is_dir(follow_symlinks=False)
        if entry.name == ".git" or _is_ignored(path + "/" if is_folder else path, rules):
            continue
        if is_folder:
            yield from _walk_below(root, path + "/", rules, skipped)
        else:
            yield from _seen(path, entry)


def _seen(path: str, entry: os.DirEntry[str]) -> Iterator[tuple[str, os.stat_result]]:
    # It may be gone since the folder was read.
    with contextlib.suppress(FileNotFoundError):
        yield path, entry.stat(follow_symlinks=False)


def _own_rules(root: Path, below: str) -> pathspec.GitIgnoreSpec | None:
    file = root / below / ".gitignore"
    try:
        if file.is_symlink() or not file.is_file():
            return None
        lines = os.fsdecode(file.read_bytes()).splitlines()
    except OSError as error:
        raise _unreadable(below + ".gitignore", error) from error
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
    """In the nearest file that has a rule about it, the last such rule decides.

    pathspec's own verdict also counts rules about the folders above: what is below a folder that is left out is left
    out. The walk has asked them already, and git lets a later rule bring a folder back.
    """
    for below, spec in reversed(rules):
        for pattern in reversed(spec.patterns):
            if pattern.include is not None and _is_about(pattern, path[len(below) :]):
                return pattern.include
    return False


def _is_about(pattern: pathspec.Pattern, path: str) -> bool:
    """Whether a rule matches this entry itself, and not one of the folders above it."""
    found = pattern.match_file(path)
    if found is None:
        return False
    if _FOLDER in found.match.groupdict():
        return found.match[_FOLDER] is None or found.match.end(_FOLDER) == len(path)
    # ``a/**`` is about what is in the folder, not about the folder.
    return pattern.match_file(path.rstrip("/")) is not None


def _files_below(root: Path, start: str) -> Iterator[tuple[str, os.stat_result]]:
    below = start + "/" if start else ""
    try:
        entries = _scan(root, below)
    except PermissionError as error:
        raise _unreadable(below or os.fspath(root), error) from error
    for entry in entries:
        if entry.name == ".git":
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files_below(root, below + entry.name)
        else:
            yield from _seen(below + entry.name, entry)


def _scan(root: Path, below: str) -> list[os.DirEntry[str]]:
    """Raises `PermissionError`, and `ProjectError` for what else goes wrong."""
    try:
        with os.scandir(f"{root}/{below}") as listing:
            return sorted(listing, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []
    except PermissionError:
        raise
    except OSError as error:
        raise _unreadable(below or os.fspath(root), error) from error


def _unreadable(path: str, error: OSError) -> ProjectError:
    return ProjectError(
        f"{path} cannot be read: {error.strerror}",
        hint="change its mode, or let .gitignore leave it out",
        code="unreadable-file",
    )


def _drop_environments(found: Found) -> Found:
    """Virtual environments by any name: a folder with pyvenv.cfg is one."""
    prefixes = tuple(path[: -len("pyvenv.cfg")] for path in found if path.endswith("/pyvenv.cfg"))
    return (
        {path: seen for path, seen in found.items() if not path.startswith(prefixes)} if prefixes else found
    )
