"""Docker on the instance store: when, and what is left alone."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runctl.agent.containers import docker_root
from runctl.agent.containers.docker_root import DEFAULT_ROOT, LABEL, Keep, Move, Situation, Store, decide
from runctl.agent.disks import probe
from runctl.agent.disks.decision import INSTANCE_STORE, PROBES, Facts, Partition, Signature
from runctl.agent.errors import AgentError

FRESH = Situation(DEFAULT_ROOT, containers=0, images=0, running=0, restartable=True)


def blank(device: str = "/dev/nvme1n1", gib: int = 100, **more: object) -> Store:
    facts = Facts(device, True, gib << 30, (None,) * PROBES, model=INSTANCE_STORE)
    return Store(dataclasses.replace(facts, **more))  # type: ignore[arg-type]


def having(signature: Signature, label: str = "") -> Store:
    return Store(blank(signatures=(signature, signature)).facts, label)


def test_a_fresh_engine_moves_to_the_largest_blank_disk() -> None:
    assert decide(FRESH, [blank(), blank("/dev/nvme2n1", 200)]) == Move("/dev/nvme2n1", format=True)


def test_without_an_instance_store_there_is_nothing_to_say() -> None:
    assert decide(FRESH, []) == Keep()


@pytest.mark.parametrize(
    ("now", "phrase"),
    [
        ({"images": 1}, "it has 1 image and 0 containers"),
        ({"containers": 2}, "2 containers"),
        ({"running": 1}, "running"),
        ({"data_root": "/data/docker"}, "somebody has put it at /data/docker"),
        ({"restartable": False}, "systemctl"),
    ],
)
def test_what_somebody_has_is_not_moved(now: dict[str, object], phrase: str) -> None:
    found = decide(dataclasses.replace(FRESH, **now), [blank()])  # type: ignore[arg-type]
    assert isinstance(found, Keep)
    assert phrase in found.why


@pytest.mark.parametrize(
    "store",
    [
        having(Signature("ext4", "filesystem", uuid="1")),
        having(Signature("xfs", "filesystem", uuid="1")),
        having(Signature("linux_raid_member", "raid")),
        having(Signature("crypto_LUKS", "crypto")),
        having(Signature("swap", "other")),
        having(Signature(table="gpt")),
        blank(zeroed=False),
        blank(readable=False),
        blank(in_use=True),
        blank(read_only=True),
        blank(is_system_disk=True),
        blank(signatures=(None,)),
        blank(partitions=(Partition("/dev/nvme1n1p1", 1, Signature("ext4", "filesystem")),)),
    ],
)
def test_a_disk_that_is_not_provably_blank_is_never_formatted(store: Store) -> None:
    found = decide(FRESH, [store])
    assert isinstance(found, Keep)
    assert found.why


def test_after_a_reboot_the_disk_is_mounted_again_as_it_is() -> None:
    store = having(Signature("ext4", "filesystem", uuid="1"), LABEL)
    assert decide(FRESH, [store]) == Move("/dev/nvme1n1", format=False)


def test_a_disk_that_is_in_place_is_left_there() -> None:
    now = dataclasses.replace(FRESH, mounted=True, images=3, running=1)
    assert decide(now, [blank(in_use=True)]) == Keep()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[str]:
    """A blank disk; what is mounted at ``root`` is unmounted."""
    image = tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    argv = ["losetup", "--find", "--show", str(image)]
    device = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["umount", str(tmp_path / "root")], capture_output=True, check=False)
        subprocess.run(["losetup", "--detach", device], check=True)


@pytest.mark.linux
@pytest.mark.root
@pytest.mark.namespaces
def test_the_disk_is_made_and_in_place_before_the_engine_starts(disk: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    facts = probe.inspect(disk, is_system_disk=False, spacing_seconds=0)
    what = decide(FRESH, [Store(dataclasses.replace(facts, model=INSTANCE_STORE))])
    assert what == Move(disk, format=True)
    calls: list[str] = []

    def start() -> None:
        calls.append(f"start, mounted: {root.is_mount()}")

    docker_root.carry_out(what, root, lambda: calls.append("stop"), start)
    assert calls == ["stop", "start, mounted: True"]
    (root / "kept").write_text("an image")
    subprocess.run(["umount", str(root)], check=True)
    docker_root.carry_out(Move(disk, format=False), root, lambda: None, lambda: None)
    assert (root / "kept").read_text() == "an image"


@pytest.mark.linux
@pytest.mark.root
@pytest.mark.namespaces
def test_an_engine_that_does_not_come_up_is_put_back(disk: str, tmp_path: Path) -> None:
    root, seen = tmp_path / "root", list[bool]()

    def start() -> None:
        seen.append(root.is_mount())
        if root.is_mount():
            raise AgentError("no-docker", "it does not answer")

    with pytest.raises(AgentError, match="does not start"):
        docker_root.carry_out(Move(disk, format=True), root, lambda: None, start)
    assert seen == [True, False]
    assert not root.is_mount()
