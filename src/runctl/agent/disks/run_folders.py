"""Where a run keeps what must outlive it, and what the script is told about it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from runctl._dataclasses import dataclass
from runctl.agent.deadline_spec import PROGRESS_FILE
from runctl.agent.disks import disks
from runctl.agent.disks.mount_checks import holding
from runctl.agent.errors import AgentError
from runctl.agent.machine.root import as_root, login_user, on_machine, root_available
from runctl.agent.records import AttemptFolder
from runctl.agent.spec import MountSpec, RunSpec, SavedFolder

LINUX = sys.platform.startswith("linux")
FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
"""To open a folder that this user may perhaps not read."""

CONTAINER_CHECKPOINTS = "/runctl/checkpoints"
CONTAINER_OUTPUT = "/runctl/output"
CONTAINER_HOME = "/runctl/home"
CONTAINER_IO = "/runctl/io"


@dataclass(frozen=True)
class RunFolders:
    """Each folder twice: where it is on the machine, and where the script sees it."""

    checkpoints: Path
    output: Path
    checkpoints_seen: str
    output_seen: str
    data_seen: str
    on_volume: MountSpec | None
    """The mount that holds checkpoints and output; ``None`` if they are in the run's own folder."""


def run_folders(spec: RunSpec, folder: AttemptFolder) -> RunFolders:
    """Checkpoints and output are on the volume that the spec names, for all attempts of the run together."""
    volume = _saves(spec)
    container = spec.container
    first = spec.data_target or (spec.mounts[0].target if spec.mounts else None)
    if container is not None:
        data = first or container.workdir
    else:
        data = str(on_machine(first)) if first else str(folder.work)
    if volume is not None:
        run = on_machine(volume.source) / "runs" / spec.run_id
        target = PurePosixPath(volume.target if container is not None else str(on_machine(volume.target)))
        seen = target / "runs" / spec.run_id
        return RunFolders(
            run / "checkpoints", run / "output", str(seen / "checkpoints"), str(seen / "output"), data, volume
        )
    run = folder.path.parent
    if container is not None:
        return RunFolders(
            run / "checkpoints", run / "output", CONTAINER_CHECKPOINTS, CONTAINER_OUTPUT, data, None
        )
    return RunFolders(
        run / "checkpoints", run / "output", str(run / "checkpoints"), str(run / "output"), data, None
    )


