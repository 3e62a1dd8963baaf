"""What the agent can do with a machine's disks, real ones or folders that stand for them."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runctl._dataclasses import dataclass
from runctl.agent.disks.freezing import Frozen
from runctl.agent.disks.growth import Grown
from runctl.agent.errors import AgentError
from runctl.agent.spec import MachineMount

VOLUME = re.compile(r"vol-?([0-9a-f]{8,32})")
FORMATS = ("if-blank", "never", "force")
FILE_SYSTEMS = ("ext4", "xfs")

EXAMINE_SECONDS = 20.0
"""Short enough for every transport, and long enough that what is done in each call besides does not count."""
BY_ID = "nvme-Amazon_Elastic_Block_Store_"
"""What udev's links in ``/dev/disk/by-id`` for EBS volumes begin with; ``vol0123…`` follows, without the hyphen."""


@dataclass(frozen=True)
class AttachRequest:
    """A volume that is attached to the machine, and where its file system shall be."""

    volume_id: str
    mount_point: str
    fstype: str = "ext4"
    """The type of a new file system; an existing one is used as it is."""
    format: str = "never"
    """``if-blank``: a provably blank disk gets a file system. ``force``: any disk that is not in use does."""
    known_blank: bool = False
    """The provider's word: it was created empty, and nothing was ever written to it."""
    examined_bytes: int = 0
    """So many bytes from the beginning have been read by earlier calls, and were zero."""
    examine_seconds: float = EXAMINE_SECONDS
    """How long this call may go on reading."""
    read_only: bool = False
    wait_seconds: float = 60.0
    shared: bool = False
    """Other machines have the volume too: it is mounted read-only, without so much as a journal being replayed, and
    never formatted."""
    grow: bool = False
    """The volume is larger than what it was copied from: its partition and file system grow with it."""
    device: str | None = None
    """The name that the provider attached it under, for machines whose disks have no serial (Xen)."""


@dataclass(frozen=True)
class Attached:
    """What `Disks.attach` found or did."""

    volume_id: str
    mount_point: str
    device: str
    fstype: str
    uuid: str | None
    formatted: bool
    already_mounted: bool
    writable: bool
    """For the login user."""
    size_bytes: int
    free_bytes: int
    grown: bool = False
    """It was asked to `AttachRequest.grow`, and its file system is as large as it can be."""
    not_grown: str = ""
    """Why it is not, though that was asked."""


@dataclass(frozen=True)
class Examining:
    """`Disks.attach` has not read enough of a disk to call it blank: it goes on when it is called with the number."""

    volume_id: str
    examined_bytes: int
    size_bytes: int


@dataclass(frozen=True)
class Unmounted:
    """A disk that is attached to the machine, and not mounted."""

    device: str
    volume_id: str | None
    size_bytes: int
    model: str
    signature: str | None = None


@dataclass(frozen=True)
class Detached:
    """What `Disks.detach` did."""

    volume_id: str
    was_mounted: bool
    mount_points: tuple[str, ...] = ()
    lazy: bool = False
    """It is out of sight, and goes for good when the last process lets go of it."""


class Disks(ABC):
    """The disks of one machine. Every method raises `AgentError`."""

    @abstractmethod
    def attached(self) -> frozenset[str]:
        """The volumes whose devices the machine has, mounted or not."""

    @abstractmethod
    def mounts(self) -> list[MachineMount]:
        """File systems of whole disks that are mounted, but for those of the system's own disk."""

    @abstractmethod
    def unmounted(self) -> list[Unmounted]:
        """Disks without a mounted file system."""

    @abstractmethod
    def attach(self, request: AttachRequest) -> Attached | Examining:
        """The volume's file system is mounted there, now and after a restart.

        A disk that has to be read to its end first is read for some seconds in each call; see `Examining`. Doing it
        twice is not an error. Raises `AgentError`: ``no-device``, ``cannot-mount``, ``mounted-elsewhere``,
        ``mount-point-taken``, ``not-blank``, ``blank``, ``disk-busy``.
        """

    @abstractmethod
    def detach(self, volume_id: str, *, force: bool = False) -> Detached:
        """Everything is written to the volume, and it is not mounted any more, now and after a restart.

        Raises `AgentError` (``disk-busy``) naming the processes that hold it; ``force`` takes it out of their
        sight all the same.
        """

    @abstractmethod
    def grow(self, volume_id: str, *, size_bytes: int = 0, wait_seconds: float = 60.0) -> Grown:
        """Partition and file system are as large as the volume, which has ``size_bytes`` at the least by then.

        Doing it twice is not an error. Raises `AgentError`: ``no-device``, ``cannot-grow``, ``read-only``.
        """

    @abstractmethod
    def freeze(self, volume_id: str, *, hold_seconds: float, holder: str) -> Frozen:
        """What was written is on the volume, and where it can be, nothing is written for so long at the most.

        The same ``holder`` takes up a freezing of its own; while another one holds the volume it is only flushed.
        """

    @abstractmethod
    def thaw(self, volume_id: str, *, holder: str) -> bool:
        """Writers go on. Returns whether ``holder`` held the volume until now; ``False`` too where nobody did."""


