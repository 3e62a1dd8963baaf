"""Machines whose first process is systemd: user data, units, a run, every way in which one ends, and what is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runctl.sandbox import control
from runctl.sandbox.abilities import why_no_systemd
from runctl.sandbox.connection import SandboxInfo
from tests.e2e.command_line import CommandLine, write_project
from tests.sandbox.account import Account, Machine, until
from tests.sandbox.traces import traces
from tests.sandbox_fixture import lead_into

pytestmark = [pytest.mark.slow, pytest.mark.namespaces, pytest.mark.timeout(600)]

USER_DATA = """\
#cloud-config
users:
  - default
  - name: worker
    shell: /bin/bash
    sudo: ALL=(ALL) NOPASSWD:ALL
    ssh_authorized_keys: [KEY]
write_files:
  - path: /etc/systemd/system/counting.service
    content: |
      [Unit]
      Description=Counts its starts
      [Service]
      Type=oneshot
      RemainAfterExit=yes
      ExecStart=/bin/sh -c 'echo start >> /var/lib/counted; echo counted for the journal'
      [Install]
      WantedBy=multi-user.target
bootcmd:
  - echo booted >> /var/lib/bootcmds
runcmd:
  - systemctl daemon-reload
  - [systemctl, enable, --now, counting]
"""
TRAIN = """\
import os
print("trained by", os.environ["USER"] if "USER" in os.environ else os.getuid(), flush=True)
print("first process:", open("/proc/1/comm").read().strip(), flush=True)
"""


@pytest.fixture(scope="module")
def systemd_sandbox(
    tmp_path_factory: pytest.TempPathFactory, no_settings_of_the_user: None
) -> Iterator[SandboxInfo]:
    if reason := why_no_systemd():
        pytest.skip(reason)
    home = tmp_path_factory.mktemp("systemd") / "runctl" / "sandbox"
    before = host_state()
    try:
        yield control.start(home=home, kind="systemd")
    finally:
        control.stop(home=home)
    assert traces(home) == []
    assert host_state() == before


@pytest.fixture(scope="module")
def account(systemd_sandbox: SandboxInfo, tmp_path_factory: pytest.TempPathFactory) -> Account:
    return Account(systemd_sandbox, tmp_path_factory.mktemp("systemd-account"))


@pytest.fixture
def machine(account: Account) -> Iterator[Machine]:
    """With the user data above, ended after the test."""
    created = launched(account, InstanceInitiatedShutdownBehavior="stop")
    yield created
    if account.state(created.id) != "terminated":
        account.ec2.terminate_instances(InstanceIds=[created.id])
    account.wait_state(created.id, "terminated", 60)
    assert [found for found in groups() if created.id in found] == []


def launched(account: Account, **more: Any) -> Machine:
    public = account.key_file.with_suffix(".pub").read_text().strip()
    machine = account.launch(seconds=100, UserData=USER_DATA.replace("KEY", public), **more)
    wait_for_ssh(machine)
    return machine


def wait_for_ssh(machine: Machine) -> None:
    """An instance runs before its user data is carried out."""
    until(lambda: machine.ssh("true").returncode == 0, "SSH", 100)


def host_state() -> dict[str, str]:
    """What of this computer a careless first process would change."""
    return {
        "name": Path("/proc/sys/kernel/hostname").read_text(),
        "kernel's settings": Path("/proc/sys/kernel/core_pattern").read_text()
        + Path("/proc/sys/fs/file-max").read_text(),
        "formats": str(sorted(Path("/proc/sys/fs/binfmt_misc").glob("*"))),
        "mounts": "\n".join(
            sorted(line.split(" - ")[1] for line in Path("/proc/self/mountinfo").read_text().splitlines())
        ),
        "groups": "\n".join(groups()),
    }


def groups() -> list[str]:
    return sorted(str(path) for path in Path("/sys/fs/cgroup").rglob("runctl-sandbox/i-*"))


def started_again(account: Account, machine: Machine) -> None:
    account.ec2.start_instances(InstanceIds=[machine.id])
    account.wait_state(machine.id, "running", 100)
    wait_for_ssh(machine)


def test_it_boots_with_its_user_data_and_ends_in_every_way_as_ec2_says(
    account: Account, machine: Machine
) -> None:
    assert machine.run("cat /proc/1/comm") == "systemd\n"
    # Carried out once, by the time that cloud-init has ended.
    assert machine.run("sudo cloud-init status --wait") == "status: done\n"
    state = machine.ssh("systemctl is-system-running --wait; systemctl --failed --no-legend --plain")
    assert state.stdout == "running\n", machine.root("journalctl -b -p warning --no-pager")
    assert machine.run("systemctl is-active ssh counting dbus systemd-logind") == "active\n" * 4
    assert "counted for the journal" in machine.root("journalctl -u counting --no-pager")
    worker = Machine(account, account.describe(machine.id), "worker")
    assert worker.root("id -un") == "root\n"
    # A login is a session, with a manager of its own.
    assert "ec2-user" in machine.run("loginctl list-sessions --no-legend")
    assert machine.run("sudo systemd-run --quiet --wait --pipe echo from a unit") == "from a unit\n"
    # What the kernel shows and takes is the machine's own.
    assert machine.ssh("test -e /dev/kmsg || test -e /dev/loop-control").returncode == 1
    assert machine.run("sudo sh -c 'echo x > /proc/sys/kernel/hostname' 2>&1 || echo refused").endswith(
        "refused\n"
    )
    roots = set(machine.run("cut -d: -f3 /proc/1/cgroup").split())
    assert roots == {"/", "/init.scope"}

    machine.ssh("sudo systemctl reboot")
    until(lambda: machine.ssh("cat /var/lib/bootcmds").stdout == "booted\nbooted\n", "its second boot", 100)
    account.wait_state(machine.id, "running")
    account.ec2.reboot_instances(InstanceIds=[machine.id])
    until(lambda: machine.ssh("wc -l < /var/lib/bootcmds").stdout == "3\n", "its third boot", 100)
    account.wait_state(machine.id, "running")
    account.ec2.stop_instances(InstanceIds=[machine.id])
    account.wait_state(machine.id, "stopped", 60)
    started_again(account, machine)
    assert machine.run("wc -l < /var/lib/bootcmds; wc -l < /var/lib/counted") == "4\n4\n"
    # From inside it stops, as the launch said.
    machine.ssh("sudo poweroff")
    stopped = account.wait_state(machine.id, "stopped", 60)
    assert stopped["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    started_again(account, machine)
    # What is planned is carried out by logind.
    assert machine.ssh("sudo shutdown -P +60").returncode == 0
    assert "MODE=poweroff" in machine.root("cat /run/systemd/shutdown/scheduled")
    machine.root("shutdown -c")
    account.ec2.terminate_instances(InstanceIds=[machine.id])
    ended = account.wait_state(machine.id, "terminated", 60)
    assert ended["StateReason"]["Code"] == "Client.UserInitiatedShutdown"

    another = launched(account, InstanceInitiatedShutdownBehavior="terminate")
    another.ssh("sudo poweroff")
    ended = account.wait_state(another.id, "terminated", 60)
    assert ended["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"


def test_a_run_goes_over_ssh_and_ends_with_the_machine_that_was_rented_for_it(
    account: Account, systemd_sandbox: SandboxInfo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lead_into(systemd_sandbox, monkeypatch)
    project = write_project(tmp_path / "project", {"train.py": TRAIN})
    environment = {
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "RUNCTL_AWS_IDENTITY_FILE": str(account.key_file),
    }
    runctl = CommandLine(project, environment)
    way = ("--key-name", "tester", "--security-group", account.open_group, "--transport", "ssh")

    done = runctl(
        *("aws", "launch", "train.py", "--instance-type", "t3.medium", *way, "--no-checkpoint"),
        *("--no-results", "--yes", "--wait"),
        timeout=200,
    ).ok()

    assert "trained by ec2-user" in done.out
    assert "first process: systemd" in done.out
    found = account.ec2.describe_instances()["Reservations"]
    left = [each for group in found for each in group["Instances"] if each["State"]["Name"] != "terminated"]
    assert left == []


@pytest.mark.docker
def test_docker_is_a_unit_whose_socket_starts_it(machine: Machine) -> None:
    assert machine.run("systemctl is-active docker.socket; systemctl is-active docker || true") == (
        "active\ninactive\n"
    )
    said = machine.root("docker run --rm busybox echo from a container", timeout=120)
    assert said == "from a container\n"
    assert machine.run("systemctl is-active docker") == "active\n"
