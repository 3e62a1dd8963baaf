"""Stop, start, reboot, terminate, and machines that go down by themselves."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from runctl.sandbox.ec2.lifecycle import Lifecycle
from runctl.sandbox.machines.machine import BootFailed
from tests.sandbox.account import Account, Machine, code_of, until
from tests.sandbox.conftest import Launch

pytestmark = pytest.mark.namespaces

Run = Callable[..., dict[str, Any]]
UPTIME = "cut -d ' ' -f 22 /proc/1/stat"
"""When the machine's first process was started, in hundredths of a second."""


def test_a_terminated_instance_has_ended_by_the_users_wish(account: Account, run_instances: Run) -> None:
    instance_id = run_instances()["InstanceId"]
    account.wait_state(instance_id, "running")

    answer = account.ec2.terminate_instances(InstanceIds=[instance_id])["TerminatingInstances"][0]

    assert answer["CurrentState"]["Name"] == "shutting-down"
    assert answer["PreviousState"]["Name"] == "running"
    described = account.wait_state(instance_id, "terminated")
    assert described["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    assert "PublicIpAddress" not in described


def test_terminating_one_that_is_still_pending_leaves_nothing(account: Account, run_instances: Run) -> None:
    instance_id = run_instances()["InstanceId"]

    account.ec2.terminate_instances(InstanceIds=[instance_id])

    account.wait_state(instance_id, "terminated")
    assert not (account.info.home / "machines" / instance_id).exists()


def test_terminating_twice_is_fine(account: Account, run_instances: Run) -> None:
    instance_id = run_instances()["InstanceId"]
    account.ec2.terminate_instances(InstanceIds=[instance_id])
    account.wait_state(instance_id, "terminated")

    answer = account.ec2.terminate_instances(InstanceIds=[instance_id])["TerminatingInstances"][0]

    assert answer["CurrentState"]["Name"] in {"terminated", "shutting-down"}
    assert account.state(instance_id) == "terminated"


def test_the_root_volume_goes_with_the_instance(account: Account, run_instances: Run) -> None:
    instance_id = run_instances()["InstanceId"]
    described = account.wait_state(instance_id, "running")
    (root,) = [m["Ebs"]["VolumeId"] for m in described["BlockDeviceMappings"]]

    account.ec2.terminate_instances(InstanceIds=[instance_id])
    account.wait_state(instance_id, "terminated")

    with pytest.raises(ClientError) as refused:
        account.volume(root)
    assert code_of(refused.value) == "InvalidVolume.NotFound"


def test_processes_are_asked_to_end_before_they_are_ended(
    account: Account, launch: Launch, make_volume: Callable[..., str]
) -> None:
    machine, volume = launch(), make_volume()
    machine.attach(volume)
    machine.root("mkfs.ext4 -q /dev/sdf; mkdir /mnt/data; mount /dev/sdf /mnt/data; chmod 777 /mnt/data")
    machine.run(
        "nohup sh -c 'trap \"echo asked > /mnt/data/note; exit\" TERM; while :; do sleep 0.05; done'"
        " > /dev/null 2>&1 < /dev/null &"
    )

    account.ec2.terminate_instances(InstanceIds=[machine.id])
    account.wait_state(machine.id, "terminated")

    account.wait_volume(volume, "available")
    other = launch()
    other.attach(volume)
    assert other.root("mkdir /mnt/data; mount /dev/sdf /mnt/data; cat /mnt/data/note").strip() == "asked"


def test_a_stopped_instance_has_its_disk_when_it_starts_again(account: Account, launch: Launch) -> None:
    machine = launch(UserData="#!/bin/sh\necho x >> /var/lib/boots\n")
    machine.run("cloud-init status --wait; echo kept > ~/file")
    key = machine.run("cat /etc/ssh/ssh_host_ed25519_key.pub")

    account.ec2.stop_instances(InstanceIds=[machine.id])
    stopped = account.wait_state(machine.id, "stopped")
    account.ec2.start_instances(InstanceIds=[machine.id])
    second = Machine(account, account.wait_state(machine.id, "running"), "ec2-user")

    assert stopped["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    assert "PublicIpAddress" not in stopped
    assert second.run("cat ~/file").strip() == "kept"
    assert second.run("cat /etc/ssh/ssh_host_ed25519_key.pub") == key
    assert second.run("cat /var/lib/boots").split() == ["x"]


def test_one_that_is_stopped_while_it_boots_is_stopped_and_can_be_started(
    account: Account, run_instances: Run
) -> None:
    instance_id = run_instances()["InstanceId"]

    account.ec2.stop_instances(InstanceIds=[instance_id])

    account.wait_state(instance_id, "stopped")
    account.ec2.start_instances(InstanceIds=[instance_id])
    account.wait_state(instance_id, "running")


def test_a_spot_instance_of_a_one_time_request_cannot_be_stopped(
    account: Account, run_instances: Run
) -> None:
    instance_id = run_instances(InstanceMarketOptions={"MarketType": "spot"})["InstanceId"]
    account.wait_state(instance_id, "running")

    with pytest.raises(ClientError) as refused:
        account.ec2.stop_instances(InstanceIds=[instance_id])

    assert code_of(refused.value) == "UnsupportedOperation"


def test_a_rebooted_instance_has_its_disk_and_new_processes(account: Account, launch: Launch) -> None:
    machine = launch()
    before = machine.run(f"echo kept > ~/file; touch /run/user-was-here 2>/dev/null; {UPTIME}")

    account.ec2.reboot_instances(InstanceIds=[machine.id])

    until(lambda: _uptime(machine) not in {"", before}, "the machine to be up again")
    assert machine.run("cat ~/file").strip() == "kept"
    assert account.state(machine.id) == "running"


def _uptime(machine: Machine) -> str:
    done = machine.ssh(UPTIME)
    return done.stdout if done.returncode == 0 else ""


def test_at_a_reboot_a_link_that_the_machine_has_made_leads_to_nothing_of_this_computer(
    account: Account, launch: Launch
) -> None:
    machine = launch()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        outside = Path(place)
        for name in ("sbin/cloud-init", "library/engine.json", "up"):
            (outside / name).parent.mkdir(exist_ok=True)
            (outside / name).write_text("this computer's")
        before = machine.run(UPTIME)
        machine.root(
            f"""move() {{ mv "$1" "{place}/$2" && ln -s "{place}/$2" "$1"; }}
mkdir -p {place}
move /usr/local/sbin sbin
move /usr/lib/runctl-sandbox library
move /var/lib/runctl-sandbox-up up"""
        )

        account.ec2.reboot_instances(InstanceIds=[machine.id])

        until(lambda: _uptime(machine) not in {"", before}, "the machine to be up again")
        assert {
            file.name: file.read_text() for file in outside.rglob("*") if file.is_file()
        } == dict.fromkeys(("cloud-init", "engine.json", "up"), "this computer's")
        assert len(list(outside.rglob("*"))) == 5
        assert machine.run("readlink /usr/local/sbin && cloud-init status") == f"{place}/sbin\nstatus: done\n"


def test_a_reboot_from_inside_comes_back(account: Account, launch: Launch) -> None:
    machine = launch()
    before = machine.run(UPTIME)

    machine.ssh("sudo reboot")

    until(lambda: _uptime(machine) not in {"", before}, "the machine to be up again")


@pytest.mark.parametrize("command", ["shutdown -h now", "shutdown -P now", "poweroff", "halt"])
def test_a_machine_that_shuts_itself_down_is_terminated_where_it_was_told_to(
    account: Account, launch: Launch, command: str
) -> None:
    machine = launch(InstanceInitiatedShutdownBehavior="terminate")

    machine.ssh(f"sudo {command}")

    described = account.wait_state(machine.id, "terminated")
    assert described["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"


def test_a_machine_that_shuts_itself_down_is_stopped_otherwise(account: Account, launch: Launch) -> None:
    machine = launch()
    machine.run("echo kept > ~/file")

    machine.ssh("sudo shutdown -h now")

    described = account.wait_state(machine.id, "stopped")
    assert described["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    account.ec2.start_instances(InstanceIds=[machine.id])
    second = Machine(account, account.wait_state(machine.id, "running"), "ec2-user")
    assert second.run("cat ~/file").strip() == "kept"


def test_a_shutdown_planned_for_later_can_be_called_off(account: Account, launch: Launch) -> None:
    machine = launch(InstanceInitiatedShutdownBehavior="terminate")

    word, at = machine.run("sudo shutdown -h +1 && cat /run/runctl-sandbox/power").split()
    assert word == "poweroff"
    assert 50 < float(at) - time.time() < 70
    assert "shutdown" not in machine.run("ps -eo args")

    machine.run("sudo shutdown -c")
    assert "power" not in machine.run("ls /run/runctl-sandbox")


def test_a_shutdown_planned_for_later_happens_then(account: Account, launch: Launch) -> None:
    machine = launch(InstanceInitiatedShutdownBehavior="terminate")

    machine.run(
        "sudo shutdown -h +1 && sudo sh -c 'echo poweroff $(($(date +%s) + 2)) > /run/runctl-sandbox/power'"
    )

    assert account.state(machine.id) == "running"
    account.wait_state(machine.id, "terminated")


def test_a_shutdown_planned_for_now_by_a_plus_zero_happens(account: Account, launch: Launch) -> None:
    machine = launch(InstanceInitiatedShutdownBehavior="terminate")

    machine.ssh("sudo shutdown -h +0")

    account.wait_state(machine.id, "terminated")


def test_only_root_can_shut_a_machine_down(account: Account, launch: Launch) -> None:
    machine = launch(InstanceInitiatedShutdownBehavior="terminate")

    done = machine.ssh("shutdown -h now")

    assert done.returncode != 0
    assert machine.run("id -un").strip() == "ec2-user"


def test_an_unknown_instance_is_not_found(account: Account) -> None:
    for call in (account.ec2.terminate_instances, account.ec2.stop_instances, account.ec2.describe_instances):
        with pytest.raises(ClientError) as refused:
            call(InstanceIds=["i-0123456789abcdef0"])

        assert code_of(refused.value) == "InvalidInstanceID.NotFound"


def test_an_instance_that_has_ended_cannot_be_started(account: Account, run_instances: Run) -> None:
    instance_id = run_instances()["InstanceId"]
    account.ec2.terminate_instances(InstanceIds=[instance_id])
    account.wait_state(instance_id, "terminated")

    with pytest.raises(ClientError) as refused:
        account.ec2.start_instances(InstanceIds=[instance_id])

    assert code_of(refused.value) == "IncorrectInstanceState"


def test_a_protected_instance_is_not_terminated(account: Account, run_instances: Run) -> None:
    instance_id = run_instances()["InstanceId"]
    account.wait_state(instance_id, "running")
    account.ec2.modify_instance_attribute(InstanceId=instance_id, DisableApiTermination={"Value": True})

    with pytest.raises(ClientError) as refused:
        account.ec2.terminate_instances(InstanceIds=[instance_id])

    assert code_of(refused.value) == "OperationNotPermitted"
    assert account.state(instance_id) == "running"
    account.ec2.modify_instance_attribute(InstanceId=instance_id, DisableApiTermination={"Value": False})


@pytest.mark.parametrize("error", [BootFailed("no"), OSError("no"), ValueError("no"), KeyError("no")])
def test_an_instance_whose_machine_does_not_boot_is_not_pending_for_ever(error: Exception) -> None:
    removed = []

    def boot(*, first: bool) -> None:
        raise error

    instance = SimpleNamespace(
        id="i-1", changing=threading.RLock(), has_booted=False, _state=SimpleNamespace(name="pending")
    )
    backend = SimpleNamespace(
        world=SimpleNamespace(
            machine=lambda _: SimpleNamespace(boot=boot),
            faults=SimpleNamespace(boot_delay=0),
            begin_services=lambda *_: None,
        ),
        _move=lambda _, before, after: "pending" in before and after == "shutting-down",
        _remove=lambda _, code, message: removed.append((code, "no" in message)),
    )

    Lifecycle._boot(cast(Lifecycle, backend), instance)

    assert removed == [("Server.InternalError", True)]
