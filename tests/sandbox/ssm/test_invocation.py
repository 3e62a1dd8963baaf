"""One SSM command on one machine, on a machine that is a folder: no root needed."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from runctl.sandbox.folders.machine import FolderMachine
from runctl.sandbox.ssm.invocation import FINAL, Gone, Invocation, Order, Progress, _verdict

INSTANCE = "i-0123456789abcdef0"
Start = Callable[..., Invocation]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[FolderMachine]:
    created = FolderMachine(tmp_path / "a machine", INSTANCE)
    created.create()
    yield created
    created.stop(grace_seconds=0)


@pytest.fixture
def start(machine: FolderMachine) -> Iterator[Start]:
    started: list[tuple[Invocation, threading.Thread]] = []

    def call(
        *commands: str,
        execution: float = 30,
        delivery: float = 30,
        folder: str = "",
        slots: threading.Semaphore | None = None,
        find: Any = None,
        keep: Any = None,
    ) -> Invocation:
        order = Order("c-1", INSTANCE, "us-east-1", commands, folder, execution, delivery)
        invocation = Invocation(
            order,
            find or (lambda: machine if machine.is_up else None),
            slots or threading.Semaphore(5),
            keep or (lambda _, __: None),
        )
        thread = threading.Thread(target=invocation.run)
        started.append((invocation, thread))
        thread.start()
        return invocation

    yield call
    for invocation, thread in started:
        invocation.cancel()
        thread.join(10)
        assert not thread.is_alive()


def until(condition: Callable[[], bool], what: str, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.01)


def end_of(invocation: Invocation) -> Progress:
    until(lambda: invocation.progress().status in FINAL, "the end")
    return invocation.progress()


def test_a_command_that_succeeds_has_its_output(start: Start) -> None:
    progress = end_of(start("echo out", "echo err >&2"))

    assert (progress.status, progress.details, progress.code) == ("Success", "Success", 0)
    assert (progress.stdout, progress.stderr) == (b"out\n", b"err\n")
    assert progress.started is not None
    assert progress.ended is not None
    assert progress.started <= progress.ended


def test_a_command_that_fails_says_so_in_its_code_and_at_the_end_of_stderr(start: Start) -> None:
    progress = end_of(start("echo err >&2", "exit 3"))

    assert (progress.status, progress.code) == ("Failed", 3)
    assert progress.stderr == b"err\nfailed to run commands: exit status 3"


def test_home_is_not_set_and_the_instance_is(start: Start) -> None:
    progress = end_of(start('echo "${HOME-unset} $AWS_SSM_INSTANCE_ID"'))

    assert progress.stdout.decode() == f"unset {INSTANCE}\n"


def test_a_first_line_that_names_an_interpreter_is_followed(start: Start) -> None:
    assert end_of(start("#!/usr/bin/env python3", "print(6 * 7)")).stdout == b"42\n"


def test_a_command_starts_in_the_folder_asked_for(start: Start, machine: FolderMachine) -> None:
    assert end_of(start("pwd", folder="/mnt")).stdout.decode() == f"{machine.root}/mnt\n"


def test_a_folder_that_is_not_there_fails_the_command(start: Start) -> None:
    progress = end_of(start("touch /nowhere", folder="/no/such/folder"))

    assert (progress.status, progress.code) == ("Failed", 1)
    assert b"/no/such/folder" in progress.stderr


def test_output_is_handed_out_at_the_end_only(start: Start, machine: FolderMachine) -> None:
    invocation = start('echo early; touch "$RUNCTL_MACHINE_ROOT/tmp/said"; sleep 60')
    until((machine.root / "tmp/said").exists, "the first word")

    assert (invocation.progress().status, invocation.progress().stdout) == ("InProgress", b"")


def test_outputs_are_cut_and_kept_whole(start: Start) -> None:
    kept: dict[str, int] = {}

    def keep(name: str, file: IO[bytes]) -> None:
        kept[name] = len(file.read())

    progress = end_of(start("head -c 30000 /dev/zero; head -c 10000 /dev/zero >&2", keep=keep))

    assert (len(progress.stdout), len(progress.stderr)) == (24000, 8000)
    assert kept == {"stdout": 30000, "stderr": 10000}


def test_an_output_that_is_empty_is_not_kept(start: Start) -> None:
    kept: list[str] = []

    end_of(start("echo one", keep=lambda name, _: kept.append(name)))

    assert kept == ["stdout"]


def test_a_command_that_takes_too_long_is_killed_with_its_children(
    start: Start, machine: FolderMachine
) -> None:
    progress = end_of(start("sleep 600 & echo started; wait", execution=0.5))

    assert (progress.status, progress.details, progress.code) == ("TimedOut", "ExecutionTimedOut", 137)
    assert progress.stdout == b"started\n"
    until(lambda: not machine.processes(), "its processes to end")


def test_a_cancelled_command_is_killed(start: Start, machine: FolderMachine) -> None:
    invocation = start('touch "$RUNCTL_MACHINE_ROOT/tmp/runs"; sleep 600')
    until((machine.root / "tmp/runs").exists, "the command")

    invocation.cancel()

    assert end_of(invocation).status == "Cancelled"
    until(lambda: not machine.processes(), "its processes to end")


def test_a_child_that_keeps_the_output_open_keeps_the_command_going(start: Start) -> None:
    progress = end_of(start("setsid sleep 600 & echo $! > $RUNCTL_MACHINE_ROOT/tmp/pid", execution=1))

    assert progress.details == "ExecutionTimedOut"


def test_a_child_with_outputs_of_its_own_outlives_the_command(start: Start, machine: FolderMachine) -> None:
    progress = end_of(start("setsid sleep 600 < /dev/null > /dev/null 2>&1 &"))

    assert progress.status == "Success"
    assert machine.processes()


def test_exit_code_137_is_taken_for_a_timeout(start: Start) -> None:
    progress = end_of(start("exit 137"))

    assert (progress.status, progress.code) == ("TimedOut", 137)


def test_a_script_killed_by_a_signal_failed(start: Start) -> None:
    assert end_of(start("kill -USR1 $$")).status == "Failed"


def test_a_shell_killed_by_a_signal_has_no_exit_code() -> None:
    status, _, code, complaint = _verdict(-signal.SIGUSR1)

    assert (status, code) == ("Failed", -1)
    assert complaint.startswith(b"failed to run commands: signal: ")


def test_a_command_waits_for_a_machine_that_is_away(start: Start, machine: FolderMachine) -> None:
    machine.stop(grace_seconds=0)
    invocation = start("echo here")
    assert invocation.progress().status == "Pending"

    machine.create()

    assert end_of(invocation).stdout == b"here\n"


def test_a_command_that_cannot_be_delivered_in_time_has_timed_out(
    start: Start, machine: FolderMachine
) -> None:
    machine.stop(grace_seconds=0)

    progress = end_of(start("echo here", delivery=0.2))

    assert (progress.status, progress.details, progress.code, progress.started) == (
        "TimedOut",
        "DeliveryTimedOut",
        -1,
        None,
    )


def test_a_command_for_a_machine_that_is_gone_is_undeliverable(start: Start) -> None:
    def find() -> None:
        raise Gone(INSTANCE)

    assert end_of(start("true", find=find)).status == "Undeliverable"


def test_a_pending_command_is_cancelled_without_running(start: Start, machine: FolderMachine) -> None:
    slots = threading.Semaphore(1)
    first = start("sleep 600", slots=slots)
    until(lambda: first.progress().status == "InProgress", "the first command")
    second = start('touch "$RUNCTL_MACHINE_ROOT/tmp/second"', slots=slots)

    second.cancel()

    assert (end_of(second).status, second.progress().started) == ("Cancelled", None)
    assert not (machine.root / "tmp/second").exists()


def test_a_command_whose_machine_dies_stays_in_progress_until_its_time_is_over(
    start: Start, machine: FolderMachine
) -> None:
    invocation = start('touch "$RUNCTL_MACHINE_ROOT/tmp/runs"; sleep 600', execution=1.5, delivery=0.5)
    until((machine.root / "tmp/runs").exists, "the command")

    machine.stop(grace_seconds=0)

    until(lambda: invocation._lost, "the loss to be seen", 5)
    assert invocation.progress().status == "InProgress"
    assert end_of(invocation).status == "TimedOut"
