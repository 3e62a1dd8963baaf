"""Machines that are folders: commands, volumes, shutdown and end, without root."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runctl.core.errors import Conflict
from runctl.sandbox.folders import processes as folder_processes
from runctl.sandbox.folders.machine import FolderMachine
from runctl.sandbox.folders.processes import Seen

VOLUME = "vol-0123456789abcdef0"


def until(condition: Callable[[], bool], what: str, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[FolderMachine]:
    created = FolderMachine(tmp_path / "machine", "i-0abc", metadata_endpoint="http://127.0.0.1:1338")
    created.create()
    yield created
    created.stop(grace_seconds=0)


def output(machine: FolderMachine, *command: str, code: int = 0) -> str:
    process = machine.popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    text, _ = process.communicate(timeout=20)
    assert process.returncode == code, text.decode()
    return text.decode().rstrip("\n")


def pid_in(path: Path) -> int:
    until(lambda: path.exists() and path.read_text().strip().isdigit(), f"a pid in {path}")
    return int(path.read_text())


def lives(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text() if sys.platform == "linux" else ""
        os.kill(pid, 0)
    except (ProcessLookupError, FileNotFoundError):
        return False
    return not stat.rpartition(")")[2].strip().startswith("Z")


def test_a_command_starts_at_home_as_the_login_user(machine: FolderMachine) -> None:
    assert output(machine, "sh", "-c", 'pwd; echo "$HOME"').splitlines() == [str(machine.home)] * 2


def test_a_command_finds_its_machine_and_nothing_of_the_computers_settings(
    machine: FolderMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mine")

    variables = dict(line.split("=", 1) for line in output(machine, "env").splitlines())

    assert variables["RUNCTL_MACHINE_ROOT"] == str(machine.root)
    assert variables["RUNCTL_AGENT_STATE"] == str(machine.root / "var/lib/runctl")
    assert variables["AWS_EC2_METADATA_SERVICE_ENDPOINT"] == "http://127.0.0.1:1338"
    assert variables["PATH"].startswith(str(machine.root / "bin"))
    assert "AWS_SECRET_ACCESS_KEY" not in variables


def test_a_working_directory_is_a_path_of_the_machine(machine: FolderMachine) -> None:
    process = machine.popen(["pwd"], cwd="/var/log", stdout=subprocess.PIPE)

    assert process.communicate()[0].decode().strip() == str(machine.root / "var/log")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["sudo", "-n", "true"], ""),
        (["sudo", "-n", "-H", "--", "echo", "a  b"], "a  b"),
        (["sudo", "-u", "ec2-user", "env", "A=1", "sh", "-c", "echo $A"], "1"),
        (["sudo", "A=2", "sh", "-c", "echo $A"], "2"),
        (["sudo", "-E", "-n", "--", "A=3", "sh", "-c", "echo $A"], "3"),
        (["runuser", "-u", "ec2-user", "--", "echo", "-n", "x"], "x"),
        (["runuser", "-l", "ec2-user", "-c", "echo y z"], "y z"),
        (["su", "-", "ec2-user", "-c", "echo w"], "w"),
    ],
)
def test_changing_user_runs_the_rest(machine: FolderMachine, command: list[str], expected: str) -> None:
    assert output(machine, *command) == expected


def test_a_command_under_sudo_keeps_its_exit_code(machine: FolderMachine) -> None:
    output(machine, "sudo", "-n", "sh", "-c", "exit 9", code=9)


@pytest.mark.parametrize("program", ["docker", "mount", "mkfs.ext4", "apt-get", "usermod"])
def test_what_would_act_on_the_computer_is_refused(machine: FolderMachine, program: str) -> None:
    assert "not available here" in output(machine, program, "whatever", code=127)


def test_systemctl_says_that_docker_is_not_available(machine: FolderMachine) -> None:
    assert output(machine, "systemctl", "is-active", "docker", code=3) == "inactive"
    assert "not available here" in output(machine, "systemctl", "start", "docker", code=5)


def test_user_data_runs_and_its_end_is_known(machine: FolderMachine) -> None:
    result = machine.run_user_data(b"#!/bin/sh\necho hello from $HOME\necho wrong >&2\n")

    assert result.exit_code == 0
    log = (machine.root / "var/log/cloud-init-output.log").read_text()
    assert log == f"hello from {machine.home}\nwrong\n"
    assert output(machine, "cloud-init", "status", "--wait") == "status: done"


def test_gzipped_user_data_runs(machine: FolderMachine) -> None:
    assert machine.run_user_data(gzip.compress(b"#!/bin/sh\nexit 4\n")).exit_code == 4


@pytest.mark.parametrize("script", [b"#!/bin/sh\nexit 3\n", b"#!/no/such/interpreter\n"])
def test_failed_user_data_is_an_error_in_cloud_inits_status(machine: FolderMachine, script: bytes) -> None:
    assert machine.run_user_data(script).exit_code != 0

    assert output(machine, "cloud-init", "status", "--wait", code=1) == "status: error"


def test_user_data_that_nobody_knows_is_not_run(machine: FolderMachine) -> None:
    assert machine.run_user_data(b"whatever\n").exit_code is None
    assert "not run" in (machine.root / "var/log/cloud-init-output.log").read_text()
    assert output(machine, "cloud-init", "status", "--wait") == "status: done"


@pytest.mark.parametrize("config", [b"runcmd: [true]", b"packages: [gcc]"])
def test_a_cloud_config_is_an_error_as_it_is_not_carried_out(machine: FolderMachine, config: bytes) -> None:
    assert machine.run_user_data(b"#cloud-config\n" + config).exit_code is None
    assert "not a script" in (machine.root / "var/log/cloud-init-output.log").read_text()
    assert output(machine, "cloud-init", "status", "--wait", code=1) == "status: error"


def test_shutdown_now_is_a_request_that_is_due(machine: FolderMachine) -> None:
    output(machine, "shutdown", "-h", "now")

    request = machine.shutdown_request()
    assert request is not None
    assert (request.action, request.at <= datetime.now(UTC)) == ("poweroff", True)


@pytest.mark.parametrize("arguments", [("-P", "+90"), ("+90",), ("90", "out of time")])
def test_a_later_shutdown_is_due_then(machine: FolderMachine, arguments: tuple[str, ...]) -> None:
    output(machine, "sudo", "-n", "shutdown", *arguments)

    request = machine.shutdown_request()
    assert request is not None
    expected = datetime.now(UTC) + timedelta(minutes=90)
    assert abs(request.at - expected) < timedelta(seconds=5)


def test_a_shutdown_can_be_taken_back(machine: FolderMachine) -> None:
    output(machine, "shutdown", "+5")
    output(machine, "shutdown", "-c")

    assert machine.shutdown_request() is None


@pytest.mark.parametrize("command", [("reboot",), ("shutdown", "-r", "now"), ("systemctl", "reboot")])
def test_a_reboot_is_told_from_a_poweroff(machine: FolderMachine, command: tuple[str, ...]) -> None:
    output(machine, *command)

    request = machine.shutdown_request()
    assert request is not None
    assert request.action == "reboot"


def test_an_attached_volume_is_found_by_its_id_and_by_its_device_name(
    machine: FolderMachine, tmp_path: Path
) -> None:
    (tmp_path / "volume").mkdir()

    machine.attach(VOLUME, tmp_path / "volume", "/dev/sdf")

    by_id = machine.root / "dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0"
    assert by_id.resolve() == (machine.root / "dev/sdf").resolve() == tmp_path / "volume"


def test_a_detached_volume_is_no_disk_of_the_machine_and_keeps_its_files(
    machine: FolderMachine, tmp_path: Path
) -> None:
    (tmp_path / "volume").mkdir()
    machine.attach(VOLUME, tmp_path / "volume", "/dev/sdf")
    (machine.root / "dev/sdf/kept").write_text("yes")

    machine.detach(VOLUME, "/dev/sdf")

    assert not list((machine.root / "dev/disk/by-id").iterdir())
    assert not (machine.root / "dev/sdf").is_symlink()
    assert (tmp_path / "volume/kept").read_text() == "yes"


def test_a_mounted_volume_is_not_detached(machine: FolderMachine, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    machine.attach(VOLUME, tmp_path / "volume")
    (machine.root / "mnt/data").symlink_to(tmp_path / "volume")

    with pytest.raises(Conflict, match=r"still mounted at /mnt/data"):
        machine.detach(VOLUME)

    machine.detach(VOLUME, force=True)
    assert not (machine.root / "mnt/data").is_symlink()


def test_stopping_ends_what_was_started(machine: FolderMachine) -> None:
    process = machine.popen(["sleep", "600"])

    machine.stop()

    assert process.wait(5) != 0
    assert machine.processes() == set()


DAEMON = """
import os, sys, time
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
open(sys.argv[1], "w").write(str(os.getpid()))
time.sleep(600)
"""


def test_stopping_ends_a_process_that_has_made_itself_a_daemon(
    machine: FolderMachine, tmp_path: Path
) -> None:
    machine.popen([sys.executable, "-c", DAEMON, str(tmp_path / "pid")])
    pid = pid_in(tmp_path / "pid")

    machine.stop()

    until(lambda: not lives(pid), "the daemon's end")


def test_stopping_ends_a_process_without_the_machines_variables(
    machine: FolderMachine, tmp_path: Path
) -> None:
    machine.popen(["sh", "-c", f"env -i sh -c 'echo $$ > \"{tmp_path}/pid\"; exec sleep 600' & exit"])
    pid = pid_in(tmp_path / "pid")

    machine.stop()

    until(lambda: not lives(pid), "its end")


def test_stopping_ends_a_process_that_ignores_the_request(machine: FolderMachine, tmp_path: Path) -> None:
    machine.popen(["sh", "-c", f'trap "" TERM; echo $$ > "{tmp_path}/pid"; while :; do sleep 1; done'])
    pid = pid_in(tmp_path / "pid")

    machine.stop(grace_seconds=0.2)

    until(lambda: not lives(pid), "its end")


def test_a_process_has_time_to_end_in_order(machine: FolderMachine, tmp_path: Path) -> None:
    # All its processes are asked at once: when the sleep ends first, the shell must still be there to be asked.
    loop = "while :; do sleep 600 & wait; done"
    script = f'trap \'echo saved > "{tmp_path}/saved"; exit\' TERM; echo $$ > "{tmp_path}/pid"; {loop}'
    machine.popen(["sh", "-c", script])
    pid_in(tmp_path / "pid")

    machine.stop(grace_seconds=5)

    assert (tmp_path / "saved").read_text() == "saved\n"


def test_stopping_one_machine_leaves_the_other(machine: FolderMachine, tmp_path: Path) -> None:
    # The other's folder begins like this one's.
    other = FolderMachine(tmp_path / "machine2", "i-0def")
    other.create()
    process = other.popen(["sleep", "600"])

    machine.stop()

    assert process.poll() is None
    other.destroy()
    assert process.wait(5) != 0


def test_a_machine_that_another_program_started_is_ended_too(machine: FolderMachine) -> None:
    process = machine.popen(["sleep", "600"])

    FolderMachine(machine.root, machine.instance_id).stop()

    assert process.wait(5) != 0


def test_a_destroyed_machine_leaves_no_file_but_its_volumes(machine: FolderMachine, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume/kept").touch()
    machine.attach(VOLUME, tmp_path / "volume")
    machine.popen(["sleep", "600"])

    machine.destroy()

    assert not machine.root.exists()
    assert (tmp_path / "volume/kept").exists()


def test_files_survive_a_stop_and_a_start(machine: FolderMachine) -> None:
    (machine.home / "work").write_text("done")

    machine.stop()
    machine.create()

    assert output(machine, "cat", "work") == "done"


def ask_agent(machine: FolderMachine, verb: str, **request: object) -> dict[str, Any]:
    process = machine.popen(
        [sys.executable, "-m", "runctl.agent", verb],
        env={"PYTHONPATH": str(Path(folder_processes.__file__).parents[2])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    answer: dict[str, Any] = json.loads(process.communicate(json.dumps(request).encode(), timeout=30)[0])
    return answer


def test_the_agent_mounts_a_volume_and_what_is_written_there_is_on_it(
    machine: FolderMachine, tmp_path: Path
) -> None:
    (tmp_path / "volume").mkdir()
    machine.attach(VOLUME, tmp_path / "volume", "/dev/sdf")
    parameters = {"volume_id": VOLUME, "mount_point": "/mnt/data", "fstype": "ext4", "format": "if-blank"}

    assert "ok" in ask_agent(machine, "attach", **parameters)
    (machine.path("/mnt/data") / "kept").write_text("yes")
    with pytest.raises(Conflict, match="/mnt/data"):
        machine.detach(VOLUME)
    assert "ok" in ask_agent(machine, "detach", volume_id=VOLUME)

    machine.detach(VOLUME, "/dev/sdf")
    assert (tmp_path / "volume/kept").read_text() == "yes"


def test_the_agent_finds_no_docker_and_says_why(machine: FolderMachine) -> None:
    docker = ask_agent(machine, "version")["ok"]["docker"]

    assert docker["available"] is False
    assert "no Docker" in docker["reason"]


AS_ORDINARY_USER = """
import os, subprocess, sys
from pathlib import Path
from runctl.sandbox.folders.machine import FolderMachine
os.setgroups([])
os.setgid(int(sys.argv[1]))
os.setuid(int(sys.argv[1]))
machine = FolderMachine(Path(os.environ["HOME"]) / "machine", "i-0abc")
machine.create()
sleeper = machine.popen(["sleep", "600"])
done = machine.popen(["sudo", "-n", "id", "-u"], stdout=subprocess.PIPE)
sys.stdout.write(done.communicate()[0].decode())
sys.stdout.write(str(machine.run_user_data(b"#!/bin/sh\\ntouch made\\n").exit_code) + "\\n")
machine.destroy()
sys.stdout.write(str(sleeper.wait(5)) + "\\n")
"""


@pytest.mark.root
@pytest.mark.linux
def test_it_all_works_for_an_ordinary_user() -> None:
    uid = 54321
    # pytest's own folders are closed to other users.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        home = Path(name)
        os.chown(home, uid, uid)
        done = subprocess.run(
            [sys.executable, "-c", AS_ORDINARY_USER, str(uid)],
            env={"HOME": name, "PATH": os.defpath},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout.split() == [str(uid), "0", "-9"], done.stdout + done.stderr
        assert not (home / "machine").exists()


def test_belonging_follows_mark_group_and_descent() -> None:
    seen = [
        Seen(10, 1, frozenset({10}), True),
        Seen(11, 10, frozenset({99}), False),
        Seen(12, 11, frozenset({99}), False),
        Seen(20, 1, frozenset({20, 5}), False),
        Seen(30, 1, frozenset({30}), False),
    ]

    assert folder_processes.members(seen, {5}) == {10, 11, 12, 20}


def test_the_one_who_looks_is_never_a_member() -> None:
    seen = [Seen(10, 1, frozenset({10}), True), Seen(11, 10, frozenset({10}), False)]

    assert folder_processes.members(seen, set(), never={10}) == set()


def test_a_process_table_of_ps_is_read_with_its_environments() -> None:
    table = (
        "  501     1   501 Ss   /bin/sleep 600 HOME=/x RUNCTL_MACHINE_ROOT=/m/i-1 LANG=C\n"
        "  502   501   501 S+   /bin/sleep 600 RUNCTL_MACHINE_ROOT=/m/i-12\n"
        "  503   501   501 Z    (sleep)\n"
        "  504     1   504 R\n"
    )

    assert folder_processes.parse_ps(table, "RUNCTL_MACHINE_ROOT=/m/i-1") == [
        Seen(501, 1, frozenset({501}), True),
        Seen(502, 501, frozenset({501}), False),
        Seen(504, 1, frozenset({504}), False),
    ]


def test_what_the_kernel_does_not_end_is_named() -> None:
    with pytest.raises(TimeoutError, match="4194999"):
        folder_processes.end(lambda: {4194999}, grace_seconds=0, limit_seconds=0.1)
