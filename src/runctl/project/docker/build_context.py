"""What docker would send of a project to build an image: every path after ``.dockerignore``, with mode and content."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.agent.trees.manifest import Manifest
from runctl.core.errors import ProjectError
from runctl.project.docker.dockerignore import DockerIgnore, read_ignore
from runctl.project.manifest import HashCache, build_manifest
from runctl.project.selection import Selection


@dataclass(frozen=True)
class BuildContext:
    """The context of a build, as the engine would see it."""

    root: Path
    dockerfile: str
    """From the root, with forward slashes."""
    dockerfile_text: str
    entries: Mapping[str, str]
    """By path from the root: ``f MODE SHA256``, ``l TARGET`` or ``d MODE``. Owner and times are not in it: docker
    sets the owner to root and compares no times."""
    total_bytes: int
    ignored_by: str | None
    """The ignore file that was used, if there was one."""

    @property
    def files(self) -> int:
        """How many files and links there are."""
        return sum(1 for entry in self.entries.values() if not entry.startswith("d "))


def read_context(root: Path, dockerfile: str, cache: HashCache | None = None) -> BuildContext:
    """Look at the whole context and hash what has changed since the last time.

    Raises `ProjectError` for what cannot be read.
    """
    ignore = read_ignore(root, dockerfile)
    found = _scan(root, ignore)
    regular = {path: seen for path, seen in found.items() if stat.S_ISREG(seen.st_mode)}
    manifest = build_manifest(Selection(root, regular, "docker's rules"), cache)
    entries: dict[str, str] = {}
    for path, seen in found.items():
        mode = f"{stat.S_IMODE(seen.st_mode):04o}"
        if stat.S_ISDIR(seen.st_mode):
            entries[path] = f"d {mode}"
        elif stat.S_ISLNK(seen.st_mode):
            entries[path] = f"l {(root / path).readlink()}"
        elif path in manifest.entries:
            entries[path] = f"f {mode} {manifest.entries[path][3]}"
    return BuildContext(
        root,
        dockerfile,
        _text_of(root, dockerfile),
        entries,
        sum(seen.st_size for seen in regular.values()),
        ignore.path,
    )


def context_of_manifest(root: Path, dockerfile: str, manifest: Manifest) -> BuildContext:
    """The context of a build on a machine, which has the synced tree and nothing else.

    The machine writes files as 0644 or 0755 and folders as 0755, so that these are the modes there.
    """
    ignore = read_ignore(root, dockerfile)
    entries: dict[str, str] = {}
    total = 0
    for path, entry in manifest.entries.items():
        if ignore.leaves_out(path):
            continue
        if entry[0] == "l":
            entries[path] = f"l {entry[1]}"
        else:
            entries[path] = f"f {'0755' if entry[1] else '0644'} {entry[3]}"
            total += entry[2]
        for above in _folders_above(path):
            entries[above] = "d 0755"
    return BuildContext(root, dockerfile, _text_of(root, dockerfile), entries, total, ignore.path)


def _text_of(root: Path, dockerfile: str) -> str:
    try:
        return (root / dockerfile).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(f"{dockerfile} cannot be read: {error}") from error


def _scan(root: Path, ignore: DockerIgnore) -> dict[str, os.stat_result]:
    """Files, links and folders; a folder that is left out is in it for the sake of what is brought back below."""
    found: dict[str, os.stat_result] = {}
    folders: dict[str, os.stat_result] = {}
    stack = [""]
    while stack:
        below = stack.pop()
        for entry in _entries(root, below):
            path = below + entry.name
            try:
                seen = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            out = ignore.leaves_out(path)
            if stat.S_ISDIR(seen.st_mode):
                folders[path] = seen
                if not out:
                    found[path] = seen
                if not out or ignore.brings_back:
                    stack.append(path + "/")
            elif not out and (stat.S_ISREG(seen.st_mode) or stat.S_ISLNK(seen.st_mode)):
                found[path] = seen
    for path in list(found):
        for above in _folders_above(path):
            found.setdefault(above, folders[above])
    return found


def _entries(root: Path, below: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(f"{root}/{below}") as listing:
            return list(listing)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ProjectError(
            f"{below or root} cannot be read: {error.strerror}",
            hint="change its mode, or put it into .dockerignore",
            code="unreadable-file",
        ) from error


def _folders_above(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]