class NoDisks(Disks):
    """A machine whose disks the agent does not touch."""

    def attached(self) -> frozenset[str]:
        """None."""
        return frozenset()

    def mounts(self) -> list[MachineMount]:
        """None."""
        return []

    def unmounted(self) -> list[Unmounted]:
        """None."""
        return []

    def attach(self, request: AttachRequest) -> Attached | Examining:
        """Raises `AgentError` (``unsupported``)."""
        raise AgentError("unsupported", "volumes can be mounted on Linux only")

    def detach(self, volume_id: str, *, force: bool = False) -> Detached:
        """Raises `AgentError` (``unsupported``)."""
        raise AgentError("unsupported", "volumes can be mounted on Linux only")

    def grow(self, volume_id: str, *, size_bytes: int = 0, wait_seconds: float = 60.0) -> Grown:
        """Raises `AgentError` (``unsupported``)."""
        raise AgentError("unsupported", "volumes can be grown on Linux only")

    def freeze(self, volume_id: str, *, hold_seconds: float, holder: str) -> Frozen:
        """Raises `AgentError` (``unsupported``)."""
        raise AgentError("unsupported", "volumes can be mounted on Linux only")

    def thaw(self, volume_id: str, *, holder: str) -> bool:
        """Nothing is ever frozen."""
        return False


def volume_id(text: str) -> str:
    """``vol-0123…`` for ``vol-0123…`` and ``vol0123…``. Raises `AgentError` (``bad-request``) for anything else."""
    match = VOLUME.fullmatch(text.strip())
    if match is None:
        raise AgentError("bad-request", f"{text!r} is not a volume id")
    return "vol-" + match.group(1)


def from_link(name: str) -> str | None:
    """The volume that a link in ``/dev/disk/by-id`` is about; ``None`` for partitions and other disks."""
    if not name.startswith(BY_ID):
        return None
    match = re.fullmatch(r"vol-?([0-9a-f]{8,32})(?:[-_]ns[-_]?\d+|_\d+)?", name[len(BY_ID) :])
    return "vol-" + match.group(1) if match else None


def attach_request(request: Mapping[str, Any]) -> AttachRequest:
    """Read and check a request. Raises `AgentError` (``bad-request``)."""
    volume, point = request.get("volume_id"), request.get("mount_point")
    if not isinstance(volume, str) or not isinstance(point, str):
        raise AgentError("bad-request", "attach needs a volume_id and a mount_point")
    parts = Path(point).parts
    if not point.startswith("/") or ".." in parts or len(parts) < 2 or "\n" in point:
        raise AgentError("bad-request", f"{point!r} is not an absolute path to mount at")
    format_mode = str(request.get("format") or "never")
    if format_mode not in FORMATS:
        raise AgentError(
            "bad-request", "format is one of {}, not {!r}".format(", ".join(FORMATS), format_mode)
        )
    fstype = str(request.get("fstype") or "ext4")
    if fstype not in FILE_SYSTEMS:
        raise AgentError(
            "bad-request", "a new file system is one of {}, not {!r}".format(", ".join(FILE_SYSTEMS), fstype)
        )
    wait = request.get("wait_seconds")
    device = request.get("device")
    return AttachRequest(
        volume_id=volume_id(volume),
        mount_point=str(Path(point)),
        fstype=fstype,
        format=format_mode,
        read_only=bool(request.get("read_only")) or bool(request.get("shared")),
        shared=bool(request.get("shared")),
        wait_seconds=60.0 if wait is None else float(wait),
        known_blank=bool(request.get("known_blank")),
        grow=bool(request.get("grow")),
        examined_bytes=int(request.get("examined_bytes") or 0),
        examine_seconds=float(request.get("examine_seconds", EXAMINE_SECONDS)),
        device=str(device) if device else None,
    )
