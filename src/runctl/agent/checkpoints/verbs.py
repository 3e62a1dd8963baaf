"""A folder's checkpoints as the command line asks for them: listed, read to their ends, put in place, removed."""

from __future__ import annotations

import os
import shutil
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from runctl.agent.checkpoints import choosing
from runctl.agent.checkpoints.choosing import Checkpoint
from runctl.agent.checkpoints.folders import MANIFESTS, UNREADABLE, incomplete, listed_checksums, sha256_of
from runctl.agent.checkpoints.formats import QUIET_SECONDS
from runctl.agent.checkpoints.layout import is_inside
from runctl.agent.errors import AgentError
from runctl.agent.machine.root import named_path

_QUIET_NS = int(QUIET_SECONDS * 1e9)
_LATER_NS = 1_000_000
"""So much later than the newest one there is newer on every file system that tells them apart."""


def checkpoints(request: Mapping[str, Any]) -> dict[str, Any]:
    """What may be a checkpoint at ``path``, newest first: ``name``, ``step``, ``saved_at``, ``why_not``, ``compared``
    and ``files`` (path, size, mode, mtime in ns, SHA-256). ``path`` of the answer is what names and paths count from.

    With ``read`` every byte is read: files have their SHA-256, and archives are compared with their own checksums;
    ``compared`` says that all of it was compared with some.
    ``names`` leaves out all others. ``kind`` is ``folder``, ``file`` or ``missing``.
    """
    root = named_path(request)
    names = request.get("names")
    read = bool(request.get("read"))
    try:
        kind = "folder" if root.is_dir() else "file" if root.is_file() else "missing"
        found = choosing.by_age(choosing.candidates(root)) if kind != "missing" else []
        # What is a checkpoint itself has its own name, from the folder above.
        base = root.parent if any(each.path == root for each in found) else root
        listed = [
            _described(base, each, files, read)
            for each, files in _grouped(found)
            if not names or _name(base, each.path) in names
        ]
    except OSError as error:
        why = error.strerror or str(error)
        raise AgentError("cannot-read", f"cannot read {error.filename or root}: {why}") from error
    return {"kind": kind, "path": str(base), "checkpoints": listed}


def place(request: Mapping[str, Any]) -> dict[str, Any]:
    """What is in the folder ``arriving`` below ``path`` is in its place, and is the newest checkpoint there.

    ``name`` is its file or folder. One of the same name is replaced. It is whole, so that it counts at once: its time
    of change is one at which files that have no end of their own are quiet.
    """
    root = named_path(request)
    name = _inside(request.get("name"))
    arriving = root / _inside(request.get("arriving"))
    try:
        newest = max((each.changed_ns for each in choosing.candidates(root)), default=0)
        changed = max(time.time_ns() - _QUIET_NS, newest + _LATER_NS)
        for above, _, files in os.walk(arriving):
            for file in files:
                os.utime(Path(above) / file, ns=(changed, changed))
        main = arriving / name
        # What lies beside a file goes first: whoever sees the file sees all that belongs to it.
        for path in sorted(arriving.rglob("*")):
            if path.is_file() and path != main and not (main.is_dir() and main in path.parents):
                _move(path, root / path.relative_to(arriving))
        _move(main, root / name)
        shutil.rmtree(arriving)
        os.sync()
        left = changed + _QUIET_NS - time.time_ns()
        if 0 < left <= _QUIET_NS:
            # Another one was saved a moment ago, and this is newer.
            time.sleep(left / 1e9)
    except OSError as error:
        why = error.strerror or str(error)
        raise AgentError("cannot-write", f"cannot put {root / name} in place: {why}") from error
    return {"path": str(root / name)}


def remove(request: Mapping[str, Any]) -> dict[str, Any]:
    """Each of ``checkpoints`` (``name``, and its ``files`` where it is not a folder) is gone from below ``path``."""
    root = named_path(request)
    removed = []
    try:
        for each in request.get("checkpoints") or ():
            path = root / _inside(each.get("name"))
            if path.is_dir():
                # By its new name it is not a checkpoint, however far the removal gets.
                aside = path.with_name(f".runctl-removed-{path.name}")
                path.rename(aside)
                shutil.rmtree(aside)
            else:
                for file in [path, *(root / _inside(name) for name in each.get("files") or ())]:
                    file.unlink(missing_ok=True)
            removed.append(str(path))
    except OSError as error:
        why = error.strerror or str(error)
        raise AgentError("cannot-write", f"cannot remove {error.filename or root}: {why}") from error
    return {"removed": removed}


def _grouped(found: list[Checkpoint]) -> list[tuple[Checkpoint, list[Path]]]:
    """Files that were saved together are one checkpoint, by the name of the one that was written last."""
    grouped: list[tuple[Checkpoint, list[Path]]] = []
    taken: set[Path] = set()
    for checkpoint in found:
        if checkpoint.path in taken:
            continue
        files = choosing.belonging(checkpoint.path, found)
        if not checkpoint.path.is_dir():
            taken.update(path for path in files if not choosing.is_note(path.name))
        grouped.append((checkpoint, files))
    return grouped


def _described(base: Path, checkpoint: Checkpoint, paths: list[Path], read: bool) -> dict[str, Any]:
    now = time.time()
    why_not = incomplete(checkpoint.path, now)
    files = []
    for path in paths:
        if not checkpoint.path.is_dir() and not choosing.is_note(path.name):
            why = incomplete(path, now)
            why_not = why_not or (f"{path.name}: {why}" if why else "")
        facts = path.stat()
        checksum = sha256_of(path) if read else ""
        files.append([_name(base, path), facts.st_size, facts.st_mode & 0o777, facts.st_mtime_ns, checksum])
        if read and not why_not:
            why = _broken_archive(path)
            why_not = f"{path.name}: {why}" if why else ""
    return {
        "name": _name(base, checkpoint.path),
        "step": choosing.step_of(checkpoint.path),
        "saved_at": checkpoint.changed_ns / 1e9,
        "why_not": why_not,
        "compared": read and not why_not and _is_compared(checkpoint, paths),
        "files": files,
    }


def _is_compared(checkpoint: Checkpoint, paths: list[Path]) -> bool:
    """Whether something says what the bytes of a checkpoint that was read must be: an archive's own checksums, or a
    list of them in its folder. Notes need none where there is anything else."""
    listed: set[Path] = set()
    if checkpoint.path.is_dir():
        for name in MANIFESTS:
            manifest = checkpoint.path / name
            if manifest.is_file():
                listed |= {manifest, *(checkpoint.path / file for file in listed_checksums(manifest))}
    weights = [path for path in paths if not choosing.is_note(path.name)] or paths
    return all(path in listed or _is_archive(path) for path in weights)


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _broken_archive(path: Path) -> str:
    """Which member of a zip archive has another CRC-32 than its directory says."""
    if not _is_archive(path):
        return ""
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.testzip()
    except (zipfile.BadZipFile, *UNREADABLE) as error:
        return str(error)
    return "" if member is None else f"{member} does not match the CRC-32 in its zip directory"


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        aside = target.with_name(f".runctl-removed-{target.name}")
        target.rename(aside)
        source.rename(target)
        shutil.rmtree(aside)
    else:
        source.replace(target)


def _name(base: Path, path: Path) -> str:
    return path.relative_to(base).as_posix()


def _inside(name: Any) -> PurePosixPath:
    if not isinstance(name, str) or not is_inside(name):
        raise AgentError("bad-request", f"{name!r} is not a path below the folder")
    return PurePosixPath(name)
