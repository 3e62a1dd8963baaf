"""Volumes from snapshots whose blocks are slow until they are first read."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.sandbox.ebs.lazy_blocks import BLOCK_BYTES, LazyBlocks
from runctl.sandbox.fault_client import Faults
from tests.sandbox.account import Account, Machine, until
from tests.sandbox.conftest import Launch, MakeVolume

NOON = 1_800_000_000.0
READ = "dd if=/dev/sdg of=/dev/null bs=512K iflag=direct status=none"
BLOCKS = 40
FILL = f"dd if=/dev/urandom of=/dev/sdf bs=512K count={BLOCKS} oflag=direct status=none"


def seconds_of(machine: Machine, script: str) -> float:
    begun = time.monotonic()
    machine.root(script)
    return time.monotonic() - begun


def progress(account: Account, volume: str) -> int:
    (row,) = account.ec2.describe_volume_status(VolumeIds=[volume])["VolumeStatuses"]
    return int(row["InitializationStatusDetails"]["Progress"])


def filled(account: Account, machine: Machine, volume: str) -> str:
    """A snapshot with data in its first blocks."""
    machine.attach(volume)
    machine.root(FILL)
    return str(account.snapshot(volume)["SnapshotId"])


@pytest.mark.namespaces
def test_first_reads_are_slow_side_by_side_they_are_not_and_second_ones_are_fast(
    account: Account, launch: Launch, make_volume: MakeVolume, faults: Faults
) -> None:
    machine = launch()
    snapshot = filled(account, machine, make_volume())
    faults.lazy_blocks(0.1)
    volume = make_volume(SnapshotId=snapshot)
    machine.attach(volume, "/dev/sdg")

    one_by_one = seconds_of(machine, f"{READ} count=20")
    halfway = progress(account, volume)
    beside = " ".join(f"{READ} skip={20 + part * 5} count=5 &" for part in range(4))
    side_by_side = seconds_of(machine, f"{beside} wait")
    second = seconds_of(machine, f"{READ} count={BLOCKS}")

    assert one_by_one >= 2.0
    assert 0.5 <= side_by_side < one_by_one
    assert second < one_by_one
    assert 40 <= halfway <= 60
    until(lambda: progress(account, volume) == 100, "the volume to be initialized")
    assert machine.root("cmp -n 30000000 /dev/sdf /dev/sdg && echo same").strip() == "same"
    account.ec2.delete_snapshot(SnapshotId=snapshot)


@pytest.mark.namespaces
def test_a_lazy_volume_is_a_volume_like_any_other(
    account: Account, launch: Launch, make_volume: MakeVolume, faults: Faults
) -> None:
    machine, source = launch(), make_volume()
    machine.attach(source)
    machine.root(
        "mkfs.xfs -q /dev/sdf; mkdir -p /mnt/data; mount /dev/sdf /mnt/data; echo kept > /mnt/data/file"
    )
    machine.root("umount /mnt/data")
    snapshot = account.snapshot(source)["SnapshotId"]
    faults.lazy_blocks(0.01)
    volume = make_volume(SnapshotId=snapshot)

    machine.attach(volume, "/dev/sdg")
    machine.root("mount -o nouuid /dev/sdg /mnt/data; echo new > /mnt/data/new; sync")
    account.ec2.modify_volume(VolumeId=volume, Size=2)
    until(lambda: int(machine.root("blockdev --getsize64 /dev/sdg")) == 2 << 30, "the disk to have grown")
    machine.root("xfs_growfs /mnt/data >/dev/null; fallocate -l 1200M /mnt/data/large; rm /mnt/data/large")
    machine.root("umount /mnt/data")
    account.ec2.detach_volume(VolumeId=volume)
    account.wait_volume(volume, "available")
    other = launch()
    other.attach(volume)

    assert other.root(
        "mkdir -p /mnt/data; mount /dev/sdf /mnt/data; cat /mnt/data/file /mnt/data/new"
    ).split() == [
        "kept",
        "new",
    ]
    account.ec2.delete_snapshot(SnapshotId=snapshot)


@pytest.mark.namespaces
def test_blocks_come_by_themselves_at_the_rate_that_is_paid_for(
    account: Account, launch: Launch, make_volume: MakeVolume, faults: Faults
) -> None:
    machine = launch()
    snapshot = filled(account, machine, make_volume())
    faults.lazy_blocks(0.1)

    slow = make_volume(SnapshotId=snapshot)
    paid = make_volume(SnapshotId=snapshot, VolumeInitializationRate=100)
    until(lambda: progress(account, paid) == 100, "20 MiB to come at 100 MiB/s")
    machine.attach(paid, "/dev/sdg")

    machine.root(f"{READ} count={BLOCKS}")
    assert progress(account, slow) == 0
    account.ec2.delete_snapshot(SnapshotId=snapshot)


@pytest.mark.namespaces
def test_a_lazy_volume_outlives_its_machines_sudden_end(
    account: Account, launch: Launch, make_volume: MakeVolume, faults: Faults
) -> None:
    machine = launch()
    snapshot = filled(account, machine, make_volume())
    faults.lazy_blocks(0.05)
    volume = make_volume(SnapshotId=snapshot)
    machine.attach(volume, "/dev/sdg")
    machine.root(f"{READ} count=4; nohup {READ} skip=4 >/dev/null 2>&1 &")

    faults.kill_instance(machine.id)
    account.wait_volume(volume, "available")
    other = launch()
    other.attach(volume, "/dev/sdg")

    assert 0 < progress(account, volume) < 100
    other.root(f"{READ} count={BLOCKS}")
    account.ec2.delete_snapshot(SnapshotId=snapshot)


@pytest.mark.namespaces
def test_a_volume_is_lazy_only_where_that_was_asked_for(
    account: Account, launch: Launch, make_volume: MakeVolume
) -> None:
    machine = launch()
    snapshot = filled(account, machine, make_volume())

    volume = make_volume(SnapshotId=snapshot)
    machine.attach(volume, "/dev/sdg")

    machine.root(f"{READ} count={BLOCKS}")
    assert list((account.info.home / "volumes").glob(f"{volume}.*"))
    assert not list((account.info.home / "volumes").glob("*.lazy"))
    account.ec2.delete_snapshot(SnapshotId=snapshot)


def test_a_block_is_slow_once() -> None:
    lazy = LazyBlocks.of([0, 1, 5], latency=2.0, rate=0, now=NOON)

    assert lazy.wait(0, 10, NOON) == 2.0
    assert lazy.wait(100, 10, NOON + 1.5) == 0.5
    assert lazy.wait(0, 10, NOON + 2) == 0
    assert lazy.wait(0, 2 * BLOCK_BYTES, NOON + 2) == 2.0
    assert lazy.wait(3 * BLOCK_BYTES, BLOCK_BYTES, NOON) == 0
    assert lazy.missing(NOON + 2) == 2


def test_a_block_that_is_written_whole_need_not_come() -> None:
    lazy = LazyBlocks.of(range(4), latency=2.0, rate=0, now=NOON)

    lazy.overwrite(BLOCK_BYTES // 2, 2 * BLOCK_BYTES)

    assert [lazy.is_fast(index, NOON) for index in range(4)] == [False, True, False, False]


def test_a_rate_goes_through_the_blocks_in_order() -> None:
    lazy = LazyBlocks.of([3, 7, 9], latency=1.0, rate=BLOCK_BYTES, now=NOON)

    assert [lazy.missing(NOON + seconds) for seconds in range(4)] == [3, 2, 1, 0]
    assert [lazy.is_fast(index, NOON + 2) for index in (3, 7, 9)] == [True, True, False]


@given(st.sets(st.integers(0, 50)), st.lists(st.tuples(st.integers(0, 50), st.integers(1, 3))))
def test_what_was_saved_is_what_is_loaded(written: set[int], reads: list[tuple[int, int]]) -> None:
    lazy = LazyBlocks.of(sorted(written), latency=1.0, rate=0, now=NOON)
    for index, count in reads:
        lazy.wait(index * BLOCK_BYTES, count * BLOCK_BYTES, NOON)
        lazy.wait(index * BLOCK_BYTES, count * BLOCK_BYTES, NOON + 1)

    with TemporaryDirectory() as folder:
        lazy.save(Path(folder, "state"), NOON + 1)
        loaded = LazyBlocks.load(Path(folder, "state"))

    assert loaded is not None
    touched = {index + more for index, count in reads for more in range(count)}
    assert loaded.missing(NOON) == lazy.missing(NOON) == len(written - touched)


def test_what_never_was_lazy_is_not(tmp_path: Path) -> None:
    assert LazyBlocks.load(tmp_path / "absent") is None