def make(folders: RunFolders) -> None:
    """Both folders exist and belong to the login user. Raises `AgentError` (``cannot-write``)."""
    user = login_user()
    for path in (folders.checkpoints, folders.output):
        links = [
            step for step in (path, *path.parents) if _top(folders) in step.parents and step.is_symlink()
        ]
        if links:
            raise _no_folder(path, f"{links[0]} is a link")
        try:
            path.mkdir(parents=True, exist_ok=True)
            if os.access(path, os.W_OK | os.X_OK):
                continue
            reason = "it belongs to another user"
        except PermissionError as error:
            reason = str(error)
        except OSError as error:
            raise AgentError("cannot-write", f"cannot create {path}: {error}") from error
        if not root_available():
            raise AgentError("cannot-write", f"cannot create {path}: {reason}", "give it to " + user.name)
        # -o and -g apply to the last folder alone; the run's own folder above it, and the one of all runs, are
        # ours as well.
        above = [path.parent.parent] if not path.parent.parent.exists() else []
        for folder in (*above, path.parent, path):
            owner = ["-o", str(user.uid), "-g", str(user.gid)]
            done = subprocess.run(
                as_root(["install", "-d", *owner, str(folder)]), capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise AgentError("cannot-write", f"cannot create {folder}: {done.stderr.strip()}")


def _saves(spec: RunSpec) -> MountSpec | None:
    writable = [mount for mount in spec.mounts if mount.volume_id and not mount.read_only]
    named = [mount for mount in writable if mount.target == spec.save_target]
    return next(iter([*named, *writable]), None)


def saved_folder(spec: RunSpec) -> SavedFolder | None:
    """Where the run's folder is on its volume, wherever that is mounted; ``None`` without a volume."""
    volume = _saves(spec)
    if volume is None or volume.volume_id is None:
        return None
    holder = holding(volume.source, disks().mounts())
    inside = PurePosixPath("/")
    if holder is not None and holder.volume_id == volume.volume_id:
        inside = inside / PurePosixPath(volume.source).relative_to(holder.mount_point)
    return SavedFolder(volume.volume_id, str((inside / "runs" / spec.run_id).relative_to("/")))


def make_inner_targets(mounts: Sequence[MountSpec], work: Path | None = None, workdir: str = "") -> None:
    """Where a target lies inside another mount, or inside the project that is mounted at ``workdir`` from ``work``,
    its folder is there and belongs to the login user; a container's engine would make it root's.

    Raises `AgentError` (``cannot-mount``).
    """
    for inner in mounts:
        around = [m for m in mounts if inner.target.startswith(m.target + "/")]
        if around:
            outer = max(around, key=lambda mount: len(mount.target))
            top, below = on_machine(outer.source), inner.target[len(outer.target) + 1 :]
            if outer.read_only and not (top / below).is_dir():
                raise AgentError(
                    "cannot-mount",
                    f"{inner.source} cannot be mounted at {inner.target}: {outer.source} is read-only there and has"
                    f" no folder {below}",
                    "choose another target",
                )
        elif work is not None and inner.target.startswith(workdir + "/"):
            top, below = work, inner.target[len(workdir) + 1 :]
        else:
            continue
        _make_inner(top, below, inner)


def _make_inner(top: Path, below: str, inner: MountSpec) -> None:
    user, path = login_user(), top
    for part in PurePosixPath(below).parts:
        path = path / part
        if path.is_dir():
            continue
        argv = ["install", "-d", "-o", str(user.uid), "-g", str(user.gid), str(path)]
        as_it_is = os.geteuid() == 0 or os.access(path.parent, os.W_OK) or not root_available()
        command = argv if as_it_is else as_root(argv)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise AgentError(
                "cannot-mount",
                f"{inner.source} cannot be mounted at {inner.target}, and no folder for it can be made in {top}:"
                f" {done.stderr.strip()}",
            )


def open_to_others(folders: RunFolders) -> None:
    """A container that runs as another user can save, too. Raises `AgentError` (``cannot-write``) for a link."""
    for path in (folders.checkpoints, folders.output):
        with _opened(folders, path) as (_, here):
            os.chmod(here, 0o777)  # noqa: PTH101, S103 (the descriptor's own path; meant)


def give_to_user(folders: RunFolders) -> None:
    """What such a container has left belongs to the login user, and is open to nobody else any more. A folder that
    it has replaced by a link is left as it is: the link may lead anywhere on the machine."""
    user, root = login_user(), root_available()
    owner = f"{user.uid}:{user.gid}"
    for path in (folders.checkpoints, folders.output):
        with contextlib.suppress(OSError, AgentError), _opened(folders, path) as (fd, here):
            if root:
                # Root's chown opens this process's descriptor, so that no name is looked up a second time.
                named = f"/proc/{os.getpid()}/fd/{fd}/." if LINUX else str(path)
                argv = ["chown", "--recursive", "--no-dereference", owner, named]
                subprocess.run(as_root(argv), capture_output=True, check=False)
            os.chmod(here, 0o755)  # noqa: PTH101, S103 (the descriptor's own path; meant)


@contextlib.contextmanager
def _opened(folders: RunFolders, path: Path) -> Iterator[tuple[int, int | str]]:
    """A folder of the run's, and what ``chmod`` takes for it; no step below the volume (or the run's own folder) is a
    link. Raises `AgentError` (``cannot-write``)."""
    top = _top(folders)
    fd = os.open(top, FOLDER)
    try:
        for part in path.relative_to(top).parts:
            try:
                inner = os.open(part, FOLDER | os.O_NOFOLLOW, dir_fd=fd)
            except OSError as error:
                raise _no_folder(path, str(error)) from error
            os.close(fd)
            fd = inner
        yield fd, f"/proc/self/fd/{fd}" if LINUX else fd
    finally:
        os.close(fd)


def _top(folders: RunFolders) -> Path:
    return folders.checkpoints.parent if folders.on_volume is None else folders.checkpoints.parents[2]


def _no_folder(path: Path, why: str) -> AgentError:
    return AgentError(
        "cannot-write",
        f"{path} is not a folder of the run: {why}",
        "a run before may have put a link there; remove it",
    )


def variables(spec: RunSpec, folders: RunFolders) -> dict[str, str]:
    """The contract with the script: who it is, where to save, what to resume from."""
    return {
        "RUNCTL_RUN_ID": spec.run_id,
        "RUNCTL_ATTEMPT": str(spec.attempt),
        "RUNCTL_CHECKPOINT_DIR": folders.checkpoints_seen,
        "RUNCTL_OUTPUT_DIR": folders.output_seen,
        "RUNCTL_PROGRESS_FILE": f"{folders.output_seen}/{PROGRESS_FILE}",
        "RUNCTL_DATA_DIR": folders.data_seen,
        "RUNCTL_RESUME_FROM": spec.resume_from or "",
    }
