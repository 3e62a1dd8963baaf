"""A command's folder on the machine behind SSM: what goes in and comes out, in pieces, and who may see it.

A part of the program in `ssm_remote`, which is sent along as source: Python's standard library alone, 3.7 or later.
A spool can be entered by root only, is named by an id that the caller chose, and goes when everything was read.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO, Any

ROOT = Path("/var/tmp")  # noqa: S108 - folders in it are made with a name nobody can guess, for root alone
PREFIX = "runctl-ssm-"
ROOM = 22000
STDERR_ROOM = 6000
CHUNK = 1 << 20
STALE_SECONDS = 2 * 86400


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
    return ROOT / (PREFIX + name)


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
        return urllib.request.urlopen(urllib.request.Request(url, **options), timeout=600)  # noqa: S310 - seen above
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
    """Spools that nobody came back for are gone."""
    for folder in ROOT.glob(PREFIX + "*"):
        with contextlib.suppress(OSError):
            facts = folder.lstat()
            old = time.time() - facts.st_mtime > STALE_SECONDS
            if old and facts.st_uid == os.getuid() and not is_running(folder):
                shutil.rmtree(folder, ignore_errors=True)
