"""Real file systems on real loop devices: what is formatted, what never is, what is mounted where."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent.disks.loop_machine import LINK, Machine
from tests.agent.driver import until

pytestmark = [pytest.mark.linux, pytest.mark.root, pytest.mark.namespaces]


def partitioned(machine: Machine, count: int) -> tuple[str, str]:
    """A volume with a DOS partition table of so many partitions of 100 MiB."""
    volume, device = machine.volume()
    table = bytearray(512)
    table[510:] = b"\x55\xaa"
    for number in range(count):
        start, sectors = 2048 + number * 204800, 204800
        entry = b"\0\0\0\0\x83\0\0\0" + start.to_bytes(4, "little") + sectors.to_bytes(4, "little")
        table[446 + 16 * number : 462 + 16 * number] = entry
    with Path(device).open("r+b") as disk:
        disk.write(table)
    for number in range(1, count + 1):
        # Not every kernel reads such tables by itself.
        path, first = f"{device}p{number}", str(2048 + (number - 1) * 204800)
        if not Path(path).exists():
            subprocess.run(["addpart", device, str(number), first, "204800"], check=True)
        until(Path(path).exists, path)
    return volume, device


@pytest.mark.parametrize("fstype", ["ext4", "xfs"])
def test_a_blank_disk_is_formatted_once(machine: Machine, fstype: str) -> None:
    volume, device = machine.volume()
    answer = machine.attach(volume, fstype=fstype, format="if-blank").ok
    assert (answer["formatted"], answer["fstype"], answer["device"]) == (True, fstype, device)
    point = machine.folder / "mnt"
    machine.run("sh", "-c", f"echo precious > {point}/data")
    machine.agent.call("detach", {"volume_id": volume}).ok  # noqa: B018
    second = machine.attach(volume, format="if-blank").ok
    assert (second["formatted"], second["uuid"]) == (False, answer["uuid"])
    assert machine.run("cat", f"{point}/data") == "precious\n"


def test_mounting_twice_at_the_same_place_is_no_error(machine: Machine) -> None:
    volume, _ = machine.volume()
    machine.attach(volume, format="if-blank")
    answer = machine.attach(volume, format="if-blank").ok
    assert (answer["already_mounted"], answer["formatted"]) == (True, False)


def test_mounting_elsewhere_says_where_it_is(machine: Machine) -> None:
    volume, _ = machine.volume()
    machine.attach(volume, format="if-blank")
    error = machine.attach(volume, str(machine.folder / "other"), format="if-blank").error
    assert error["code"] == "mounted-elsewhere"
    assert str(machine.folder / "mnt") in error["message"]


def test_a_blank_disk_that_its_owner_did_not_offer_stays_blank(machine: Machine) -> None:
    volume, device = machine.volume()
    error = machine.attach(volume, format="never").error
    assert error["code"] == "blank"
    assert subprocess.run(["blkid", "-p", device], capture_output=True, check=False).returncode == 2


def test_swap_is_never_formatted(machine: Machine) -> None:
    volume, device = machine.volume()
    subprocess.run(["mkswap", device], capture_output=True, check=True)
    error = machine.attach(volume, format="if-blank").error
    assert error["code"] == "not-blank"
    assert "swap" in error["message"]


@pytest.mark.parametrize(
    ("name", "offset", "magic"),
    [
        ("LVM2_member", 512, b"LABELONE" + (1).to_bytes(8, "little")),
        ("crypto_LUKS", 0, b"LUKS\xba\xbe\x00\x01"),
        ("linux_raid_member", 4096, bytes.fromhex("fc4e2ba9") + (1).to_bytes(4, "little")),
    ],
)
def test_disks_of_lvm_luks_and_raid_are_never_formatted(
    machine: Machine, name: str, offset: int, magic: bytes
) -> None:
    volume, device = machine.volume()
    with Path(device).open("r+b") as disk:
        disk.seek(offset)
        disk.write(magic)
    error = machine.attach(volume, format="if-blank").error
    assert error["code"] == "not-blank", name
    with Path(device).open("rb") as disk:
        disk.seek(offset)
        assert disk.read(len(magic)) == magic


def test_data_without_a_signature_is_not_blank(machine: Machine) -> None:
    volume, device = machine.volume()
    with Path(device).open("r+b") as disk:
        disk.write(os.urandom(4096))
    assert machine.attach(volume, format="if-blank").error["code"] == "not-blank"


@pytest.mark.parametrize("place", [5 << 20, (256 << 20) - 1])
def test_a_single_byte_anywhere_keeps_a_disk_from_being_formatted(machine: Machine, place: int) -> None:
    volume, device = machine.volume(size_mib=256)
    with Path(device).open("r+b") as disk:
        disk.seek(place)
        disk.write(b"x")

    assert machine.attach(volume, format="if-blank").error["code"] == "not-blank"
    with Path(device).open("rb") as disk:
        disk.seek(place)
        assert disk.read(1) == b"x"


def test_a_large_disk_is_read_in_several_calls_and_formatted_in_the_last(machine: Machine) -> None:
    volume, _ = machine.volume(size_mib=256)

    first = machine.attach(volume, format="if-blank", examine_seconds=0).ok
    assert first == {"volume_id": volume, "examined_bytes": 4 << 20, "size_bytes": 256 << 20}
    last = machine.attach(volume, format="if-blank", examine_seconds=0, examined_bytes=252 << 20).ok
    assert last["formatted"] is True


def test_force_formats_what_nothing_uses(machine: Machine) -> None:
    volume, device = machine.volume()
    subprocess.run(["mkswap", device], capture_output=True, check=True)
    assert machine.attach(volume, format="force").ok["formatted"] is True


def test_force_does_not_format_what_is_mounted_in_another_namespace(machine: Machine, tmp_path: Path) -> None:
    volume, device = machine.volume()
    subprocess.run(["mkfs.ext4", "-q", device], check=True)
    other = tmp_path / "elsewhere"
    other.mkdir()
    subprocess.run(["mount", device, str(other)], check=True)
    try:
        assert machine.attach(volume, format="force").error["code"] == "disk-busy"
    finally:
        subprocess.run(["umount", str(other)], check=True)


def test_a_single_partition_with_a_file_system_is_mounted(machine: Machine) -> None:
    volume, device = partitioned(machine, 1)
    subprocess.run(["mkfs.ext4", "-q", device + "p1"], check=True)
    answer = machine.attach(volume, format="if-blank").ok
    assert (answer["device"], answer["formatted"]) == (device + "p1", False)
    (mount,) = machine.agent.call("mounts").ok["mounts"]
    assert mount["volume_id"] == volume


def test_a_partition_without_a_file_system_is_left_alone(machine: Machine) -> None:
    volume, device = partitioned(machine, 1)
    error = machine.attach(volume, format="if-blank").error
    assert (error["code"], device + "p1" in error["message"]) == ("not-blank", True)


def test_several_partitions_are_named(machine: Machine) -> None:
    volume, device = partitioned(machine, 2)
    error = machine.attach(volume, format="if-blank").error
    assert error["code"] == "not-blank"
    assert device + "p2" in error["message"]


def test_a_folder_with_files_is_no_mount_point(machine: Machine) -> None:
    volume, device = machine.volume()
    (machine.folder / "mnt").mkdir()
    (machine.folder / "mnt" / "file").touch()
    assert machine.attach(volume, format="if-blank").error["code"] == "mount-point-taken"
    assert subprocess.run(["blkid", "-p", device], capture_output=True, check=False).returncode == 2


def test_a_place_that_another_volume_has_is_taken(machine: Machine) -> None:
    first, _ = machine.volume()
    second, _ = machine.volume()
    machine.attach(first, format="if-blank")
    options = machine.run("findmnt", "-n", "-o", "OPTIONS", str(machine.folder / "mnt"))
    assert {"nosuid", "nodev"} <= set(options.strip().split(","))
    assert "nosuid,nodev" in machine.fstab
    error = machine.attach(second, format="if-blank").error
    assert error["code"] == "mount-point-taken"
    assert first in error["message"]


def test_a_volume_that_appears_late_is_waited_for(machine: Machine) -> None:
    volume, device = machine.volume()
    name = volume.removeprefix("vol-")
    machine.run("rm", f"/dev/disk/by-id/{LINK}vol{name}")
    with subprocess.Popen(
        machine.agent.command("attach"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=machine.agent.environment,
    ) as waiting:
        assert waiting.stdin is not None
        assert waiting.stdout is not None
        request = {
            "volume_id": volume,
            "mount_point": str(machine.folder / "mnt"),
            "format": "if-blank",
            "wait_seconds": 30,
        }
        waiting.stdin.write(json.dumps(request).encode())
        waiting.stdin.close()
        until(lambda: Path(f"/proc/{waiting.pid}/stat").exists(), "the agent")
        machine.link(name, device)
        assert json.loads(waiting.stdout.read())["ok"]["formatted"] is True


def test_a_volume_that_never_appears_is_said_not_to_be_there(machine: Machine) -> None:
    there, _ = machine.volume()
    error = machine.attach("vol-0123456789abcdef0", wait_seconds=0.3).error
    assert error["code"] == "no-device"
    assert there in error["message"]


def test_the_mount_is_remembered_by_uuid_and_forgotten_by_detach(machine: Machine) -> None:
    (machine.folder / "fstab").write_text("# mine\nUUID=abc / ext4 defaults 0 1\n")
    volume, _ = machine.volume()
    answer = machine.attach(volume, format="if-blank").ok
    line = machine.fstab.splitlines()[-1]
    assert line.startswith(f"UUID={answer['uuid']} {machine.folder}/mnt ext4 ")
    assert "nofail" in line
    machine.attach(volume)
    assert machine.fstab.count(answer["uuid"]) == 1
    machine.agent.call("detach", {"volume_id": volume}).ok  # noqa: B018
    assert machine.fstab == "# mine\nUUID=abc / ext4 defaults 0 1\n"


def test_a_read_only_mount_cannot_be_written(machine: Machine) -> None:
    volume, device = machine.volume()
    subprocess.run(["mkfs.ext4", "-q", device], check=True)
    answer = machine.attach(volume, read_only=True).ok
    assert answer["writable"] is False
    assert machine.agent.call("mounts").ok["mounts"][0]["read_only"] is True


def test_mounts_and_disks_without_one_are_listed(machine: Machine) -> None:
    first, _ = machine.volume()
    second, device = machine.volume()
    machine.attach(first, format="if-blank")
    seen = machine.agent.call("mounts").ok
    assert [
        (m["volume_id"], m["mount_point"], m["persistent"]) for m in seen["mounts"] if m["volume_id"]
    ] == [(first, str(machine.folder / "mnt"), True)]
    assert (second, device) in [(u["volume_id"], u["device"]) for u in seen["unmounted"]]


def test_detach_flushes_and_unmounts(machine: Machine) -> None:
    volume, device = machine.volume()
    machine.attach(volume, format="if-blank")
    machine.run("sh", "-c", f"echo data > {machine.folder}/mnt/file")
    answer = machine.agent.call("detach", {"volume_id": volume}).ok
    assert (answer["was_mounted"], answer["mount_points"]) == (True, [str(machine.folder / "mnt")])
    assert subprocess.run(["fsck.ext4", "-n", "-f", device], capture_output=True, check=False).returncode == 0
    assert machine.agent.call("detach", {"volume_id": volume}).ok["was_mounted"] is False


def test_detach_names_who_holds_the_volume(machine: Machine) -> None:
    volume, _ = machine.volume()
    machine.attach(volume, format="if-blank")
    enter = ["nsenter", f"--mount=/proc/{machine.pid}/ns/mnt", "--"]
    code = f"f = open('{machine.folder}/mnt/held', 'w'); print('open', flush=True); input()"
    with subprocess.Popen(
        [*enter, sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        error = machine.agent.call("detach", {"volume_id": volume}).error
        holder.kill()
    assert error["code"] == "disk-busy"
    assert str(holder.pid) in error["message"]
    assert "held" in error["message"]
    assert machine.agent.call("detach", {"volume_id": volume}).ok["was_mounted"] is True
