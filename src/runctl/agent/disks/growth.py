"""A volume that has become larger: its partition and its file system grow with it, while they are used."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.agent.disks import probe
from runctl.agent.disks.decision import Facts, Refuse
from runctl.agent.errors import AgentError

EXT = ("ext2", "ext3", "ext4")


@dataclass(frozen=True)
class Grow:
    """What there is to do."""

    device: str
    """What the file system is on: the disk, or its only partition."""
    fstype: str
    partition: int | None = None
    """The number of the partition that grows first."""


@dataclass(frozen=True)
class Nothing:
    """There is nothing on it that could grow."""

    why: str


@dataclass(frozen=True)
class Grown:
    """What `Disks.grow` found or did."""

    volume_id: str
    device: str
    fstype: str | None
    """``None`` where there is no file system yet."""
    mount_point: str | None
    partition_grown: bool
    before_bytes: int
    """Of the file system as it is mounted, of the disk where it is not."""
    after_bytes: int


def decide_growth(facts: Facts) -> Grow | Nothing | Refuse:
    """What grows on a disk. One file system that is understood does; anything else is left to its owner."""
    device = facts.device
    if not facts.is_block_device or facts.size_bytes <= 0:
        return Refuse("no-device", f"{device} is not a block device with a size")
    if facts.is_system_disk:
        return Refuse("system-disk", f"{device} is the disk that this machine runs from")
    if len(facts.partitions) > 1:
        return Refuse(
            "cannot-grow",
            f"{device} has {len(facts.partitions)} partitions, and runctl cannot know which of them to grow",
            "grow one on the machine: growpart, then resize2fs or xfs_growfs",
        )
    number = None
    signature = next((s for s in facts.signatures if s is not None), None)
    if facts.partitions:
        device, signature = facts.partitions[0].device, facts.partitions[0].signature
        last = re.search(r"\d+$", device)
        number = int(last.group()) if last is not None else 1
    if signature is None:
        return Nothing(f"{device} holds no file system yet")
    if signature.ambivalent or (signature.type not in EXT and signature.type != "xfs"):
        return Refuse(
            "cannot-grow",
            "{} holds {}, which runctl cannot grow".format(device, signature.type or "something unknown"),
            "the volume has its new size; grow what is on it on the machine",
        )
    return Grow(device, signature.type, number)


def grow_partition(disk: str, number: int, partition: str) -> bool:
    """The partition reaches to the end of the disk, in use or not. Returns whether it was shorter."""
    before = probe.size_of(Path(partition).name)
    if shutil.which("growpart"):
        done = _run(["growpart", disk, str(number)])
        if done.returncode == 1 and "NOCHANGE" in done.stdout:
            return False
    elif shutil.which("sfdisk"):
        done = _run(["sfdisk", "--no-reread", "--force", "-N", str(number), disk], ", +\n")
        if done.returncode == 0:
            # The table is written; the kernel is told of the partition that grew, which may be mounted.
            _run(["partx", "--update", "--nr", str(number), disk])
    else:
        raise AgentError(
            "cannot-grow",
            "the machine has neither growpart nor sfdisk",
            "install cloud-guest-utils (Debian, Ubuntu), cloud-utils-growpart (Amazon Linux) or fdisk, and try again",
        )
    if done.returncode != 0:
        raise AgentError("cannot-grow", f"partition {number} of {disk} does not grow: {_said(done)}")
    return probe.size_of(Path(partition).name) > before


def grow_file_system(what: Grow, mount_point: str | None) -> None:
    """The file system is as large as what it is on."""
    if what.fstype in EXT:
        if mount_point is None:
            # resize2fs wants a file system that nobody uses to have been checked.
            checked = _run(["e2fsck", "-f", "-p", what.device])
            if checked.returncode not in (0, 1):
                raise AgentError("cannot-grow", f"e2fsck of {what.device}: {_said(checked)}")
        _must(
            ["resize2fs", what.device],
            # The kernel asks for CAP_SYS_RESOURCE, which the root of a container may lack.
            (
                "Permission denied",
                "root lacks CAP_SYS_RESOURCE here: detach the volume, and repeat the command",
            ),
        )
    elif mount_point is not None:
        _must(["xfs_growfs", mount_point])
    else:
        _grow_unmounted_xfs(what.device)


def _grow_unmounted_xfs(device: str) -> None:
    """XFS grows only while it is mounted: for a moment, where nobody looks."""
    point = tempfile.mkdtemp(prefix="runctl-grow-")
    try:
        _must(["mount", "-t", "xfs", "-o", "nouuid,nosuid,nodev", device, point])
        try:
            _must(["xfs_growfs", point])
        finally:
            _run(["umount", point])
    finally:
        os.rmdir(point)  # noqa: PTH106


def _must(argv: list[str], known: tuple[str, str] = ("", "")) -> None:
    """It succeeds. ``known`` is what it may say, and what to do then."""
    done = _run(argv)
    if done.returncode != 0:
        said = _said(done)
        hint = known[1] if known[0] and known[0] in said else ""
        raise AgentError("cannot-grow", "{} failed: {}".format(" ".join(argv[:2]), said), hint)


def _run(argv: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(argv, input=text, capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError:
        raise AgentError(
            "cannot-grow",
            f"the machine has no {argv[0]}",
            "install e2fsprogs, xfsprogs and util-linux on it",
        ) from None


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
