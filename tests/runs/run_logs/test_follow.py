"""One loop follows a run: it knows "silent" from "gone" by its provider's word."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from runctl.agent.after_run import MachineEnd
from runctl.agent.encoding import dumps
from runctl.agent.end_reason import RETRIED, EndReason
from runctl.agent.spec import EndRecord, LogFrame, RunState
from runctl.core.database import Database
from runctl.core.errors import (
    CredentialsError,
    InstanceEnded,
    MachineError,
    NotFound,
    RunctlError,
    Unreachable,
    Unsupported,
)
from runctl.core.machine_models import InstanceState
from runctl.core.run_models import RunPhase
from runctl.machines.machine import Machine
from runctl.runs.end_report import exit_code
from runctl.runs.records.run_record import as_known
from runctl.runs.records.store import RunStore
from runctl.runs.records.updates import with_end
from runctl.runs.run_logs.follow import follow
from runctl.testing.clock import ManualClock
from runctl.transport.agent import AgentClient
from tests.runs.sample_runs import a_run


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    database = Database(tmp_path / "state.db")
    yield RunStore(database)
    database.close()


class Flaky:
    """A transport that is silent for its first connections; `runs` is how often a log was asked for."""

    streams = True

    def __init__(self, silent: int, log: bytes = b"") -> None:
        self.silent, self.log, self.asked, self.closed = silent, log, 0, 0

    def stream(
        self,
        argv: Sequence[str],
        *,
        stdin: BinaryIO,
        on_stdout: Callable[[bytes], None],
        on_stderr: Callable[[bytes], None],
    ) -> int:
        self.asked += 1
        if self.asked <= self.silent:
            raise Unreachable("no answer")
        end = EndRecord(EndReason.COMPLETED, 1.0, exit_code=0, log_bytes=len(self.log))
        on_stdout(dumps(LogFrame(0, len(self.log), RunState.RUNNING)).encode() + b"\n" + self.log)
        on_stdout(dumps(LogFrame(len(self.log), 0, RunState.ENDED, end, last=True)).encode() + b"\n")
        return 0

    def run(self, argv: Sequence[str], **_: Any) -> Any:
        raise Unreachable("no answer")

    def close(self) -> None:
        self.closed += 1


class Account:
    """A provider that knows one instance."""

    lent_bucket = Unsupported("it lends none")

    def __init__(
        self, state: InstanceState | None, *, interrupted: bool = False, ended_itself: bool = False
    ) -> None:
        self.state, self.interrupted, self.ended_itself, self.asked = state, interrupted, ended_itself, 0

    def instance(self, identifier: str) -> Any:
        self.asked += 1
        if self.state is None:
            raise NotFound(f"no {identifier}")
        seen = {"id": identifier, "state": self.state, "interrupted": self.interrupted}
        seen |= {"state_reason": None, "ended_at": None, "ended_itself": self.ended_itself}
        return type("Seen", (), seen)


def machine(transport: Flaky, account: Account, clock: ManualClock, folder: Path) -> Machine:
    (folder / "agent.pyz").write_text("")
    agent = AgentClient(transport, agent_file=folder / "agent.pyz", clock=clock)  # type: ignore[arg-type]
    instance = type("Seen", (), {"id": "i-0abc"})
    return Machine(account, instance, transport, agent)  # type: ignore[arg-type]


class Refusing(Flaky):
    """A way to the machine that fails in another manner than silence."""

    def __init__(self, error: Exception) -> None:
        super().__init__(silent=0)
        self.error = error

    def stream(self, *_: Any, **__: Any) -> int:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        NotFound("EC2 Instance Connect knows no such instance"),
        CredentialsError("another machine has the address and refuses us"),
        MachineError("half an answer"),
        InstanceEnded("the transport was told"),
    ],
)
@pytest.mark.parametrize("interrupted", [False, True])
def test_whatever_fails_it_is_the_provider_that_says_what_became_of_the_machine(
    error: RunctlError, interrupted: bool, store: RunStore, tmp_path: Path
) -> None:
    if isinstance(error, InstanceEnded):
        error = InstanceEnded(error.message, interrupted=interrupted)
    clock, account = ManualClock(), Account(InstanceState.TERMINATED, interrupted=interrupted)
    there = machine(Refusing(error), account, clock, tmp_path)

    followed = follow(a_run(), there, store, clock=clock, on_log=lambda _: None)

    assert followed.end is not None
    assert followed.end.reason is (EndReason.INTERRUPTED if interrupted else EndReason.LOST)
    assert store.get("run-aaaa").end_reason == followed.end.reason.value
    assert followed.machine_ended


def test_whoever_was_cut_off_until_the_machine_had_ended_itself_has_not_seen_the_end(
    store: RunStore, tmp_path: Path
) -> None:
    clock, account = ManualClock(), Account(InstanceState.TERMINATED, ended_itself=True)
    record = replace(a_run(), state=RunPhase.RUNNING, machine_end=MachineEnd())

    followed = follow(
        record, machine(Flaky(1000), account, clock, tmp_path), store, clock=clock, on_log=print
    )

    assert followed.end is not None
    assert followed.end.reason is store.get("run-aaaa").end_reason is EndReason.UNSEEN
    assert followed.end.reason not in RETRIED


@pytest.mark.parametrize("goes_on", [False, True])
def test_what_the_machine_has_told_somebody_else_counts_more_than_that_it_is_given_back(
    goes_on: bool, store: RunStore, tmp_path: Path
) -> None:
    """As where a run is moved while its log is followed: the machine that it has left is given back at once."""
    clock, record = ManualClock(), replace(a_run(), state=RunPhase.RUNNING)
    moved = with_end(record, EndRecord(EndReason.MOVED, 5.0, message="it continues elsewhere"))
    known = moved
    if goes_on:
        known = replace(record, attempt=2, past=(as_known(moved),))
    store.put(known)
    there = machine(Flaky(silent=1000), Account(InstanceState.TERMINATED), clock, tmp_path)

    followed = follow(record, there, store, clock=clock, on_log=lambda _: None)

    assert followed.end is not None
    assert (followed.end.reason, followed.end.message) == (EndReason.MOVED, "it continues elsewhere")
    assert followed.machine_ended
    assert store.get("run-aaaa") == known


@pytest.mark.parametrize(
    ("told", "code"),
    [
        (EndRecord(EndReason.FAILED, 5.0, signal=9), 137),
        (EndRecord(EndReason.FAILED, 5.0, exit_code=3), 3),
        (EndRecord(EndReason.COMPLETED, 5.0, exit_code=0), 0),
    ],
)
def test_an_end_that_somebody_else_has_heard_has_the_code_that_the_script_ended_with(
    told: EndRecord, code: int, store: RunStore, tmp_path: Path
) -> None:
    clock, record = ManualClock(), replace(a_run(), state=RunPhase.RUNNING)
    store.put(with_end(record, told))
    there = machine(Flaky(silent=1000), Account(InstanceState.TERMINATED), clock, tmp_path)

    followed = follow(record, there, store, clock=clock, on_log=lambda _: None)

    assert followed.end is not None
    assert exit_code(followed.end) == code


def test_a_machine_that_is_given_back_between_the_logs_end_and_the_last_question_has_told_its_end(
    store: RunStore, tmp_path: Path
) -> None:
    class GivenBack(Flaky):
        def run(self, argv: Sequence[str], **_: Any) -> Any:
            raise InstanceEnded("it is terminated")

    clock, record = ManualClock(), a_run()
    store.put(record)
    there = machine(GivenBack(0, b"all"), Account(InstanceState.TERMINATED), clock, tmp_path)
    followed = follow(record, there, store, clock=clock, on_log=lambda _: None)
    assert (followed.record.end_reason, store.get("run-aaaa").end_reason) == ("COMPLETED", "COMPLETED")


def test_an_error_on_a_machine_that_runs_is_the_error(store: RunStore, tmp_path: Path) -> None:
    clock, account = ManualClock(), Account(InstanceState.RUNNING)
    there = machine(Refusing(CredentialsError("no")), account, clock, tmp_path)

    with pytest.raises(CredentialsError):
        follow(a_run(), there, store, clock=clock, on_log=lambda _: None)


@pytest.mark.parametrize("state", [InstanceState.TERMINATED, InstanceState.STOPPED, None])
def test_a_run_is_lost_as_soon_as_the_provider_says_that_its_machine_is_gone(
    state: InstanceState | None, store: RunStore, tmp_path: Path
) -> None:
    clock = ManualClock()
    there = machine(Flaky(silent=1000), Account(state), clock, tmp_path)
    followed = follow(a_run(), there, store, clock=clock, on_log=lambda _: None)
    assert followed.end is not None
    assert followed.end.reason is EndReason.LOST
    assert store.get("run-aaaa").end_reason == "LOST"
    assert clock.monotonic() < 20


def test_a_silent_machine_that_the_provider_calls_running_is_not_lost(
    store: RunStore, tmp_path: Path
) -> None:
    clock, transport = ManualClock(), Flaky(silent=1000)
    there = machine(transport, Account(InstanceState.RUNNING), clock, tmp_path)
    with pytest.raises(Unreachable, match="may well go on"):
        follow(a_run(), there, store, clock=clock, on_log=lambda _: None, patience=timedelta(minutes=2))
    assert 120 <= clock.monotonic() < 140
    assert transport.closed


def test_a_machine_that_comes_back_is_followed_to_the_end(store: RunStore, tmp_path: Path) -> None:
    clock, account, seen = ManualClock(), Account(InstanceState.RUNNING), bytearray()
    there = machine(Flaky(silent=6, log=b"all of it"), account, clock, tmp_path)
    followed = follow(a_run(), there, store, clock=clock, on_log=seen.extend)
    assert (bytes(seen), followed.record.end_reason) == (b"all of it", "COMPLETED")
    assert account.asked
