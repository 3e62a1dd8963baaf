"""A command's folder on the machine behind SSM: what goes in and comes out, in pieces, and who may see it.

A part of the program in `remote`, which is sent along as source: Python's standard library alone, 3.7 or later.
A spool can be entered by root only, is named by an id that the caller chose, and goes when everything was read.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import re
import time
import zlib
from pathlib import Path

# Each request pays for what is imported: what few need is imported where they do, and `typing` never.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO, Any

# A machine that is a folder of another computer keeps its files below it.
ROOT = Path(os.environ.get("RUNCTL_MACHINE_ROOT") or "/") / "var/tmp"
"""Folders in it are made with a name nobody can guess, for root alone."""
PREFIX = "runctl-ssm-"
ROOM = 22000
STDERR_ROOM = 6000
CHUNK = 1 << 20
DONE = ".done"
STALE_SECONDS = 2 * 86400
URL_SECONDS = 30
"""Of silence, before the staging store counts as one that this machine cannot reach."""
DONE_SECONDS = 3600
"""How long what became of a command is kept for those who ask with its id again: Systems Manager delivers a request
within a minute or not at all, and whoever sends it again does so soon."""


class Refused(Exception):
    """Becomes the answer's ``error``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def spool(request: dict[str, Any]) -> Path:
    """The folder of this id, there or not."""
    name = str(request["id"])
    if not re.match("^[0-9a-f]{32}$", name):
        raise Refused("bad-request", "no such id")
    ROOT.mkdir(parents=True, exist_ok=True)
    return ROOT / (PREFIX + name)


def finish(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """The spool is gone; the same request a second time gets this answer."""
    folder = spool(request)
    done, new = folder.with_name(folder.name + DONE), folder.with_name(folder.name + ".new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(json.dumps(answer))
    new.rename(done)
    remove(folder)
    return answer


def remove(folder: Path) -> None:
    """Nothing of it is left, as far as this user may remove it."""
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def finished(request: dict[str, Any]) -> dict[str, Any] | None:
    """What was answered when this id was done with; ``None`` when it is not."""
    folder = spool(request)
    try:
        answer: dict[str, Any] = json.loads(folder.with_name(folder.name + DONE).read_text())
    except FileNotFoundError:
        return None
    if "dropped" in answer:
        raise Refused("lost", "its caller gave up before this request arrived")
    return answer


def take(path: Path, at: int, room: int) -> tuple[str, int]:
    """Bytes from ``at`` on, as many as fit into ``room`` characters when compressed; and how many."""
    try:
        with path.open("rb") as file:
            file.seek(at)
            raw = file.read(CHUNK)
    except FileNotFoundError:
        raw = b""
    while raw:
        data = base64.b64encode(zlib.compress(raw)).decode()
        if len(data) <= room:
            return data, len(raw)
        raw = raw[: min(len(raw) * room // len(data), len(raw) - 1)]
    return "", 0


def pack(folder: Path, name: str, at: int) -> int:
    """The rest of an output, compressed beside it; returns how many bytes that is."""
    packer = zlib.compressobj(3)
    with (folder / (name + ".z")).open("wb") as sink:
        for piece in pieces(folder / name, at):
            sink.write(packer.compress(piece))
        sink.write(packer.flush())
        return sink.tell()


def pieces(path: Path, at: int = 0) -> Iterator[bytes]:
    """A file from ``at`` on."""
    with path.open("rb") as file:
        file.seek(at)
        piece = file.read(CHUNK)
        while piece:
            yield piece
            piece = file.read(CHUNK)


def cut(request: dict[str, Any]) -> dict[str, Any]:
    """A slice of a packed output."""
    with (spool(request) / (request["name"] + ".z")).open("rb") as file:
        file.seek(request["at"])
        return {"data": base64.b64encode(file.read(request["length"])).decode()}


def upload(request: dict[str, Any]) -> dict[str, Any]:
    """A packed output goes to where the caller can fetch it in one piece."""
    path = spool(request) / (request["name"] + ".z")
    headers = {"Content-Length": str(path.stat().st_size), "Content-Type": "application/octet-stream"}
    with path.open("rb") as file:
        open_url(request["url"], "write to", data=file, headers=headers, method="PUT").close()
    return {}


def open_url(url: str, what: str, **options: Any) -> Any:
    """A presigned URL's answer."""
    import urllib.request  # takes as long as all the rest, and is rarely needed

    if not url.startswith(("https://", "http://")):
        raise Refused("bad-request", "no such URL")
    try:
        return urllib.request.urlopen(urllib.request.Request(url, **options), timeout=URL_SECONDS)  # noqa: S310 - seen above
    except OSError as error:
        raise Refused("staging", f"the machine cannot {what} the staging store: {error}") from None


def append(request: dict[str, Any]) -> dict[str, Any]:
    """One piece of an input, at its place; pieces may arrive in any order and twice."""
    folder = spool(request)
    folder.mkdir(mode=0o700, exist_ok=True)
    fd = os.open(folder / "in.z", os.O_WRONLY | os.O_CREAT, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.seek(request["at"])
        file.write(base64.b64decode(request["data"]))
    return {}


def receive(source: dict[str, Any], folder: Path) -> Path:
    """The input as a file, checked."""
    import hashlib

    digest, size, unpacker = hashlib.sha256(), 0, zlib.decompressobj()
    with open_packed(source, folder) as packed, (folder / "in").open("wb") as sink:
        more = True
        while more:
            piece = packed.read(CHUNK)
            more = bool(piece)
            data = unpacker.decompress(piece) if more else unpacker.flush()
            digest.update(data)
            size += len(data)
            sink.write(data)
    if (size, digest.hexdigest()) != (source["size"], source["sha256"]):
        raise Refused("integrity", f"{size} bytes of input arrived, {source['size']} were sent")
    return folder / "in"


def open_packed(source: dict[str, Any], folder: Path) -> IO[bytes]:
    """Wherever the input is: in the request, in the staging store, or sent before in pieces."""
    if "url" in source:
        answer: IO[bytes] = open_url(source["url"], "read from")
        return answer
    if "data" in source:
        (folder / "in.z").write_bytes(base64.b64decode(source["data"]))
    return (folder / "in.z").open("rb")


def held(lock: int) -> bool:
    """Whether somebody else has the lock; if not, it is ours now."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def is_running(folder: Path) -> bool:
    """Whether the spool's supervisor lives."""
    try:
        lock = os.open(folder / "lock", os.O_RDWR)
    except OSError:
        return False
    try:
        return held(lock)
    finally:
        os.close(lock)


def sweep() -> None:
    """Spools that nobody came back for are gone, and answers that nobody asks for again."""
    for path in ROOT.glob(PREFIX + "*"):
        with contextlib.suppress(OSError):
            facts = path.lstat()
            age = time.time() - facts.st_mtime
            if facts.st_uid != os.getuid():
                continue
            if path.suffix:
                if age > DONE_SECONDS:
                    path.unlink()
            elif age > STALE_SECONDS and not is_running(path):
                remove(path)
