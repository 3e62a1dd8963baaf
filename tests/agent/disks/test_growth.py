"""Volumes that become larger under what is on them, and hold still while a snapshot begins; on real disks."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.agent.disks.decision import Facts, Partition, Refuse, Signature
from runctl.agent.disks.growth import EXT, Grow, Nothing, decide_growth
from tests.agent.disks.loop_machine import MIB, Machine
from tests.agent.driver import until

real = [pytest.mark.linux, pytest.mark.root, pytest.mark.namespaces]
DISK = Facts("/dev/nvme1n1", True, 1 << 30, (None,))
signatures = st.builds(
    Signature,
    type=st.sampled_from(["ext4", "xfs", "LVM2_member", "crypto_LUKS", "swap", "btrfs", ""]),
    usage=st.sampled_from(["filesystem", "raid", "crypto", "other"]),
    ambivalent=st.booleans(),
)
disks = st.builds(
    Facts,
    device=st.just("/dev/nvme1n1"),
    is_block_device=st.booleans(),
    size_bytes=st.integers(0, 1 << 40),
    signatures=st.tuples(st.none() | signatures),
    is_system_disk=st.booleans(),
    partitions=st.lists(
        st.builds(Partition, st.just("/dev/nvme1n1p1"), st.just(1 << 30), st.none() | signatures), max_size=2
    ).map(tuple),
)


@given(disks)
def test_only_one_file_system_that_is_understood_is_grown(facts: Facts) -> None:
    decision = decide_growth(facts)
    if isinstance(decision, Grow):
        assert decision.fstype in {*EXT, "xfs"}
        assert facts.is_block_device and not facts.is_system_disk and len(facts.partitions) < 2
        holder = facts.partitions[0].signature if facts.partitions else facts.signatures[0]
        assert holder is not None and not holder.ambivalent
        assert (decision.partition is not None) == bool(facts.partitions)


def test_a_blank_disk_has_nothing_to_grow_and_lvm_is_left_alone() -> None:
    assert isinstance(decide_growth(DISK), Nothing)
    lvm = dataclasses.replace(DISK, signatures=(Signature("LVM2_member", "raid"),))
    assert isinstance(decide_growth(lvm), Refuse)


def enlarge(machine: Machine, device: str, size_mib: int) -> None:
    """As EC2 does: the device is larger all of a sudden."""
    backing = Path(f"/sys/class/block/{Path(device).name}/loop/backing_file").read_text().strip()
    os.truncate(backing, size_mib * MIB)
    subprocess.run(["losetup", "--set-capacity", device], check=True)


def may_grow_ext4() -> bool:
    """Whether root here has CAP_SYS_RESOURCE, which the kernel asks for; many containers' root has not."""
    (line,) = [x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("CapEff:")]
    return bool(int(line.split()[1], 16) >> 24 & 1)


