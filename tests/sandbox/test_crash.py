"""Starting, stopping, crashing: a sandbox leaves nothing on the computer, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from runctl.core.errors import Conflict
from runctl.sandbox import control
from runctl.sandbox.connection import SandboxError, SandboxInfo
from runctl.sandbox.fault_client import Faults
from tests.sandbox.account import ZONE, Account, Machine, until
from tests.sandbox.ecr.images import Client, password_of
from tests.sandbox.traces import traces

pytestmark = pytest.mark.namespaces


@pytest.fixture
def home(tmp_path: Path) -> Generator[Path]:
    """A sandbox's folder, in which nothing runs after the test."""
    folder = tmp_path / uuid.uuid4().hex
    yield folder
    control.stop(home=folder)
    assert traces(folder) == []


def start(home: Path) -> SandboxInfo:
    """With the quickest machines."""
    return control.start(home=home, kind="namespaces", docker="off")


def occupied(info: SandboxInfo, folder: Path) -> Machine:
    """A machine with a mounted volume on which somebody writes, and an image in ECR."""
    account = Account(info, folder)
    ecr = account.client("ecr")
    address = ecr.create_repository(repositoryName="app")["repository"]["repositoryUri"]
    Client(address, password_of(ecr)).push_image("1")
    machine = account.launch()
    volume = account.ec2.create_volume(Size=1, AvailabilityZone=ZONE, VolumeType="gp3")["VolumeId"]
    account.wait_volume(volume, "available")
    machine.attach(volume)
    machine.root("mkfs.ext4 -q /dev/sdf; mkdir /mnt/data; mount /dev/sdf /mnt/data; chmod 777 /mnt/data")
    machine.run(
        "nohup sh -c 'trap \"\" TERM; while :; do date >> /mnt/data/log; done' >/dev/null 2>&1 </dev/null &"
    )
    return machine


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """The folder is a file system of its own while this lasts."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def kill_server(info: SandboxInfo) -> None:
    """As the kernel does when memory is short."""
    os.kill(info.pid, signal.SIGKILL)
    until(lambda: control.status(home=info.home) is None, "the server to be dead")


def test_a_stopped_sandbox_leaves_nothing(home: Path, tmp_path: Path) -> None:
    occupied(start(home), tmp_path)
    assert {line.split()[0] for line in traces(home)} >= {
        "process",
        "mount",
        "namespace",
        "device",
        "loop",
        "rule",
    }

    ended = control.stop(home=home)

    assert ended
    assert traces(home) == []
    assert control.status(home=home) is None


def test_a_crashed_one_is_cleaned_by_the_next_start_which_says_so(home: Path, tmp_path: Path) -> None:
    info = start(home)
    machine = occupied(info, tmp_path)
    kill_server(info)
    said: list[str] = []

    second = control.start(home=home, kind="namespaces", docker="off", report=said.append)

    assert second.pid != info.pid
    assert any(machine.id in line for line in said)
    account = Account(second, tmp_path / "again")
    assert account.ec2.describe_instances()["Reservations"] == []
    assert not any(machine.id in line for line in traces(home))


def test_a_crashed_one_with_a_disk_that_is_not_initialized_is_cleaned(home: Path, tmp_path: Path) -> None:
    info = start(home)
    machine = occupied(info, tmp_path)
    account = machine.account
    Faults(info).lazy_blocks(0.05)
    (source,) = account.ec2.describe_volumes(Filters=[{"Name": "attachment.device", "Values": ["/dev/sdf"]}])[
        "Volumes"
    ]
    lazy = account.ec2.create_volume(
        SnapshotId=account.snapshot(source["VolumeId"])["SnapshotId"], AvailabilityZone=ZONE, VolumeType="gp3"
    )["VolumeId"]
    account.wait_volume(lazy, "available")
    machine.attach(lazy, "/dev/sdg")
    machine.root("mkdir /mnt/lazy; mount /dev/sdg /mnt/lazy; nohup cat /dev/sdg >/dev/null 2>&1 &")
    assert any("lazy" in line for line in traces(home))
    kill_server(info)

    second = start(home)

    assert second.pid != info.pid
    assert not any("lazy" in line or machine.id in line for line in traces(home))


def test_one_that_crashed_before_it_wrote_down_anything_is_cleaned_by_stop(
    home: Path, tmp_path: Path
) -> None:
    """Also with a file system that is frozen, for which whoever ends it would wait for ever."""
    info = start(home)
    occupied(info, tmp_path).root("fsfreeze --freeze /mnt/data")
    kill_server(info)
    (home / "sandbox.json").unlink()

    control.stop(home=home)

    assert traces(home) == []


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"region": "eu-west-1"}, "region us-east-1, not eu-west-1"),
        ({"kind": "folders"}, "kind namespaces, not folders"),
        ({"docker": "on"}, "docker off, not on"),
    ],
)
def test_one_that_runs_is_not_taken_for_another(
    sandbox: SandboxInfo, asked: dict[str, Any], named: str
) -> None:
    with pytest.raises(Conflict, match=named) as refused:
        control.start(home=sandbox.home, **asked)

    assert "runctl sandbox stop" in refused.value.hint
    assert control.start(home=sandbox.home) == sandbox


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with mounted(tmp_path, "ro"), pytest.raises(SandboxError, match=f"{tmp_path}.*Read-only file system"):
        control.start(home=tmp_path / "sandbox")


def test_a_full_disk_is_named_before_anything_is_started(tmp_path: Path) -> None:
    with mounted(tmp_path, "size=1m"), pytest.raises(SandboxError, match="0 MiB are free"):
        (tmp_path / "large").write_bytes(bytes(1 << 19))
        control.start(home=tmp_path / "sandbox")


def test_two_who_start_at_once_get_the_same_sandbox(home: Path) -> None:
    got: list[SandboxInfo] = []
    starters = [threading.Thread(target=lambda: got.append(start(home))) for _ in range(2)]

    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()

    assert len(got) == 2
    assert got[0].pid == got[1].pid


def test_stopping_what_does_not_run_says_that_nothing_was_ended(home: Path) -> None:
    assert control.stop(home=home) == ()


def test_two_sandboxes_live_side_by_side(home: Path, tmp_path: Path) -> None:
    other_home = tmp_path / uuid.uuid4().hex
    try:
        first, other = start(home), start(other_home)
        machine, other_machine = occupied(first, tmp_path), occupied(other, _folder(tmp_path / "other"))
        assert machine.address != other_machine.address

        control.stop(home=other_home)

        assert traces(other_home) == []
        assert machine.run("hostname")
    finally:
        control.stop(home=other_home)


def _folder(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_what_the_sandbox_says_of_itself_is_kept_and_starting_twice_gives_the_same(home: Path) -> None:
    info = start(home)

    assert control.status(home=home) == info
    assert start(home) == info
    assert info.kind == "namespaces"
    assert any("Docker" in sentence for sentence in info.left_out)
    assert info.environment()["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:")
