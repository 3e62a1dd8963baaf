"""Whether a disk is mounted, formatted or left alone: decided over facts, and in doubt left alone."""

from __future__ import annotations

from typing import Union

from runctl._dataclasses import dataclass

PROBES = 4
"""So many looks, one second apart, must find nothing before a disk counts as blank."""
INSTANCE_STORE = "Amazon EC2 NVMe Instance Storage"


@dataclass(frozen=True)
class Signature:
    """What ``blkid -p`` says of a device."""

    type: str = ""
    usage: str = ""
    """``filesystem``, ``raid``, ``crypto`` or ``other``."""
    table: str = ""
    """``gpt`` or ``dos``, where there is a partition table."""
    uuid: str = ""
    ambivalent: bool = False
    """It carries the marks of several."""


@dataclass(frozen=True)
class Partition:
    """One partition of a disk."""

    device: str
    size_bytes: int
    signature: Signature | None


@dataclass(frozen=True)
class Facts:
    """What was seen of a disk."""

    device: str
    is_block_device: bool
    size_bytes: int
    signatures: tuple[Signature | None, ...]
    """One per look; ``None`` where nothing was found."""
    readable: bool = True
    zeroed: bool = True
    """Beginning, end and samples in between hold nothing but zeros."""
    zero_bytes: int = 0
    """So many bytes from the beginning have been read, every one of them, and hold nothing but zeros."""
    model: str = ""
    is_system_disk: bool = False
    read_only: bool = False
    in_use: bool = False
    """The kernel gives nobody else exclusive access: it is mounted somewhere, or part of an array."""
    partitions: tuple[Partition, ...] = ()


@dataclass(frozen=True)
class Mount:
    """There is a file system: mount it."""

    device: str
    fstype: str
    uuid: str


@dataclass(frozen=True)
class Format:
    """It gets a new file system."""

    device: str
    fstype: str


@dataclass(frozen=True)
class Refuse:
    """It is left alone."""

    code: str
    why: str
    hint: str = ""


@dataclass(frozen=True)
class Examine:
    """It may be blank: whether it is shows only when every byte has been read."""

    device: str


Decision = Union[Mount, Format, Refuse, Examine]


def decide_format(
    facts: Facts, format_mode: str, fstype: str, *, read_only: bool = False, known_blank: bool = False
) -> Decision:
    """What to do with a disk that shall be mounted; ``format_mode`` is ``if-blank``, ``never`` or ``force``.

    A disk is formatted only if it is provably blank, or if somebody said ``force`` and nothing uses it. The
    system's disk and instance-store disks never are. Proof is that every byte is zero, or the provider's word that
    nothing was ever written (``known_blank``), with nothing on the disk that contradicts it.
    """
    device = facts.device
    if not facts.is_block_device or facts.size_bytes <= 0:
        return Refuse("no-device", f"{device} is not a block device with a size", "wait until it is attached")
    if facts.is_system_disk:
        return Refuse("not-blank", f"{device} is the disk that this machine runs from")
    if facts.model == INSTANCE_STORE:
        return Refuse("not-blank", f"{device} is an instance-store disk, not a volume")
    if facts.in_use:
        return Refuse("disk-busy", f"{device} is in use by the system (mounted, or part of an array)")
    if not facts.readable:
        return Refuse("no-device", f"{device} cannot be read")
    if format_mode == "force":
        return _format(facts, fstype, read_only)
    if facts.partitions or any(s is not None and s.table and not s.usage for s in facts.signatures):
        return _partitioned(facts)
    found = [s for s in facts.signatures if s is not None]
    if found:
        return _signed(facts, found)
    return _unsigned(facts, format_mode, fstype, read_only, known_blank)


def _format(facts: Facts, fstype: str, read_only: bool) -> Decision:
    if read_only or facts.read_only:
        return Refuse("cannot-mount", f"{facts.device} is read-only and cannot be formatted")
    return Format(facts.device, fstype)


def _partitioned(facts: Facts) -> Decision:
    if len(facts.partitions) != 1:
        names = ", ".join(p.device for p in facts.partitions) or "none"
        why = f"{facts.device} has a partition table; its partitions: {names}"
        return Refuse(
            "not-blank", why, "only a volume with a file system, or with one partition, can be mounted"
        )
    partition = facts.partitions[0]
    if partition.signature is None or partition.signature.usage != "filesystem":
        what = partition.signature.type if partition.signature is not None else "nothing known"
        return Refuse("not-blank", f"the partition {partition.device} holds {what} and no file system")
    return Mount(partition.device, partition.signature.type, partition.signature.uuid)


def _signed(facts: Facts, found: list[Signature]) -> Decision:
    first = found[0]
    if len(found) < len(facts.signatures) or any(s != first for s in found):
        return Refuse("not-blank", f"{facts.device} shows other signatures each time it is read", "try again")
    if first.ambivalent:
        return Refuse(
            "not-blank",
            f"{facts.device} has the signatures of several file systems",
            "wipefs lists them on the machine",
        )
    if first.usage != "filesystem":
        what = first.type or first.table or "something unknown"
        return Refuse("not-blank", f"{facts.device} holds {what}, which is not a file system")
    return Mount(facts.device, first.type, first.uuid)


def _unsigned(facts: Facts, format_mode: str, fstype: str, read_only: bool, known_blank: bool) -> Decision:
    if len(facts.signatures) < PROBES:
        return Refuse("no-device", f"{facts.device} was read too few times to prove that it is blank")
    if not facts.zeroed:
        return Refuse(
            "not-blank",
            f"{facts.device} holds data, but no file system that this machine knows",
            "if it may be lost: make a file system on the machine (mkfs.ext4), and mount it again",
        )
    if format_mode == "never":
        return Refuse(
            "blank",
            f"{facts.device} has no file system",
            "--format makes one, if every byte of the volume is zero",
        )
    if not (read_only or facts.read_only or known_blank) and facts.zero_bytes < facts.size_bytes:
        return Examine(facts.device)
    return _format(facts, fstype, read_only)
