"""How a run's code gets into its container: as the image has it, mounted, or put over what the image has."""

from __future__ import annotations

import contextlib
import enum
import io
import os
import subprocess
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from runctl._dataclasses import dataclass
from runctl.agent.attempt.attempt import Attempt
from runctl.agent.environments.script import first_line
from runctl.agent.errors import AgentError
from runctl.agent.machine import docker
from runctl.agent.spec import ContainerSpec, RunSpec

COPY_SECONDS = 600.0
FIRST_BYTES = 256


class CodeSource(enum.Enum):
    """Where the code that runs comes from."""

    IMAGE = "image"
    MOUNTED = "mount"
    """The image has nothing at the working folder: the synced project is mounted there."""
    OVERLAID = "over"
    """The image has something there, which must not disappear: the synced project is put over it."""


@dataclass(frozen=True)
class Code:
    """The decision, and the beginning of the script, for its ``#!`` line."""

    source: CodeSource
    head: bytes = b""


def decide_for_image(attempt: Attempt, engine: docker.Engine, container: ContainerSpec, image: str) -> Code:
    """Inspect the image and decide; the log says what, and why. Raises `AgentError` (``image-failed``)."""
    with probe(engine, image) as container_id:
        return decide_for_container(attempt, engine, container, container_id)


def decide_for_container(
    attempt: Attempt, engine: docker.Engine, container: ContainerSpec, container_id: str
) -> Code:
    """The same for a container that exists and does not run yet."""
    spec = attempt.spec
    in_tree = None if spec.is_command else attempt.folder.work / spec.script
    if container.code == "mount":
        return Code(_mount_or_overlay(attempt, engine, container.workdir, container_id), _head(in_tree))
    if in_tree is None:
        return Code(CodeSource.IMAGE)
    path = script_in_image(spec, container)
    content = _file_in(engine, container_id, path)
    if content is None:
        if container.code == "auto" and in_tree.is_file():
            attempt.log.line(f"the image has no {path}: it gets the synced project")
            return Code(_mount_or_overlay(attempt, engine, container.workdir, container_id), _head(in_tree))
        raise AgentError(
            "image-failed",
            f"the image has no {path}",
            f"COPY the project to {container.workdir} in the Dockerfile, or use --dev-mode to put the synced"
            " project there",
        )
    attempt.log.line(f"running {path} as it is in the image")
    if in_tree.is_file() and container.image is not None and in_tree.read_bytes() != content:
        attempt.log.line(f"warning: it differs from the synced {spec.script}; --dev-mode would run that")
    return Code(CodeSource.IMAGE, content[:FIRST_BYTES] + b"\n")


def script_in_image(spec: RunSpec, container: ContainerSpec) -> str:
    """Where the script must be in an image that brings the project along."""
    return str(PurePosixPath(container.workdir) / spec.script)


def _head(path: Path | None) -> bytes:
    return first_line(path) if path is not None and path.is_file() else b""


def _mount_or_overlay(attempt: Attempt, engine: docker.Engine, workdir: str, container_id: str) -> CodeSource:
    if not _has_anything(engine, container_id, workdir):
        attempt.log.line(f"the synced project is mounted at {workdir}")
        return CodeSource.MOUNTED
    attempt.log.line(
        f"the synced project is put over what the image has at {workdir}: where both have a file, the project's"
        " is used; what only the image has stays. What the script writes there goes with the container: results belong"
        " into RUNCTL_OUTPUT_DIR"
    )
    return CodeSource.OVERLAID


@contextlib.contextmanager
def probe(engine: docker.Engine, image: str) -> Iterator[str]:
    """A container of the image that is never started, to look into. Raises `AgentError` (``image-failed``)."""
    created = engine.call("create", "--entrypoint", "/runctl-looks-only", image)
    if created.returncode != 0:
        raise AgentError(
            "image-failed", f"no container can be created from {image}: {docker.text(created.stderr)}"
        )
    name = docker.text(created.stdout)
    try:
        yield name
    finally:
        engine.call("rm", "--force", "--volumes", name)


def _file_in(engine: docker.Engine, container: str, path: str) -> bytes | None:
    """The content of a file, ``None`` if there is none: looked at without running anything."""
    copied = engine.call("cp", "--follow-link", f"{container}:{path}", "-", timeout=120.0)
    if copied.returncode != 0:
        return None
    with tarfile.open(fileobj=io.BytesIO(copied.stdout)) as archive:
        for entry in archive:
            if entry.isfile():
                file = archive.extractfile(entry)
                return file.read() if file is not None else b""
    return None


def _has_anything(engine: docker.Engine, container: str, folder: str) -> bool:
    """Whether there is anything in a folder; no more of it is read than it takes to see one entry."""
    with engine.reading("cp", f"{container}:{folder}", "-") as source:
        try:
            with tarfile.open(fileobj=source, mode="r|") as archive:
                entries = iter(archive)
                next(entries, None)
                return next(entries, None) is not None
        except tarfile.ReadError:
            return False


def put_over(
    attempt: Attempt, engine: docker.Engine, container: str, workdir: str, owner: tuple[int, int]
) -> None:
    """The synced project is in the container, over what its image has. Raises `AgentError` (``image-failed``)."""
    attempt.update(phase="putting the project into the container")
    facts, why = engine.inspect("container", container)
    if facts is None:
        raise AgentError("image-failed", f"the container cannot be inspected: {why or 'it is gone'}")
    mounted = [str(mount.get("Destination")) for mount in facts.get("Mounts") or ()]
    argv = engine.command("cp", "-", f"{container}:/")
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as child:
        assert child.stdin is not None  # noqa: S101 (it is a pipe)
        assert child.stderr is not None  # noqa: S101 (it is a pipe)
        with contextlib.suppress(BrokenPipeError), child.stdin:
            write_project(attempt.folder.work, workdir, owner, child.stdin, time.time(), mounted)
        output = child.stderr.read()
        code = child.wait(COPY_SECONDS)
    if code != 0:
        raise AgentError(
            "image-failed",
            f"the project cannot be put over {workdir} in the image: {docker.text(output)}",
            "a file of the project has the name of a folder in the image, or the other way round?",
        )


def write_project(
    root: Path,
    workdir: str,
    owner: tuple[int, int],
    sink: IO[bytes],
    moment: float,
    mounted: Sequence[str] = (),
) -> None:
    """A tar of the project as it shall be in the container, all of it the script's user's.

    Nothing goes to where something is mounted: a container that does not run yet has its mounts all the same, and
    the project would be written onto a volume. Its times are now: the synced files all carry one, by which Python would
    take a ``.pyc`` of the image for that of a changed file of the same size.
    """

    def as_the_users(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        path = "/" + entry.name
        if any(path == target or path.startswith(target + "/") for target in mounted):
            return None
        entry.uid, entry.gid = owner
        entry.uname = entry.gname = ""
        entry.mtime = moment
        return entry

    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT, dereference=False) as archive:
        archive.add(os.fspath(root), workdir.lstrip("/"), filter=as_the_users)
