"""Looks at a disk, as root, without changing it."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from pathlib import Path
from typing import Callable

from runctl.agent.disks.decision import PROBES, Facts, Partition, Signature
from runctl.agent.errors import AgentError

SYS_BLOCK = Path("/sys/class/block")
SYS_NUMBERS = Path("/sys/dev/block")
SAMPLE_BYTES = 1 << 20
READ_BYTES = 4 << 20
BLKID_NOTHING, BLKID_AMBIVALENT = 2, 8


def parse_export(text: str) -> dict[str, str]:
    """The lines of ``blkid -o export``."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def signature(device: str) -> Signature | None:
    """What ``blkid -p`` finds on a device, of whatever kind; ``None`` for nothing. Raises `AgentError`."""
    try:
        done = subprocess.run(
            ["blkid", "-p", "-o", "export", device],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        raise AgentError("cannot-mount", "the machine has no blkid", "install util-linux") from None
    if done.returncode == BLKID_NOTHING:
        return None
    if done.returncode == BLKID_AMBIVALENT:
        return Signature(ambivalent=True)
    if done.returncode != 0:
        raise AgentError("cannot-mount", f"blkid cannot read {device}: {done.stderr.strip()}")
    found = parse_export(done.stdout)
    if not found.get("TYPE") and not found.get("PTTYPE"):
        return Signature(usage="other", type="something unknown")
    return Signature(
        type=found.get("TYPE", ""),
        usage=found.get("USAGE", ""),
        table=found.get("PTTYPE", ""),
        uuid=found.get("UUID", ""),
    )


def inspect(
    device: str,
    *,
    is_system_disk: bool,
    spacing_seconds: float = 1.0,
    sleep: Callable[[float], None] = time.sleep,
) -> Facts:
    """Everything that `decision.decide_format` wants to know. Raises `AgentError`."""
    name = Path(device).name
    try:
        is_block = stat.S_ISBLK(Path(device).stat().st_mode)
    except OSError:
        is_block = False
    if not is_block:
        return Facts(device, False, 0, ())
    size = size_of(name)
    readable, in_use, zeroed = _read(device, size)
    signatures: list[Signature | None] = []
    for number in range(PROBES):
        if number:
            sleep(spacing_seconds)
        signatures.append(signature(device))
        if signatures[-1] is not None and number == 0:
            # A second look at once tells a lasting mark from a passing one; blankness alone needs patience.
            signatures.append(signature(device))
            break
    return Facts(
        device=device,
        is_block_device=True,
        size_bytes=size,
        signatures=tuple(signatures),
        readable=readable,
        zeroed=zeroed,
        model=attribute(name, "device/model"),
        is_system_disk=is_system_disk,
        read_only=attribute(name, "ro") == "1",
        in_use=in_use,
        partitions=tuple(partitions(name)),
    )


def _read(device: str, size: int) -> tuple[bool, bool, bool]:
    """Whether it can be read, whether somebody has it exclusively, and whether samples hold only zeros."""
    in_use = False
    try:
        fd = os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
    except OSError:
        try:
            fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False, False, False
        in_use = True
    try:
        offsets = sorted({0, *(max(0, size * part // 8 - SAMPLE_BYTES) for part in range(1, 9))})
        zeroed, readable = True, True
        for offset in offsets:
            data = os.pread(fd, SAMPLE_BYTES, offset)
            readable = readable and bool(data)
            zeroed = zeroed and not data.strip(b"\0")
    except OSError:
        return False, in_use, False
    else:
        return readable, in_use, zeroed
    finally:
        os.close(fd)


def read_zeros(
    device: str,
    size: int,
    begin: int = 0,
    *,
    seconds: float,
    now: Callable[[], float] = time.monotonic,
) -> int | None:
    """Read the device from ``begin`` on for so long at the most.

    Returns the number of bytes from its beginning up to which everything is zero, ``None`` once a byte is not. Raises
    `AgentError`.
    """
    zeros = bytes(READ_BYTES)
    end, offset = now() + seconds, begin
    try:
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise AgentError("no-device", f"{device} cannot be read: {error.strerror}") from error
    try:
        while offset < size:
            data = os.pread(fd, min(READ_BYTES, size - offset), offset)
            if data != (zeros if len(data) == READ_BYTES else bytes(len(data))):
                return None
            if not data:
                raise AgentError("no-device", f"{device} ends after {offset} bytes")
            # What is read once must not push what others use out of memory.
            os.posix_fadvise(fd, offset, len(data), os.POSIX_FADV_DONTNEED)
            offset += len(data)
            if now() >= end:
                break
    except OSError as error:
        raise AgentError("no-device", f"{device} cannot be read: {error.strerror}") from error
    else:
        return offset
    finally:
        os.close(fd)


def number_of(device: str) -> str:
    """The block device's ``MAJOR:MINOR``; empty where there is no such node."""
    try:
        info = Path(device).stat()
    except OSError:
        return ""
    number = f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"
    return number if stat.S_ISBLK(info.st_mode) else ""


def sysfs(name: str) -> Path:
    """What the kernel says of ``/dev/NAME``, found by device number: a node need not have the kernel's name."""
    number = number_of("/dev/" + name)
    by_number = SYS_NUMBERS / number
    return by_number.resolve() if number and there(by_number) else SYS_BLOCK / name


def there(path: Path) -> bool:
    """Whether it exists. A device that goes away while it is looked at (ESTALE, ENODEV in sysfs) does not."""
    return os.path.exists(path)  # noqa: PTH110 (Path.exists lets such errors through)


def attribute(name: str, which: str) -> str:
    """A line of sysfs about a block device; empty where it has none."""
    try:
        return (sysfs(name) / which).read_text(errors="replace").strip()
    except OSError:
        return ""


def size_of(name: str) -> int:
    """Bytes; sysfs counts in sectors of 512 whatever the device's own are."""
    text = attribute(name, "size")
    return int(text) * 512 if text.isdigit() else 0


def partitions(name: str) -> list[Partition]:
    """The partitions that the kernel knows on a disk."""
    found = []
    disk = sysfs(name)
    for entry in sorted(disk.glob(disk.name + "*")):
        if there(entry / "partition"):
            device = "/dev/" + entry.name
            found.append(Partition(device, size_of(entry.name), signature(device)))
    return found


def disk_of(name: str) -> str:
    """The disk that a partition is on; a disk is on itself."""
    entry = sysfs(name).resolve()
    return entry.parent.name if there(entry / "partition") else name
