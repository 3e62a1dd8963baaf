"""Shows a run its mounts at the paths it asked for, to that run alone: a mount namespace of its own."""

from __future__ import annotations

import ctypes
import os
import subprocess
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

from runctl.agent.errors import AgentError
from runctl.agent.machine import durable, processes
from runctl.agent.machine.root import LoginUser, as_root, folder_root, on_machine
from runctl.agent.spec import MountSpec, RunSpec

CLONE_NEWNS = 0x00020000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_SLAVE = 1, 32, 4096, 16384, 1 << 19
LOCKED_FLAGS = 2 | 4 | 8 | 1024 | 2048
"""nosuid, nodev, noexec, noatime, nodiratime: a remount must not lose them (mount(2))."""


def to_bind(spec: RunSpec) -> list[MountSpec]:
    """The mounts of a run on the host that its script would not find as it asked for them."""
    if spec.container is not None:
        return []
    return [
        m for m in spec.mounts if m.target != m.source or (m.read_only and not _already_read_only(m.source))
    ]


def _already_read_only(source: str) -> bool:
    try:
        return bool(os.statvfs(on_machine(source)).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def impossible(mounts: Sequence[MountSpec], root: bool) -> str | None:
    """Why this machine cannot show these mounts to a run on the host; ``None`` if it can."""
    if not mounts:
        return None
    what = f"showing {mounts[0].source} at {mounts[0].target}"
    if mounts[0].source == mounts[0].target:
        what = f"showing {mounts[0].source} read-only"
    if folder_root() is not None:
        read_only = [m for m in mounts if m.read_only]
        return f"{what} needs mounts, and this machine is a folder" if read_only else None
    if not processes.LINUX:
        return what + " without a container needs Linux mount namespaces, which this system lacks"
    return None if root else what + " needs root (passwordless sudo) to make a mount namespace"


def enter(mounts: Sequence[MountSpec], markers: Path) -> None:
    """This process, and what it starts, sees each source at its target. Needs root.

    Later mounts of the machine are still seen (slave propagation); ours are seen by nobody else and vanish with
    the last process of the run. A folder made as a mount point is noted in ``markers``, see `leave`.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def mount(source: str, target: str, flags: int, what: str) -> None:
        if libc.mount(source.encode(), target.encode(), None, ctypes.c_ulong(flags), None) != 0:
            number = ctypes.get_errno()
            raise AgentError("cannot-mount", f"{what}: {os.strerror(number)}")

    if libc.unshare(CLONE_NEWNS) != 0:
        raise AgentError(
            "cannot-mount", f"cannot create a mount namespace: {os.strerror(ctypes.get_errno())}"
        )
    mount("none", "/", MS_REC | MS_SLAVE, "the mount namespace cannot be separated from the machine's")
    # Opened before anything is mounted: one mount's target may cover another one's source.
    opened = [os.open(m.source, os.O_PATH | os.O_DIRECTORY) for m in mounts]
    with durable.locked(lock_of(markers)):
        for bound, fd in zip(mounts, opened):
            what = f"cannot mount {bound.source} at {bound.target}"
            _make_target(Path(bound.target), markers, what)
            mount(f"/proc/self/fd/{fd}", bound.target, MS_BIND | MS_REC, what)
            if bound.read_only:
                kept = os.statvfs(bound.target).f_flag & LOCKED_FLAGS
                mount("none", bound.target, MS_REMOUNT | MS_BIND | MS_RDONLY | kept, what + " read-only")
            os.close(fd)


def _make_target(target: Path, markers: Path, what: str) -> None:
    if target.is_dir():
        return
    missing = target
    while not missing.parent.exists():
        missing = missing.parent
    try:
        target.mkdir(parents=True)
    except OSError as error:
        raise AgentError("cannot-mount", f"{what}: {error}") from error
    markers.mkdir(mode=0o755, exist_ok=True)
    durable.write_json(
        _marker(target, markers), {"target": str(target), "first_made": str(missing)}, mode=0o644
    )


def _marker(target: Path, markers: Path) -> Path:
    return markers / urllib.parse.quote(str(target), safe="")


def leave(mounts: Sequence[MountSpec], markers: Path, in_use: Callable[[], Sequence[str]]) -> None:
    """Folders that `enter` made as mount points are gone, but for those that other runs use."""
    with durable.locked(lock_of(markers)):
        others = in_use()
        for spec in reversed(mounts):
            if spec.target not in others:
                _remove_target(spec, _marker(Path(spec.target), markers))


def _remove_target(spec: MountSpec, marker: Path) -> None:
    if marker.exists():
        record = durable.read_json(marker) or {}
        # With what is mounted inside it.
        _as_root("umount", "--recursive", spec.target)
        folder, top = Path(spec.target), Path(str(record.get("first_made", spec.target)))
        while _as_root("rmdir", str(folder)) and folder != top:
            folder = folder.parent
        _as_root("rm", "-f", str(marker))


def lock_of(markers: Path) -> Path:
    """Whoever makes or removes mount points holds this; it must exist before root first opens it."""
    return markers.with_name("targets.lock")


def _as_root(*argv: str) -> bool:
    return (
        subprocess.run(as_root(argv), capture_output=True, stdin=subprocess.DEVNULL, check=False).returncode
        == 0
    )


def drop_root(user: LoginUser) -> None:
    """This process is the login user's for good. Raises `AgentError` if it could still come back."""
    if user.uid == 0:
        return
    os.initgroups(user.name, user.gid)
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    try:
        os.setuid(0)
    except PermissionError:
        return
    raise AgentError("cannot-mount", "root could not be given up")


def show_in_folder(mounts: Sequence[MountSpec]) -> list[Path]:
    """The same for a machine that is a folder: links. Returns the links, to be removed at the end."""
    links = []
    for spec in mounts:
        source, target = on_machine(spec.source), on_machine(spec.target)
        if target.resolve() == source.resolve():
            continue
        if target.is_symlink() or target.exists():
            raise AgentError("cannot-mount", f"{spec.target} exists on the machine and is something else")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source.resolve())
        links.append(target)
    return links
