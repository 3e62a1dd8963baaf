"""A run whose volume fills up, turns read-only or goes away: real file systems on real loop devices."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.agent.attempt.end_decision import Facts, decide_end
from runctl.agent.disks.mount_watch import MountState, disk_name, judge, judge_start, name
from runctl.agent.disks.probe import there
from runctl.agent.end_reason import EndReason
from runctl.agent.spec import MountSpec
from tests.agent.disks.loop_machine import LINK, Machine

MOUNT = MountSpec("/mnt/data", "/data", False, "vol-0123456789abcdef0")
FINE = MountState("259:1", True, True, False)


def on_real_disks(test: Callable[..., None]) -> Callable[..., None]:
    for mark in (pytest.mark.linux, pytest.mark.root, pytest.mark.namespaces):
        test = mark(test)
    return test


LOOKS = st.builds(
    MountState, st.sampled_from(["", "259:1", "259:2"]), st.booleans(), st.booleans(), st.booleans()
)


@pytest.mark.parametrize(
    ("first", "now", "lost", "phrase"),
    [
        (FINE, FINE, None, ""),
        (FINE, MountState("259:1", True, False), True, "taken away"),
        (FINE, MountState("", False, False), True, "taken away"),
        (FINE, MountState("259:1", False, True), True, "its device is gone"),
        (FINE, MountState("259:1", True, True, True), False, "read-only"),
        # Out of sight, or another one in its place, and still attached: the container has it.
        (FINE, MountState("0:30", True, True), None, ""),
        # A disk without a serial, as Xen's have none.
        (MountState("202:80", True, False), MountState("202:80", True, False), None, ""),
        (MountState("202:80", True, False), MountState("202:80", False, False), True, "its device is gone"),
        # It was not there to begin with; `judge_start` says so.
        (MountState(), MountState(), None, ""),
    ],
)
def test_what_is_wrong_with_a_volume_is_told(
    first: MountState, now: MountState, lost: bool | None, phrase: str
) -> None:
    found = judge(MOUNT, first, now)

    assert (found.lost if found else None) is lost
    assert found is None or (
        phrase in found.message and "vol-0123456789abcdef0 at /mnt/data" in found.message
    )


@given(LOOKS)
def test_what_has_not_changed_is_no_trouble(check: MountState) -> None:
    assert judge(MOUNT, check, check) is None
    assert judge_start(MOUNT, check, check) is None


@given(LOOKS, LOOKS)
def test_a_script_is_never_started_on_another_file_system(first: MountState, now: MountState) -> None:
    if judge_start(MOUNT, first, now) is None:
        assert now.file_system == first.file_system
        assert now.known or not first.known


def test_what_cannot_be_looked_at_is_not_there() -> None:
    assert not there(Path("/sys/class/block") / ("x" * 300))
    assert there(Path("/sys/class/block"))


def test_a_mount_that_only_reads_does_not_mind_a_read_only_file_system() -> None:
    reading = MountSpec("/mnt/data", "/data", True, "vol-0123456789abcdef0")

    assert judge(reading, FINE, MountState("259:1", True, True, True)) is None


def test_a_disk_is_named_by_its_volume() -> None:
    inner = MountSpec("/mnt/data/cache", "/cache", False, "vol-0fedcba9876543210")
    mounts = [MOUNT, inner]

    assert (
        disk_name("/mnt/data/runs/r", mounts)
        == name(MOUNT)
        == ("volume vol-0123456789abcdef0 at /mnt/data (the script's /data)")
    )
    assert disk_name("/mnt/data/cache", mounts) == name(inner)
    assert disk_name("/var/lib/runctl", mounts) == "/var/lib/runctl"


@pytest.mark.parametrize(
    ("facts", "reason", "phrase"),
    [
        (
            Facts(1, None, volume_lost="gone"),
            EndReason.DATA_FAILED,
            "gone (the script failed with exit code 1)",
        ),
        (Facts(0, None, volume_lost="gone", lost_writable=True), EndReason.DATA_FAILED, "exit code 0"),
        (Facts(0, None, volume_lost="gone"), EndReason.COMPLETED, "exit code 0"),
        (Facts(1, None, volume_read_only="frozen", says_read_only=True), EndReason.DATA_FAILED, "frozen"),
        (Facts(1, None, volume_read_only="frozen"), EndReason.FAILED, "exit code 1; frozen"),
        (Facts(0, None, volume_read_only="frozen"), EndReason.COMPLETED, "exit code 0; frozen"),
        (Facts(1, None, disk_full="volume vol-1"), EndReason.FAILED, "; volume vol-1 has no room left"),
        (Facts(None, 9, requested=EndReason.STOPPED, volume_lost="gone"), EndReason.STOPPED, "told to end"),
    ],
)
def test_the_end_says_what_became_of_the_volume(facts: Facts, reason: EndReason, phrase: str) -> None:
    found, message = decide_end(facts)

    assert found is reason
    assert phrase in message


TICKS = "import time\nwhile True:\n    print('tick', flush=True)\n    time.sleep(0.1)\n"
WRITES = (
    "import os, time\nprint('tick', flush=True)\n"
    "while True:\n    open(os.environ['RUNCTL_DATA_DIR'] + '/x', 'w').write('x')\n    time.sleep(0.1)\n"
)
FILLS = (
    "import os\nwith open(os.environ['RUNCTL_DATA_DIR'] + '/big', 'wb') as f:\n"
    "    while True: f.write(bytes(1 << 22))\n"
)


@pytest.fixture
def started(machine: Machine) -> Callable[..., tuple[str, Path]]:
    """Start a run on a new volume: its id and its mount point."""

    def start(script: str, size_mib: int = 320) -> tuple[str, Path]:
        volume, _ = machine.volume(size_mib)
        point = machine.folder / "mnt"
        machine.attach(volume, str(point), format="if-blank").ok  # noqa: B018
        machine.agent.sync({"train.py": script})
        mount = {"source": str(point), "target": str(point), "volume_id": volume}
        machine.agent.start("r", "train.py", mounts=[mount], grace_seconds=2.0)
        return volume, point

    return start


@pytest.mark.parametrize(
    "script", [TICKS, TICKS.replace("while True", "for _ in range(10)")], ids=["ends-it", "ends"]
)
@on_real_disks
def test_a_volume_that_is_taken_away_ends_the_run(
    machine: Machine, started: Callable[..., tuple[str, Path]], script: str
) -> None:
    volume, point = started(script)
    machine.agent.says("r", "tick")

    machine.run("rm", f"/dev/disk/by-id/{LINK}{volume.replace('-', '')}")
    end = machine.agent.ended("r")

    assert end.reason is EndReason.DATA_FAILED, machine.agent.log("r")
    assert f"volume {volume} at {point} was taken away" in end.message


@on_real_disks
@pytest.mark.parametrize("how", ["remount", "error"])
def test_a_volume_that_turns_read_only_is_named(
    machine: Machine, started: Callable[..., tuple[str, Path]], how: str
) -> None:
    volume, point = started(WRITES)
    machine.agent.says("r", "tick")

    if how == "error":
        machine.run("mount", "-o", "remount,errors=remount-ro", str(point))
        device = machine.run("findmnt", "-n", "-o", "SOURCE", str(point)).split("/")[-1].strip()
        machine.run("sh", "-c", f"echo error > /sys/fs/ext4/{device}/trigger_fs_error")
    while how == "remount" and machine.agent.status("r").end is None:
        machine.run("mount", "-o", "remount,ro", str(point), check=False)
    end = machine.agent.ended("r")

    assert (end.reason, end.exit_code) == (EndReason.DATA_FAILED, 1), machine.agent.log("r")
    assert f"volume {volume} at {point} has become read-only" in end.message


@on_real_disks
def test_a_volume_that_is_full_is_named(machine: Machine, started: Callable[..., tuple[str, Path]]) -> None:
    volume, point = started(FILLS, 80)
    end = machine.agent.ended("r")

    assert (end.reason, end.exit_code) == (EndReason.DISK_FULL, 1), machine.agent.log("r")
    assert f"volume {volume} at {point}" in end.message


@on_real_disks
@pytest.mark.parametrize("change", ["unmounted", "replaced", "taken away", "read-only"])
def test_a_run_does_not_start_without_the_volume_that_it_was_planned_with(
    machine: Machine, change: str
) -> None:
    volume, _ = machine.volume()
    point = machine.folder / "mnt"
    machine.attach(volume, str(point), format="if-blank").ok  # noqa: B018
    machine.agent.sync({"train.py": ""})
    if change in {"unmounted", "replaced"}:
        machine.run("umount", str(point))
    if change == "replaced":
        other, _ = machine.volume()
        machine.attach(other, str(point), format="if-blank").ok  # noqa: B018
    if change == "taken away":
        machine.run("umount", str(point))
        machine.run("rm", f"/dev/disk/by-id/{LINK}{volume.replace('-', '')}")
    if change == "read-only":
        machine.run("mount", "-o", "remount,ro", str(point))

    mount = {"source": str(point), "target": "/runctl-test-data", "volume_id": volume}
    error = machine.agent.refused("r", "train.py", mounts=[mount])

    assert error["code"] == "bad-mount"
    assert "read-only" in error["message"] if change == "read-only" else volume in error["message"]
    assert not Path("/runctl-test-data").exists()


@on_real_disks
def test_two_that_attach_one_volume_at_once_format_it_once(machine: Machine) -> None:
    volume, _ = machine.volume()

    with ThreadPoolExecutor() as pool:
        calls = [pool.submit(machine.attach, volume, format="if-blank") for _ in range(3)]
        answers = [call.result().ok for call in calls]

    assert sorted(answer["formatted"] for answer in answers) == [False, False, True]
    assert len({answer["uuid"] for answer in answers}) == 1
    # Root makes nothing that the login user could not write to.
    assert not (machine.agent.state / "runs").exists()


@on_real_disks
def test_a_mount_inside_another_leaves_a_folder_of_the_users(machine: Machine) -> None:
    outer, _ = machine.volume()
    inner, _ = machine.volume()
    mounts = []
    for volume, point, target in ((outer, "a", "/runctl-test-a"), (inner, "b", "/runctl-test-a/deep/b")):
        machine.attach(volume, str(machine.folder / point), format="if-blank").ok  # noqa: B018
        mounts.append({"source": str(machine.folder / point), "target": target, "volume_id": volume})
    machine.agent.sync({"train.py": "open('/runctl-test-a/deep/b/x', 'w').write('x')\n"})

    machine.agent.start("r", "train.py", mounts=mounts)

    assert machine.agent.ended("r").reason is EndReason.COMPLETED, machine.agent.log("r")
    assert machine.run("ls", str(machine.folder / "b")).split() == ["lost+found", "x"]
    assert machine.run("ls", str(machine.folder / "a/deep")).split() == ["b"]


@on_real_disks
def test_results_go_to_the_volume_that_the_plan_named(machine: Machine) -> None:
    first, _ = machine.volume()
    second, _ = machine.volume()
    mounts = []
    for volume, point in ((first, "a"), (second, "b")):
        path = str(machine.folder / point)
        machine.attach(volume, path, format="if-blank").ok  # noqa: B018
        mounts.append({"source": path, "target": path, "volume_id": volume})
    machine.agent.sync({"train.py": "import os\nprint(os.environ['RUNCTL_DATA_DIR'])\n"})
    target = str(machine.folder / "b")

    machine.agent.start("r", "train.py", mounts=mounts, save_target=target, data_target=target)

    assert machine.agent.ended("r").reason is EndReason.COMPLETED, machine.agent.log("r")
    assert machine.agent.output("r") == [target]
    assert machine.run("ls", f"{target}/runs/r").split() == ["checkpoints", "logs", "output"]
