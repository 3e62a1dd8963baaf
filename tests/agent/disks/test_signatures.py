"""Whatever blkid knows is on a disk, it is not formatted: real marks on a real disk, really looked at."""

from __future__ import annotations

import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runctl.agent.disks import probe
from runctl.agent.disks.decision import Format, Mount, Refuse, decide_format

pytestmark = [pytest.mark.linux, pytest.mark.root, pytest.mark.namespaces]

MIB = 1 << 20
SIZE = 64 * MIB


def written(*pieces: tuple[int, bytes]) -> Callable[[str], None]:
    """Bytes at offsets; negative ones count from the end."""

    def write(device: str) -> None:
        with Path(device).open("r+b") as disk:
            for offset, data in pieces:
                disk.seek(offset if offset >= 0 else SIZE + offset)
                disk.write(data)

    return write


def made(*argv: str, text: str = "") -> Callable[[str], None]:
    """By the system's own program, where there is one."""

    def make(device: str) -> None:
        if shutil.which(argv[0]) is None:
            pytest.skip(f"only on machines that have {argv[0]}")
        subprocess.run([*argv, device], input=text, text=True, capture_output=True, check=True)

    return make


def lvm(device: str) -> None:
    """A physical volume's label: in the second sector, with the checksum that LVM writes."""
    body = struct.pack("<I", 32) + b"LVM2 001" + b"a" * 32
    body += b"\0" * (512 - 20 - len(body))
    crc = 0xF597A6CF
    for byte in body:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0xEDB88320 if crc & 1 else 0)
    written((512, b"LABELONE" + struct.pack("<QI", 1, crc) + body))(device)


def raid(device: str) -> None:
    """The superblock of an array's member, version 1.2: 4 KiB from the beginning."""
    block = bytearray(256)
    struct.pack_into("<III", block, 0, 0xA92B4EFC, 1, 0)
    block[16:32] = bytes(range(16))
    block[32:40] = b"array:0\0"
    struct.pack_into("<Q", block, 144, 8)
    total = sum(struct.unpack("<64I", bytes(block)))
    struct.pack_into("<I", block, 216, ((total & 0xFFFFFFFF) + (total >> 32)) & 0xFFFFFFFF)
    written((4096, bytes(block)))(device)


def gpt(device: str) -> None:
    made("sfdisk", "-q", text="label: gpt\n")(device)


MARKS: dict[str, Callable[[str], None]] = {
    "ext4": made("mkfs.ext4", "-q"),
    "ext2": made("mkfs.ext2", "-q"),
    "swap": made("mkswap"),
    "LVM2_member": lvm,
    "linux_raid_member": raid,
    "crypto_LUKS": written((0, b"LUKS\xba\xbe" + struct.pack(">H", 1) + b"aes\0" + b"\0" * 500)),
    "gpt": gpt,
    "dos": made("sfdisk", "-q", text="label: dos\n2048,4096,83\n"),
    "empty dos": made("sfdisk", "-q", text="label: dos\n"),
    "btrfs": written((65536 + 64, b"_BHRfS_M")),
    "squashfs": written((0, b"hsqs" + b"\0" * 24 + struct.pack("<HH", 4, 0))),
    "iso9660": written((32768, b"\1CD001\1" + b"\0" * 2000)),
    "bcache": written((4096 + 24, bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81"))),
    "BitLocker": written((0, b"\xeb\x52\x90-FVE-FS-" + b"\0" * 500)),
}
LESS_THAN_BLKID_WANTS = {"bcache", "BitLocker"}
"""It wants to see more than the mark; then the disk is not blank for holding anything but zeros."""


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A loop device."""
    image = tmp_path_factory.mktemp("disk") / "image"
    with image.open("wb") as file:
        file.truncate(SIZE)
    done = subprocess.run(
        ["losetup", "--find", "--show", str(image)], capture_output=True, text=True, check=True
    )
    device = done.stdout.strip()
    yield device
    subprocess.run(["losetup", "--detach", device], check=True)


def blank(device: str) -> None:
    """Zeros from end to end, and no partitions in the kernel's mind."""
    with Path(device).open("r+b") as disk:
        for _ in range(SIZE // MIB):
            disk.write(b"\0" * MIB)
    subprocess.run(["partx", "--delete", device], capture_output=True, check=False)


@pytest.mark.parametrize("mark", sorted(MARKS))
def test_a_disk_with_a_mark_is_never_formatted_unforced(disk: str, mark: str) -> None:
    blank(disk)
    MARKS[mark](disk)
    facts = probe.inspect(disk, is_system_disk=False, spacing_seconds=0)
    seen = [s for s in facts.signatures if s is not None]
    if mark not in LESS_THAN_BLKID_WANTS:
        assert seen, "blkid sees nothing"
        assert mark.rpartition(" ")[2] in {seen[0].type, seen[0].table}
    for options in ("if-blank", "never"):
        for fstype in ("ext4", "xfs"):
            decision = decide_format(facts, options, fstype)
            a_file_system = any(item.usage == "filesystem" for item in seen)
            assert isinstance(decision, Mount if a_file_system else Refuse), decision
    blank(disk)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    mark=st.sampled_from(["crypto_LUKS", "LVM2_member", "linux_raid_member"]),
    where=st.integers(0, SIZE - 4096),
    junk=st.binary(min_size=1, max_size=64).filter(lambda data: data.strip(b"\0") != b""),
)
def test_a_mark_with_rubbish_beside_it_is_not_blank_either(
    disk: str, mark: str, where: int, junk: bytes
) -> None:
    blank_again = [(where, b"\0" * len(junk)), (0, b"\0" * 8192)]
    MARKS[mark](disk)
    written((where, junk))(disk)
    facts = probe.inspect(disk, is_system_disk=False, spacing_seconds=0)
    assert not isinstance(decide_format(facts, "if-blank", "ext4"), Format)
    written(*blank_again)(disk)


def test_only_zeros_are_blank(disk: str) -> None:
    blank(disk)
    facts = probe.inspect(disk, is_system_disk=False, spacing_seconds=0)
    read = probe.read_zeros(disk, facts.size_bytes, seconds=60)
    assert read == facts.size_bytes
    assert decide_format(replace(facts, zero_bytes=read), "if-blank", "xfs") == Format(disk, "xfs")
    assert zlib.crc32(Path(disk).read_bytes()) == zlib.crc32(b"\0" * SIZE), "looking changes nothing"