class TestGrowing:
    pytestmark = real

    def test_root_without_the_right_to_grow_a_mounted_ext4_says_what_to_do(self, machine: Machine) -> None:
        if may_grow_ext4():
            pytest.skip("only on machines whose root may not resize a mounted ext4")
        volume, device = machine.volume(320)
        point = machine.attach(volume, format="if-blank").ok["mount_point"]
        enlarge(machine, device, 640)
        error = machine.agent.call("grow", {"volume_id": volume}).error
        assert error["code"] == "cannot-grow"
        assert "CAP_SYS_RESOURCE" in error["hint"]
        assert machine.agent.call("detach", {"volume_id": volume}).ok
        assert machine.agent.call("grow", {"volume_id": volume}).ok
        assert machine.attach(volume, point).ok["size_bytes"] > 500 * MIB

    @pytest.mark.parametrize("fstype", ["ext4", "xfs"])
    def test_a_mounted_file_system_grows_and_keeps_its_files(self, machine: Machine, fstype: str) -> None:
        if fstype == "ext4" and not may_grow_ext4():
            pytest.skip("only on machines whose root may resize a mounted ext4 (CAP_SYS_RESOURCE)")
        volume, device = machine.volume(320)
        point = machine.attach(volume, format="if-blank", fstype=fstype).ok["mount_point"]
        machine.run("sh", "-c", f"echo kept > {point}/file")
        enlarge(machine, device, 640)
        grown = machine.agent.call("grow", {"volume_id": volume, "size_bytes": 640 * MIB}).ok
        assert (grown["fstype"], grown["mount_point"], grown["partition_grown"]) == (fstype, point, False)
        assert grown["after_bytes"] > 1.8 * grown["before_bytes"]
        second = machine.agent.call("grow", {"volume_id": volume, "size_bytes": 640 * MIB}).ok
        assert second["before_bytes"] == second["after_bytes"] == grown["after_bytes"]
        assert machine.run("cat", f"{point}/file") == "kept\n"

    @pytest.mark.parametrize("fstype", ["ext4", "xfs"])
    def test_one_that_is_not_mounted_grows_too(self, machine: Machine, fstype: str) -> None:
        volume, device = machine.volume(320)
        point = machine.attach(volume, format="if-blank", fstype=fstype).ok["mount_point"]
        assert machine.agent.call("detach", {"volume_id": volume}).ok
        enlarge(machine, device, 640)
        assert machine.agent.call("grow", {"volume_id": volume}).ok["mount_point"] is None
        assert machine.attach(volume, point).ok["size_bytes"] > 500 * MIB

    def test_a_partition_grows_before_its_file_system_while_that_is_mounted(self, machine: Machine) -> None:
        volume, device = machine.volume(400)
        subprocess.run(["sfdisk", "-q", device], input="label: gpt\n2048,655360\n", text=True, check=True)
        path = Path(f"{device}p1")
        if not path.exists():
            subprocess.run(["addpart", device, "1", "2048", "655360"], check=True)
        until(path.exists, str(path))
        subprocess.run(["mkfs.xfs", "-q", str(path)], check=True)
        point = machine.attach(volume).ok["mount_point"]
        enlarge(machine, device, 640)
        grown = machine.agent.call("grow", {"volume_id": volume, "size_bytes": 640 * MIB}).ok
        assert (grown["partition_grown"], grown["mount_point"], grown["device"]) == (True, point, str(path))
        assert grown["after_bytes"] > 500 * MIB

    def test_a_blank_volume_has_nothing_to_grow(self, machine: Machine) -> None:
        volume, _ = machine.volume()
        assert machine.agent.call("grow", {"volume_id": volume}).ok["fstype"] is None

    def test_a_volume_that_has_not_grown_yet_is_waited_for(self, machine: Machine) -> None:
        volume, _ = machine.volume(320)
        request = {"volume_id": volume, "size_bytes": 640 * MIB, "wait_seconds": 0.3}
        assert machine.agent.call("grow", request).error["code"] == "no-device"

    def test_swap_is_left_alone(self, machine: Machine) -> None:
        volume, device = machine.volume()
        subprocess.run(["mkswap", device], check=True, capture_output=True)
        error = machine.agent.call("grow", {"volume_id": volume}).error
        assert error["code"] == "cannot-grow"
        assert "swap" in error["message"]


