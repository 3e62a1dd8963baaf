"""The project's folder of an image belongs to the run's user, as it does on the host and in dev-mode.

``COPY`` makes files root's, and a run is not root: a script could not make ``lightning_logs/`` beside itself. Who
owns a file of an image can only be changed by writing it into the container, so files are rewritten up to a size.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import IO

from runctl.agent.attempt.attempt import Attempt
from runctl.agent.containers.container_code import probe
from runctl.agent.errors import AgentError
from runctl.agent.machine import docker

REWRITTEN_BYTES = 256 << 20
"""Of files. Beyond it only folders are given to the user: new files can be written, those of the image only read."""
READ_BYTES = 4 << 30
"""Of the image's folder: reading all of a very large one would take longer than it is worth."""
SHOWN = 5


def give_to_user(attempt: Attempt, engine: docker.Engine, container: str, user: str, workdir: str) -> None:
    """The folder ``workdir`` of a container that has not started can be written by ``user``.

    Nothing happens where it can be already, where the user is not a number (the image knows its own users), and where
    the whole file system is the folder. Raises `AgentError` (``image-failed``).
    """
    owner = numeric(user)
    folder = PurePosixPath(workdir)
    if owner is None or owner[0] == 0 or folder == folder.parent:
        return
    facts, _ = engine.inspect("container", container)
    if facts is None or (facts.get("HostConfig") or {}).get("ReadonlyRootfs"):
        return
    mounted = [str(mount.get("Destination")) for mount in facts.get("Mounts") or ()]
    if any(str(folder) == target or str(folder).startswith(target.rstrip("/") + "/") for target in mounted):
        return
    # Not from the container itself: its mounts are there already, and a data set would be read with the folder.
    with (
        probe(engine, str(facts["Image"])) as source,
        tempfile.TemporaryFile(dir=str(attempt.folder.path)) as sink,
    ):
        with engine.reading("cp", f"{source}:{folder}", "-") as given:
            complete = _read(given, sink, owner, folder, mounted)
        if complete is None:
            return
        sink.seek(0)
        done = subprocess.run(
            engine.command("cp", "-", f"{container}:{folder.parent}"),
            stdin=sink,
            capture_output=True,
            check=False,
        )
    if done.returncode != 0:
        raise AgentError(
            "image-failed",
            f"{folder} of the image cannot be made writable for the run: {docker.text(done.stderr)}",
            "--user '' runs as the image's own user",
        )
    if not complete:
        attempt.log.line(
            f"note: {folder} is large: the script can write new files there, and only read those of the image"
        )


def numeric(user: str) -> tuple[int, int] | None:
    """``uid:gid`` in numbers; ``None`` for anything else."""
    uid, colon, gid = user.partition(":")
    return (int(uid), int(gid)) if colon and uid.isdigit() and gid.isdigit() else None


def _read(
    source: IO[bytes],
    sink: IO[bytes],
    owner: tuple[int, int],
    folder: PurePosixPath,
    mounted: Sequence[str],
) -> bool | None:
    """``sink`` has what is to be written into the container. ``True``: all of the folder, ``False``: its folders
    only, ``None``: there is nothing to do."""
    with (
        contextlib.suppress(tarfile.ReadError),
        tarfile.open(fileobj=source, mode="r|") as archive,
    ):
        return rewrite(archive, sink, owner, folder, mounted)
    return None


def rewrite(
    source: tarfile.TarFile,
    sink: IO[bytes],
    owner: tuple[int, int],
    folder: PurePosixPath,
    mounted: Sequence[str] = (),
    *,
    rewritten_bytes: int = REWRITTEN_BYTES,
    read_bytes: int = READ_BYTES,
) -> bool | None:
    """The same folder, owned by ``owner``; see `_read` for what is returned.

    What lies below a mount is left out: it would be written onto what is mounted.
    """
    folders: list[tarfile.TarInfo] = []
    files = read = 0
    complete = True
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in source:
            if not folders and (not entry.isdir() or (entry.uid, entry.gid) == owner):
                return None
            read += entry.size
            if read > read_bytes:
                complete = False
                break
            path = str(folder.parent / entry.name)
            if any(path == target or path.startswith(target.rstrip("/") + "/") for target in mounted):
                continue
            owned = _owned(entry, owner)
            if entry.isdir():
                folders.append(owned)
            elif entry.isfile() and complete:
                files += entry.size
                complete = files <= rewritten_bytes
            if complete and (entry.isfile() or entry.isdir()):
                archive.addfile(owned, source.extractfile(entry) if entry.isfile() else None)
    if not complete:
        _only(folders, sink)
    return complete if folders else None


def _owned(entry: tarfile.TarInfo, owner: tuple[int, int]) -> tarfile.TarInfo:
    entry.uid, entry.gid = owner
    entry.uname = entry.gname = ""
    # No file is to run with its owner's rights because its owner has changed.
    entry.mode = (entry.mode & 0o777) | (0o700 if entry.isdir() else 0o600)
    entry.pax_headers = {}
    return entry


def _only(folders: Iterable[tarfile.TarInfo], sink: IO[bytes]) -> None:
    sink.seek(0)
    sink.truncate()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for folder in folders:
            archive.addfile(folder)


def report_written(attempt: Attempt, engine: docker.Engine, container: str, workdir: str) -> None:
    """The log names what a run has written into the project's folder of its container: it goes with the container."""
    done = engine.call("diff", container)
    facts, _ = engine.inspect("container", container)
    mounted = [str(mount.get("Destination")) for mount in (facts or {}).get("Mounts") or ()]
    found = written(docker.text(done.stdout).splitlines(), workdir, mounted) if done.returncode == 0 else []
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        attempt.log.line(
            f"note: what the script wrote to {workdir} goes with the container:"
            f" {', '.join(map(json.dumps, found[:SHOWN]))}{more}. Results belong into RUNCTL_OUTPUT_DIR"
        )


def written(changes: Iterable[str], workdir: str, mounted: Sequence[str] = ()) -> list[str]:
    """What ``docker diff`` calls new in the working folder, from there: a new folder without what is in it, no mount
    point, and nothing that Python has compiled."""
    prefix = workdir.rstrip("/") + "/"
    new = {
        line[2 + len(prefix) :]
        for line in changes
        if line.startswith("A " + prefix)
        and not any(m == line[2:] or m.startswith(line[2:] + "/") for m in mounted)
    }
    return sorted(
        path
        for path in new
        if "__pycache__" not in path.split("/")
        and not any(str(parent) in new for parent in PurePosixPath(path).parents)
    )
