"""Docker on the instance store: when, and what is left alone."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runctl.agent import docker_root
from runctl.agent.disks import probe
from runctl.agent.disks.decision import INSTANCE_STORE, PROBES, Facts, Partition, Signature
from runctl.agent.docker_root import DATA_ROOT, DEFAULT_ROOT, LABEL, Keep, Move, Situation, Store, decide
from runctl.agent.errors import AgentError

FRESH = Situation(DEFAULT_ROOT, containers=0, images=0, running=0, settings={}, restartable=True)


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
    ("now", "words"),
    [
        ({"images": 1}, "1 image(s)"),
        ({"containers": 2}, "2 container(s)"),
        ({"running": 1}, "running"),
        ({"data_root": "/data/docker"}, "somebody has put it at /data/docker"),
        ({"settings": {"data-root": DEFAULT_ROOT}}, "somebody has put it"),
        ({"settings": None}, "cannot be read"),
        ({"restartable": False}, "systemctl"),
    ],
)
def test_what_somebody_has_is_not_moved(now: dict[str, object], words: str) -> None:
    found = decide(dataclasses.replace(FRESH, **now), [blank()])  # type: ignore[arg-type]
    assert isinstance(found, Keep)
    assert words in found.why


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
    now = dataclasses.replace(FRESH, data_root=str(DATA_ROOT), settings={"data-root": str(DATA_ROOT)})
    assert decide(now, [store]) == Move("/dev/nvme1n1", format=False)


def test_after_a_stop_the_disk_is_blank_and_made_again() -> None:
    now = dataclasses.replace(
        FRESH, data_root=str(DATA_ROOT), images=3, settings={"data-root": str(DATA_ROOT)}
    )
    assert decide(now, [blank()]) == Move("/dev/nvme1n1", format=True)
    assert decide(dataclasses.replace(now, mounted=True), [blank()]) == Keep()


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A blank disk, and places of this test's own for its mount and the engine's settings."""
    image = tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    argv = ["losetup", "--find", "--show", str(image)]
    device = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    monkeypatch.setattr(docker_root, "POINT", tmp_path / "point")
    monkeypatch.setattr(docker_root, "DATA_ROOT", tmp_path / "point" / "docker")
    monkeypatch.setattr(docker_root, "SETTINGS", tmp_path / "etc" / "daemon.json")
    try:
        yield device
    finally:
        subprocess.run(["umount", str(tmp_path / "point")], capture_output=True, check=False)
        subprocess.run(["losetup", "--detach", device], check=True)


@pytest.mark.linux
@pytest.mark.root
@pytest.mark.namespaces
def test_the_disk_is_made_and_the_engine_told_and_other_settings_stay(disk: str) -> None:
    docker_root.SETTINGS.parent.mkdir()
    docker_root.SETTINGS.write_text('{"log-level": "warn"}')
    facts = probe.look(disk, is_system_disk=False, spacing_seconds=0)
    what = decide(FRESH, [Store(dataclasses.replace(facts, model=INSTANCE_STORE))])
    assert what == Move(disk, format=True)
    calls: list[str] = []
    docker_root.carry_out(what, lambda: calls.append("restarted"))
    settings = json.loads(docker_root.SETTINGS.read_text())
    assert settings == {"log-level": "warn", "data-root": str(docker_root.DATA_ROOT)}
    assert calls == ["restarted"]
    assert docker_root.POINT.is_mount()
    assert docker_root.DATA_ROOT.is_dir()


@pytest.mark.linux
@pytest.mark.root
@pytest.mark.namespaces
def test_an_engine_that_does_not_come_up_is_put_back(disk: str) -> None:
    seen: list[bool] = []

    def restart() -> None:
        seen.append(docker_root.SETTINGS.exists())
        if docker_root.SETTINGS.exists():
            raise AgentError("no-docker", "it does not answer")

    with pytest.raises(AgentError, match="does not start"):
        docker_root.carry_out(Move(disk, format=True), restart)
    assert seen == [True, False]
    assert not docker_root.POINT.is_mount()