class TestFreezing:
    pytestmark = real

    @pytest.fixture
    def frozen(self, machine: Machine) -> Iterator[tuple[str, str]]:
        """A mounted volume that was frozen for a minute, and its mount point; it is thawed at the end."""
        volume, _ = machine.volume()
        point = machine.attach(volume, format="if-blank").ok["mount_point"]
        machine.run("touch", f"{point}/before")
        done = machine.agent.call("freeze", {"volume_id": volume, "hold_seconds": 60}).ok
        assert (done["how"], done["mount_points"]) == ("frozen", [point])
        yield volume, point
        machine.agent.call("thaw", {"volume_id": volume})

    def test_a_writer_waits_until_it_is_thawed(self, machine: Machine, frozen: tuple[str, str]) -> None:
        volume, point = frozen
        writer = threading.Thread(target=machine.run, args=("sh", "-c", f"echo late > {point}/after"))
        writer.start()
        writer.join(0.4)
        assert writer.is_alive()
        assert machine.agent.call("thaw", {"volume_id": volume}).ok == {"was_frozen": True}
        writer.join(5)
        assert not writer.is_alive()
        assert machine.agent.call("thaw", {"volume_id": volume}).ok == {"was_frozen": False}

    def test_nothing_holds_the_volume_after_the_thaw(self, machine: Machine, frozen: tuple[str, str]) -> None:
        volume, point = frozen
        assert machine.agent.call("thaw", {"volume_id": volume}).ok
        assert machine.agent.call("detach", {"volume_id": volume}).ok["mount_points"] == [point]

    def test_it_thaws_by_itself_when_nobody_comes_back(self, machine: Machine) -> None:
        volume, _ = machine.volume()
        point = machine.attach(volume, format="if-blank").ok["mount_point"]
        began = time.monotonic()
        assert machine.agent.call("freeze", {"volume_id": volume, "hold_seconds": 0.5}).ok["how"] == "frozen"
        machine.run("touch", f"{point}/after")
        assert time.monotonic() - began >= 0.5
        assert machine.agent.call("thaw", {"volume_id": volume}).ok == {"was_frozen": False}

    def test_the_same_holder_takes_a_freezing_over_and_renews_its_time(self, machine: Machine) -> None:
        volume, _ = machine.volume()
        point = machine.attach(volume, format="if-blank").ok["mount_point"]
        request = {"volume_id": volume, "holder": "token-1"}
        assert machine.agent.call("freeze", {**request, "hold_seconds": 1.5}).ok["how"] == "frozen"
        assert machine.agent.call("freeze", {**request, "hold_seconds": 60}).ok["how"] == "frozen"
        writer = threading.Thread(target=machine.run, args=("touch", f"{point}/after"))
        writer.start()
        writer.join(2)
        assert writer.is_alive()
        assert machine.agent.call("thaw", request).ok == {"was_frozen": True}
        writer.join(5)
        assert not writer.is_alive()
        assert machine.agent.call("detach", {"volume_id": volume}).ok["mount_points"] == [point]

    @pytest.mark.parametrize("other", ["token-2", ""])
    def test_another_command_neither_takes_a_freezing_over_nor_ends_it(
        self, machine: Machine, other: str
    ) -> None:
        volume, _ = machine.volume()
        machine.attach(volume, format="if-blank")
        mine, others = (
            {"volume_id": volume, "holder": name, "hold_seconds": 60} for name in ("token-1", other)
        )
        assert machine.agent.call("freeze", mine).ok["how"] == "frozen"
        seen = machine.agent.call("freeze", others).ok
        assert (seen["how"], seen["why"]) == ("flushed", "another command holds it")
        assert machine.agent.call("thaw", others).ok == {"was_frozen": False}
        assert machine.agent.call("thaw", mine).ok == {"was_frozen": True}

    def test_nobody_writes_to_a_volume_that_is_not_mounted(self, machine: Machine) -> None:
        volume, _ = machine.volume()
        assert machine.agent.call("freeze", {"volume_id": volume}).ok["how"] == "unmounted"


class TestSharing:
    pytestmark = real

    @pytest.mark.parametrize(("fstype", "option"), [("ext4", "noload"), ("xfs", "norecovery")])
    def test_a_shared_volume_is_mounted_without_replaying_its_journal(
        self, machine: Machine, fstype: str, option: str
    ) -> None:
        volume, _ = machine.volume()
        assert machine.attach(volume, format="if-blank", fstype=fstype).ok
        assert machine.agent.call("detach", {"volume_id": volume}).ok
        point = machine.attach(volume, shared=True).ok["mount_point"]
        (line,) = [x for x in machine.run("cat", "/proc/mounts").splitlines() if f" {point} " in x]
        # The kernel shows ext4's noload under the name that it shares with xfs.
        assert {"ro", "norecovery"} <= set(line.split()[3].split(","))
        assert f"ro,{option}" in machine.fstab

    def test_a_blank_volume_that_others_have_is_not_formatted(self, machine: Machine) -> None:
        volume, _ = machine.volume()
        assert machine.attach(volume, shared=True, format="if-blank").error["code"] == "cannot-mount"

    def test_a_copy_beside_its_original_is_remembered_by_its_own_name(self, machine: Machine) -> None:
        item, device = machine.volume()
        assert machine.attach(item, str(machine.folder / "one"), format="if-blank", fstype="xfs").ok
        assert machine.agent.call("detach", {"volume_id": item}).ok
        two, twin = machine.volume()
        subprocess.run(["dd", f"if={device}", f"of={twin}", "bs=1M", "status=none"], check=True)
        assert machine.attach(item, str(machine.folder / "one")).ok
        assert machine.attach(two, str(machine.folder / "two")).ok
        (line,) = [x for x in machine.fstab.splitlines() if two in x]
        assert line.startswith(f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{two.replace('-', '')} ")
        assert "nouuid" in line.split()[3].split(",")
