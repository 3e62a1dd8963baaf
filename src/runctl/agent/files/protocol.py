"""Files and folders of the machine, listed, read and written in pieces, so that a broken copy can go on.

A file that arrives is written beside its place, under a name made of its checksum, and takes its place when it is
whole and its checksum is right. Below the folder that was named, nothing is written through a link.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from runctl.agent.encoding import dumps
from runctl.agent.errors import AgentError
from runctl.agent.machine.root import named_path

BLOCK = 1 << 20
FLUSHED_BYTES = 1 << 20
"""Larger files are on the disk before they take their place; smaller ones with all others, at the end."""
PART = ".runctl-{}.part"


def files(request: Mapping[str, Any]) -> dict[str, Any]:
    """What ``path`` is, and everything below it: ``kind`` (``file``, ``folder``, ``missing``), ``path``, ``entries``.

    An entry is path, type (``f``, ``d``, ``l``), mode, size, mtime in ns and, with ``hash``, a file's SHA-256; a link's
    target. ``skipped`` are those that are none of the three, and links that lead out of the folder. With ``shallow`` a
    folder has no entries. Raises `AgentError` (``cannot-read``).
    """
    root = named_path(request)
    digest = bool(request.get("hash"))
    skipped: list[str] = []
    try:
        facts = root.stat()
        if stat.S_ISDIR(facts.st_mode):
            entries = [] if request.get("shallow") else list(_walk(root, "", digest, skipped))
            return {"kind": "folder", "path": str(root), "entries": entries, "skipped": skipped}
        if not stat.S_ISREG(facts.st_mode):
            raise AgentError("cannot-read", f"{root} is neither a file nor a folder")
        entry = _entry(root, root.name, facts, digest)
    except (FileNotFoundError, NotADirectoryError):
        return {"kind": "missing", "path": str(root), "entries": [], "skipped": []}
    except OSError as error:
        raise _cannot("read", error.filename or root, error) from error
    return {"kind": "file", "path": str(root), "entries": [entry], "skipped": []}


def fetch(request: Mapping[str, Any], sink: BinaryIO) -> int:
    """Write each of ``pieces`` (``path`` below ``root``, ``offset``, ``length``) to ``sink``: a JSON line that repeats
    the piece with the length that there is, then so many bytes. The last line has ``done``."""
    root = named_path(request)
    for piece in _pieces(request):
        path = _below(root, piece["path"]) if piece["path"] else root
        left, offset = piece["length"], piece["offset"]
        try:
            with path.open("rb") as file:
                left = max(0, min(left, os.fstat(file.fileno()).st_size - offset))
                sink.write(_line({**piece, "length": left}))
                file.seek(offset)
                while left:
                    data = file.read(min(BLOCK, left))
                    # Shorter than a moment ago: the checksum will say so, the stream stays in step.
                    data = data or b"\0" * min(BLOCK, left)
                    sink.write(data)
                    left -= len(data)
        except OSError as error:
            raise _cannot("read", path, error) from error
    sink.write(_line({"done": True}))
    sink.flush()
    return 0


def have(request: Mapping[str, Any]) -> dict[str, Any]:
    """For each of ``files`` (path below ``root``, size, SHA-256) how many of its bytes are there: all of them where the
    file is the same, those of an unfinished copy of the same file, or 0. ``kind`` is what ``root`` is now."""
    root = named_path(request)
    found = []
    for path, size, sha in _rows(request, "files", 3):
        found.append(_bytes_there(_below(root, path), _number(size), str(sha)))
    kind = "folder" if root.is_dir() else "file" if root.exists() else "missing"
    return {"kind": kind, "path": str(root), "have": found}


def store(request: Mapping[str, Any], source: BinaryIO) -> dict[str, Any]:
    """Take the bytes of ``pieces``, which follow each other in ``source``; a file whose last bytes these are is checked
    and takes its place. A piece has ``path``, ``offset``, ``length``, and the file's ``size``, ``sha256``, ``mode``
    and ``mtime_ns``. Raises `AgentError`: ``cannot-write``, ``disk-full``, ``damaged``."""
    root = named_path(request)
    stored = []
    for piece in _pieces(request):
        target = _below(root, piece["path"])
        try:
            _make_parents(root, target)
            if _store_piece(target, piece, source):
                stored.append(piece["path"])
        except OSError as error:
            raise _cannot("write", target, error) from error
    return {"stored": stored}


def finish(request: Mapping[str, Any]) -> dict[str, Any]:
    """Make the ``folders`` (path, mode) and ``links`` (path, target) below ``root``; all of it is on the disk."""
    root = named_path(request)
    try:
        # The innermost first: a folder that may not be written is closed when all below it is there.
        for path, mode in sorted(_rows(request, "folders", 2), key=lambda row: str(row[0]), reverse=True):
            folder = _below(root, path)
            _make_parents(root, folder / "x")
            folder.chmod((_number(mode) & 0o777) | 0o700)
        for path, target in _rows(request, "links", 2):
            link = _below(root, path)
            if not stays_inside(path, str(target)):
                raise AgentError("bad-request", f"the link {path} leads out of the folder")
            _make_parents(root, link)
            partial = link.with_name(PART.format(hashlib.sha256(os.fsencode(path)).hexdigest()[:24]))
            with contextlib.suppress(FileNotFoundError):
                partial.unlink()
            partial.symlink_to(target)
            partial.replace(link)
        os.sync()
    except OSError as error:
        raise _cannot("write", error.filename or root, error) from error
    return {}


def stays_inside(link: str, target: str) -> bool:
    """Whether a link below a folder leads to something below it, whatever other such links are there. Pure.

    What ``..`` behind a name means depends on what that name is: behind a link it is the folder above the link's
    target. So it may only come first, where it counts from the folder of the link itself, which no link leads to.
    """
    parts = PurePosixPath(target).parts
    up = sum(part == ".." for part in parts)
    return not target.startswith("/") and up < len(PurePosixPath(link).parts) and ".." not in parts[up:]


def part_of(target: Path, sha: str) -> Path:
    """Where a file is while it arrives: the same content and the same place have the same name."""
    identity = f"{sha}/{target.name}"
    return target.with_name(PART.format(hashlib.sha256(os.fsencode(identity)).hexdigest()[:24]))


def sha256_of(path: Path) -> str:
    """Of the whole file, in hex."""
    checksum = hashlib.sha256()
    with path.open("rb") as file:
        while True:
            data = file.read(BLOCK)
            if not data:
                return checksum.hexdigest()
            checksum.update(data)


def _walk(folder: Path, below: str, digest: bool, skipped: list[str]) -> Iterator[list[Any]]:
    """A script may go on writing: what is gone when its turn comes was not there."""
    for found in sorted(os.scandir(folder), key=lambda entry: entry.name):
        with contextlib.suppress(FileNotFoundError):
            yield from _found(found, below + found.name, digest, skipped)


def _found(found: os.DirEntry[str], path: str, digest: bool, skipped: list[str]) -> Iterator[list[Any]]:
    facts = found.stat(follow_symlinks=False)
    if stat.S_ISLNK(facts.st_mode):
        if not stays_inside(path, os.fspath(Path(found.path).readlink())):
            skipped.append(path)
            return
        yield [path, "l", 0o777, 0, facts.st_mtime_ns, os.fspath(Path(found.path).readlink())]
    elif stat.S_ISDIR(facts.st_mode):
        yield [path, "d", stat.S_IMODE(facts.st_mode) & 0o777, 0, facts.st_mtime_ns, ""]
        yield from _walk(Path(found.path), path + "/", digest, skipped)
    elif stat.S_ISREG(facts.st_mode):
        if not (found.name.startswith(".runctl-") and found.name.endswith(".part")):
            yield _entry(Path(found.path), path, facts, digest)
    else:
        skipped.append(path)


def _entry(path: Path, name: str, facts: os.stat_result, digest: bool) -> list[Any]:
    sha = sha256_of(path) if digest else ""
    return [name, "f", stat.S_IMODE(facts.st_mode) & 0o777, facts.st_size, facts.st_mtime_ns, sha]


def _bytes_there(target: Path, size: int, sha: str) -> int:
    try:
        facts = os.lstat(target)
        if stat.S_ISREG(facts.st_mode) and facts.st_size == size and sha256_of(target) == sha:
            return size
    except OSError:
        pass
    try:
        part = os.lstat(part_of(target, sha))
    except OSError:
        return 0
    # One that is complete but never took its place ends once more from its last byte.
    return min(part.st_size, max(size - 1, 0)) if stat.S_ISREG(part.st_mode) else 0


def _store_piece(target: Path, piece: Mapping[str, Any], source: BinaryIO) -> bool:
    part = part_of(target, piece["sha256"])
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(part, flags, 0o600)
    try:
        if os.fstat(fd).st_size < piece["offset"]:
            raise AgentError("damaged", f"the unfinished copy of {target} was truncated")
        _take(source, fd, piece["offset"], piece["length"])
        if piece["offset"] + piece["length"] < piece["size"]:
            return False
        os.ftruncate(fd, piece["size"])
        if sha256_of(part) != piece["sha256"]:
            part.unlink()
            raise AgentError("damaged", f"{target} arrived damaged: its checksum does not match")
        os.fchmod(fd, piece["mode"] & 0o777)
        os.utime(fd, ns=(piece["mtime_ns"], piece["mtime_ns"]))
        if piece["size"] >= FLUSHED_BYTES:
            os.fsync(fd)
    finally:
        os.close(fd)
    if target.is_dir() and not target.is_symlink():
        raise IsADirectoryError(errno.EISDIR, "a folder is in its place", str(target))
    part.replace(target)
    return True


def _take(source: BinaryIO, fd: int, offset: int, length: int) -> None:
    left = length
    while left:
        data = source.read(min(BLOCK, left))
        if not data:
            raise AgentError("damaged", "the copy broke off")
        view = memoryview(data)
        while view:
            written = os.pwrite(fd, view, offset)
            offset, view = offset + written, view[written:]
        left -= len(data)


def _make_parents(root: Path, target: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    path = root
    for part in target.relative_to(root).parts[:-1]:
        path = path / part
        if path.is_symlink():
            raise NotADirectoryError(errno.ENOTDIR, "a link is in the way", str(path))
        path.mkdir(exist_ok=True)


def _below(root: Path, path: Any) -> Path:
    relative = PurePosixPath(path) if isinstance(path, str) else PurePosixPath("/")
    if relative.is_absolute() or ".." in relative.parts or not relative.parts or "\0" in str(relative):
        raise AgentError("bad-request", f"{path!r} is not a path below the folder")
    return root / relative


def _rows(request: Mapping[str, Any], name: str, width: int) -> list[list[Any]]:
    rows = request.get(name) or []
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == width for row in rows):
        raise AgentError("bad-request", f"{name} cannot be read")
    return rows


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise AgentError("bad-request", f"{value!r} is not a number")
    return value


def _pieces(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    pieces = request.get("pieces")
    if not isinstance(pieces, list) or not all(_is_piece(piece) for piece in pieces):
        raise AgentError("bad-request", "the pieces cannot be read")
    return pieces


def _is_piece(piece: Any) -> bool:
    if not isinstance(piece, dict) or not all(isinstance(piece.get(n, ""), str) for n in ("path", "sha256")):
        return False
    counts = [piece.get(name, 0) for name in ("offset", "length", "size", "mode")]
    # A file may be older than 1970.
    numbers = [*counts, piece.get("mtime_ns", 0)]
    are_whole = all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)
    return are_whole and min(counts) >= 0


def _line(value: Mapping[str, Any]) -> bytes:
    return dumps(value).encode() + b"\n"


def _cannot(do: str, path: Any, error: OSError, hint: str | None = None) -> AgentError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return AgentError(
            "disk-full", f"there is no room for {path}", "free some space, and copy again: it continues"
        )
    why = error.strerror or str(error)
    return AgentError(f"cannot-{do}", f"cannot {do} {path}: {why}", hint or "")
