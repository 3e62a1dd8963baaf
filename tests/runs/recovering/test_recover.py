"""Every order of interruptions, silence, kills, stops and ends leaves one run with one end, and nothing rented."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runctl.agent import lease
from runctl.agent.after_run import MachineEnd
from runctl.agent.checkpoint_spec import CheckpointStatus, StoreSpec
from runctl.agent.checkpoints.layout import end_key
from runctl.agent.deadline_spec import DeadlineSpec
from runctl.agent.encoding import dumps
from runctl.agent.interruption import HandOff
from runctl.agent.spec import AttemptStatus, EndReason, EndRecord, RunSpec, RunState
from runctl.core.config import Config
from runctl.core.database import Database
from runctl.core.errors import (
    CapacityError,
    Conflict,
    InstanceEnded,
    MachineError,
    NotFound,
    RunctlError,
    Unreachable,
    Unsupported,
)
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance, InstanceState, Market
from runctl.core.progress import SILENT, Progress
from runctl.core.tags import ATTEMPT, INTENT
from runctl.machines.intents import IntentStore
from runctl.machines.session import Session
from runctl.providers.abilities.object_storage import ObjectStorage, ObjectVersion
from runctl.providers.capacity import RefusalListener, no_listener
from runctl.providers.interface import Check, CreatePlan, InstanceRequest, Provider, Renting
from runctl.runs import control
from runctl.runs.records.run_record import from_status, planned, with_its_machine
from runctl.runs.records.store import run_store
from runctl.runs.recovering import moving, recover, volumes
from runctl.runs.recovering.recover import Outcome, Recovered, recover_run
from runctl.runs.recovering.watching import watch_runs
from runctl.runs.recovery import RETRIED, RecoveryRules
from runctl.runs.run_logs import sources
from runctl.runs.run_logs.sources import KeptLog
from runctl.runs.stored import leases
from runctl.runs.stored.recipe import Recipe, Recipes
from runctl.testing.clock import ManualClock
from tests.cli.fake_provider import a_plan, an_instance

RUN = "run-aaaa"
FIRST = InstanceId("i-first")


class Killed(BaseException):
    """The watcher's process is gone: nothing that it would still do happens."""


@dataclass
class World:
    """A provider, its machines, and the agents on them."""

    machines: dict[InstanceId, Instance] = field(default_factory=dict)
    runs: dict[InstanceId, dict[int, AttemptStatus]] = field(default_factory=dict)
    specs: dict[int, RunSpec] = field(default_factory=dict)
    silent: set[InstanceId] = field(default_factory=set)
    """They go on, and nobody reaches them."""
    capacity: bool = True
    spot: bool = True
    """Whether there is any on spot."""
    calls_left: int | None = None
    """Until the process is killed; ``None``: it is not."""
    meanwhile: tuple[int, Callable[[], None]] | None = None
    """After so many calls somebody else does this."""
    clock: ManualClock = field(default_factory=ManualClock)
    ends: dict[str, bytes] = field(default_factory=dict)
    """What machines have put into the object store of their attempts' ends."""
    ended: bool = False
    """The run has ended for good, and whoever asks can know."""
    started_after_end: bool = False

    def called(self) -> None:
        """Something is asked of the world. Raises `Killed`."""
        if self.meanwhile is not None:
            left, happens = self.meanwhile
            self.meanwhile = (left - 1, happens) if left else None
            if not left:
                happens()
        if self.calls_left is not None:
            if self.calls_left == 0:
                raise Killed
            self.calls_left -= 1

    def going(self) -> list[InstanceId]:
        return [name for name, machine in self.machines.items() if not machine.state.is_over]

    def training(self) -> list[InstanceId]:
        return [i for i in self.going() if any(run.end is None for run in self.runs[i].values())]

    def end(self, instance: InstanceId, *, interrupted: bool = False) -> None:
        known = self.machines[instance]
        self.machines[instance] = replace(known, state=InstanceState.TERMINATED, interrupted=interrupted)


@dataclass
class Agent:
    """On one machine."""

    world: World
    instance: InstanceId

    def _reached(self) -> None:
        self.world.called()
        if self.instance in self.world.silent or self.world.machines[self.instance].state.is_over:
            raise Unreachable("it does not answer")

    def status(self, _run: str, attempt: int) -> AttemptStatus:
        self._reached()
        try:
            return self.world.runs[self.instance][attempt]
        except KeyError:
            raise MachineError("it is not there", code="no-such-run") from None

    def start(self, spec: RunSpec) -> AttemptStatus:
        self._reached()
        known = self.world.runs[self.instance]
        if spec.attempt not in known:
            self.world.started_after_end |= self.world.ended
            self.world.specs[spec.attempt] = spec
            now = self.world.clock.now().timestamp()
            known[spec.attempt] = AttemptStatus(
                RUN,
                spec.attempt,
                RunState.RUNNING,
                created_at=now,
                started_at=now,
                machine_end=spec.machine_end,
            )
        # The answer may be lost.
        self.world.called()
        return known[spec.attempt]

    def stop(self, _run: str, attempt: int, **_: object) -> AttemptStatus:
        known = self.status(RUN, attempt)
        if known.end is None:
            self.conclude(EndReason.STOPPED)
        return self.world.runs[self.instance][attempt]

    def interrupt(self, _run: str, attempt: int, *, notice: timedelta, moves: str) -> AttemptStatus:
        known = self.status(RUN, attempt)
        assert moves
        assert notice
        if known.end is not None:
            raise MachineError("it has ended", code="has-ended")
        self.conclude(EndReason.MOVED)
        # The answer may be lost.
        self.world.called()
        return self.world.runs[self.instance][attempt]

    def conclude(self, reason: EndReason) -> None:
        """The script that runs has ended."""
        runs = self.world.runs[self.instance]
        attempt = next(number for number, run in runs.items() if run.end is None)
        end = EndRecord(reason, self.world.clock.now().timestamp())
        runs[attempt] = replace(runs[attempt], state=RunState.ENDED, end=end)
        self.world.ends[f"runs/{RUN}/{end_key(attempt)}"] = dumps(end).encode()
        self.world.ended |= reason not in RETRIED


class Rents(Renting):
    ends_on_shutdown = True

    def __init__(self, world: World) -> None:
        self.world = world

    def plan(self, request: InstanceRequest, progress: Progress = SILENT) -> CreatePlan:
        self.world.called()
        tags = {ATTEMPT: str(request.attempt), INTENT: str(request.token)}
        return a_plan(request, tags=tags, client_token=str(request.token))

    def create(
        self, plan: CreatePlan, progress: Progress = SILENT, refused: RefusalListener = no_listener
    ) -> Instance:
        self.world.called()
        for machine in self.world.machines.values():
            if machine.tags.get(INTENT) == plan.client_token:
                return machine
        if not self.world.capacity or (plan.market is Market.SPOT and not self.world.spot):
            raise CapacityError("there is no machine")
        name = InstanceId(f"i-{len(self.world.machines)}")
        self.world.machines[name] = an_instance(
            id=name, state=InstanceState.PENDING, tags=plan.tags, market=plan.market
        )
        self.world.runs[name] = {}
        # The answer may be lost.
        self.world.called()
        return self.world.machines[name]

    def terminate(self, instance_id: InstanceId, progress: Progress = SILENT) -> Instance:
        self.world.called()
        self.world.end(instance_id)
        return self.world.machines[instance_id]

    def wait_ended(
        self, instance_id: InstanceId, *, timeout: timedelta, progress: Progress = SILENT
    ) -> Instance:
        self.world.called()
        return self.world.machines[instance_id]


class Store(ObjectStorage):
    """What is read of it and written to it."""

    scheme = "s3"

    def __init__(self, world: World) -> None:
        self.world = world

    def read(self, bucket: str, key: str) -> bytes:
        self.world.called()
        assert bucket == "bucket"
        try:
            return self.world.ends[key]
        except KeyError:
            raise NotFound("it is not there") from None

    def put(self, bucket: str, key: str, data: bytes, *, only_new: bool = False) -> bool:
        self.world.called()
        self.world.ends[key] = data
        return True

    def version(self, bucket: str, key: str) -> ObjectVersion | None:
        self.world.called()
        data = self.world.ends.get(key)
        return ObjectVersion(data, hashlib.sha256(data).hexdigest(), 0.0) if data is not None else None

    def replace(self, bucket: str, key: str, data: bytes, etag: str) -> str | None:
        found = self.version(bucket, key)
        if (found.etag if found is not None else "") != etag:
            return None
        self.world.ends[key] = data
        return hashlib.sha256(data).hexdigest()

    def objects(self, *_: object, **__: object) -> Any:
        raise AssertionError("nobody has to look for an object whose key is known")

    folders = fetch = upload = delete = objects


class Cloud(Provider):
    name = "aws"

    def __init__(self, world: World) -> None:
        self.world = world
        self.renting = Rents(world)
        self.object_storage = Store(world)

    def instance(self, instance_id: InstanceId) -> Instance:
        self.world.called()
        try:
            return self.world.machines[instance_id]
        except KeyError:
            raise NotFound("it is not there") from None

    def instances(self, *, everyone: bool = False, include_ended: bool = False) -> tuple[Instance, ...]:
        self.world.called()
        return tuple(each for each in self.world.machines.values() if include_ended or not each.state.is_over)

    def wait_ready(
        self, instance_id: InstanceId, *, timeout: timedelta, progress: Progress = SILENT
    ) -> Instance:
        self.world.called()
        known = self.world.machines[instance_id]
        self.world.machines[instance_id] = replace(known, state=InstanceState.RUNNING)
        return self.world.machines[instance_id]

    def transport(self, instance: Instance, choice: str = "auto", progress: Progress = SILENT) -> Any:
        raise Unsupported("agents are reached without one")

    def doctor(self) -> tuple[Check, ...]:
        return ()


class Recovery(RuleBasedStateMachine):
    """One run, whatever happens to it."""

    deadline: timedelta | None = None

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self._exit = contextlib.ExitStack()
        folder = Path(self._exit.enter_context(tempfile.TemporaryDirectory()))
        self.session = Session(config=Config())
        database = Database(folder / "state.db")
        self._exit.callback(database.close)
        cloud = Cloud(self.world)
        values: Mapping[str, Any] = {
            "database": database,
            "intents": IntentStore(database, folder / "intents"),
            "_providers": {"aws": cloud},
        }
        self.session.__dict__.update(values)

        def reach(_session: Session, instance: Instance, _choice: str | None = None) -> Any:
            agent = Agent(self.world, instance.id)
            return SimpleNamespace(provider=cloud, instance=instance, agent=agent, reconnect=lambda: None)

        for module in (control, recover, volumes, moving):
            self._exit.enter_context(patch.object(module, "reach", reach))
        self._exit.enter_context(patch.object(control, "SystemClock", lambda: self.world.clock))
        for module in (recover, leases):
            self._exit.enter_context(patch.object(module, "data_folder", lambda: folder))
        self.store = run_store(self.session)
        machine = an_instance(id=FIRST, market=Market.SPOT, tags={})
        self.world.machines[FIRST], self.world.runs[FIRST] = machine, {}
        store = StoreSpec("s3://bucket/runs")
        asked_at, by = self.world.clock.now().timestamp(), None
        if self.deadline is not None:
            by = DeadlineSpec("deadline", asked_at, asked_at + self.deadline.total_seconds(), 4 * 3600.0)
        spec = RunSpec(RUN, "train", is_command=True, machine_end=MachineEnd(), store=store, deadline=by)
        status = Agent(self.world, FIRST).start(spec)
        now = self.world.clock.now()
        self.store.put(from_status(planned(spec, machine, now, None), status, now))
        request = InstanceRequest("t3.micro", market=Market.SPOT)
        Recipes(database).put(
            Recipe(spec, "aws", None, request=request, rules=RecoveryRules(1000, 3600.0)), self.world.clock
        )

    @rule(interrupted=st.booleans())
    @precondition(lambda self: self.world.going())
    def the_provider_ends_a_machine(self, interrupted: bool) -> None:
        self.world.end(self.world.going()[-1], interrupted=interrupted)

    @rule()
    @precondition(lambda self: self.world.going())
    def a_machine_falls_silent(self) -> None:
        self.world.silent.add(self.world.going()[-1])

    @rule()
    def machines_speak_again(self) -> None:
        self.world.silent.clear()

    @rule(there_is=st.booleans())
    def capacity_changes(self, there_is: bool) -> None:
        self.world.capacity = there_is

    @rule()
    @precondition(lambda self: self.world.training())
    def the_script_completes(self) -> None:
        (machine,) = self.world.training()
        Agent(self.world, machine).conclude(EndReason.COMPLETED)

    @rule(killed_after=st.none() | st.integers(0, 25))
    def somebody_recovers_it(self, killed_after: int | None) -> None:
        self.world.calls_left = killed_after
        self._recover()

    @rule(calls=st.integers(0, 15))
    def somebody_stops_it_while_it_is_recovered(self, calls: int) -> None:
        self.world.meanwhile = (calls, self._stop)
        self._recover()

    @rule(calls=st.integers(0, 15))
    def a_machine_ends_while_it_is_recovered(self, calls: int) -> None:
        def end() -> None:
            for machine in self.world.going()[-1:]:
                self.world.end(machine)

        self.world.meanwhile = (calls, end)
        self._recover()

    def _recover(self) -> None:
        self.world.clock.advance(timedelta(seconds=61))
        with contextlib.suppress(Killed, RunctlError):
            recover_run(self.session, self.store.get(RUN), clock=self.world.clock)
        self.world.calls_left = self.world.meanwhile = None
        self._note_end()

    @rule(killed_after=st.none() | st.integers(0, 5))
    def somebody_stops_it(self, killed_after: int | None) -> None:
        self.world.calls_left = killed_after
        with contextlib.suppress(Killed):
            self._stop()
        self.world.calls_left = None

    def _stop(self) -> None:
        with contextlib.suppress(RunctlError):
            control.stop_run(self.session, self.store.get(RUN))
        self._note_end()

    def _note_end(self) -> None:
        record = self.store.get(RUN)
        self.world.ended |= record.has_ended and record.end_reason not in RETRIED

    @invariant()
    def one_attempt_runs_at_most_and_none_is_started_after_the_end(self) -> None:
        assert len(self.world.training()) <= 1
        started = [number for runs in self.world.runs.values() for number in runs]
        assert len(started) == len(set(started))
        assert not self.world.started_after_end

    def teardown(self) -> None:
        """Once all is well again the run ends, and its machines with it."""
        try:
            self._to_the_end()
        finally:
            self._exit.close()

    def _to_the_end(self) -> None:
        self.world.capacity = True
        self.world.silent.clear()
        for _ in range(4):
            self.world.clock.advance(timedelta(seconds=61))
            recovered = recover_run(self.session, self.store.get(RUN), clock=self.world.clock)
            for machine in self.world.training():
                Agent(self.world, machine).conclude(EndReason.COMPLETED)
            if recovered.outcome is Outcome.ENDED:
                break
        assert recovered.outcome is Outcome.ENDED, recovered
        record = self.store.get(RUN)
        assert record.end_reason in {EndReason.COMPLETED, EndReason.STOPPED}
        ends = [each.end_reason for each in record.past]
        assert all(reason in RETRIED for reason in ends)
        # A machine whose run has ended ends itself; none is rented besides.
        used = {name for name, runs in self.world.runs.items() if runs}
        assert set(self.world.going()) <= used


def other_computer(there: Recovery, folder: Path) -> Session:
    """One that knows the run as it began, and shares nothing with the first one but the cloud."""
    session = Session(config=Config())
    database = Database(folder / "state.db")
    values: Mapping[str, Any] = {
        "database": database,
        "intents": IntentStore(database, folder / "intents"),
        "_providers": {"aws": Cloud(there.world)},
    }
    session.__dict__.update(values)
    run_store(session).put(there.store.get(RUN))
    Recipes(database).put(Recipes(there.session.database).get(RUN), there.world.clock)
    return session


def test_what_another_computer_has_recovered_goes_on_and_is_not_recovered_again(tmp_path: Path) -> None:
    there = Recovery()
    other = other_computer(there, tmp_path)
    there.world.end(FIRST)
    first = recover_run(there.session, there.store.get(RUN), clock=there.world.clock)
    assert first.outcome is Outcome.STARTED
    machines = set(there.world.machines)

    with patch.object(leases, "data_folder", lambda: tmp_path):
        second = recover_run(other, run_store(other).get(RUN), clock=there.world.clock)

    assert second.outcome is Outcome.GOES_ON
    assert (second.record.attempt, second.record.instance_id) == (2, first.record.instance_id)
    assert [each.end_reason for each in second.record.past] == [EndReason.LOST]
    assert set(there.world.machines) == machines
    other.database.close()
    there.teardown()


def test_a_run_whose_lease_somebody_has_is_left_alone(tmp_path: Path) -> None:
    there = Recovery()
    there.world.end(FIRST)
    key = f"runs/{RUN}/{lease.KEY}"
    there.world.ends[key] = lease.encode(lease.Lease(RUN, 1, "ada@laptop", "hers"))

    recovered = recover_run(there.session, there.store.get(RUN), clock=there.world.clock)

    assert recovered.outcome is Outcome.GOES_ON
    assert recovered.why == f"is left alone: ada@laptop has the lease of {RUN}"
    assert not there.world.going()
    del there.world.ends[key]
    there.teardown()


def test_a_run_that_was_stopped_is_recovered_by_no_other_computer(tmp_path: Path) -> None:
    there = Recovery()
    other = other_computer(there, tmp_path)
    there.world.end(FIRST)
    control.refresh(there.session, [there.store.get(RUN)])
    control.stop_run(there.session, there.store.get(RUN))

    with patch.object(leases, "data_folder", lambda: tmp_path):
        recovered = recover_run(other, run_store(other).get(RUN), clock=there.world.clock)

    assert (recovered.outcome, recovered.why) == (Outcome.ENDED, "has ended as STOPPED")
    assert not there.world.going()
    other.database.close()
    there.teardown()


def test_a_run_that_is_stopped_while_its_last_end_is_read_stays_stopped() -> None:
    there = Recovery()

    def stop_and_read(*_: object) -> EndRecord:
        control.stop_run(there.session, there.store.get(RUN))
        return EndRecord(EndReason.INTERRUPTED, there.world.clock.now().timestamp())

    there.world.end(FIRST)
    with (
        patch.object(recover, "end_in_store", stop_and_read),
        pytest.raises(Conflict, match="stays stopped"),
    ):
        recover_run(there.session, there.store.get(RUN), clock=there.world.clock)

    assert there.store.get(RUN).end_reason is EndReason.STOPPED
    assert not there.world.going()
    there.teardown()


def test_a_machine_that_was_rented_in_vain_is_given_back_whatever_was_not_to_be_had() -> None:
    there = Recovery()
    there.world.end(FIRST)

    with patch.object(recover, "logged_in", side_effect=CapacityError("there is no more of it")):
        recovered = recover_run(there.session, there.store.get(RUN), clock=there.world.clock)

    assert recovered.outcome is Outcome.NO_CAPACITY
    assert "is given back" in recovered.why
    assert len(there.world.machines) == 2
    assert not there.world.going()
    there.teardown()


def recovered_by_another(there: Recovery) -> Recovered:
    """What comes of it after a process that was killed."""
    there.world.clock.advance(timedelta(seconds=61))
    recovered = recover_run(there.session, there.store.get(RUN), clock=there.world.clock)
    assert recovered.outcome is Outcome.STARTED
    assert there.session.intents.unfinished() == []
    return recovered


def test_a_machine_that_a_killed_process_has_rented_is_taken_though_another_market_is_asked_now() -> None:
    there = Recovery()
    there.world.end(FIRST)
    with patch.object(Cloud, "wait_ready", side_effect=Killed), pytest.raises(Killed):
        there.world.calls_left = 100
        with patch.object(Rents, "terminate", side_effect=Killed):
            recover_run(there.session, there.store.get(RUN), clock=there.world.clock)
    there.world.calls_left = None
    (rented,) = there.world.going()
    recipes = Recipes(there.session.database)
    recipe = recipes.get(RUN)
    assert recipe.request is not None
    recipes.put(replace(recipe, request=replace(recipe.request, market=Market.ON_DEMAND)), there.world.clock)

    there.world.clock.advance(timedelta(seconds=61))
    recovered = recover_run(there.session, there.store.get(RUN), clock=there.world.clock)

    assert (recovered.outcome, recovered.record.instance_id) == (Outcome.STARTED, rented)
    assert there.world.going() == [rented]
    assert there.world.machines[rented].state is InstanceState.RUNNING
    assert there.session.intents.unfinished() == []
    there.teardown()


def test_a_run_that_is_stopped_while_a_machine_is_waited_for_is_waited_for_no_longer() -> None:
    there = Recovery()
    there.world.end(FIRST)
    there.world.capacity = False
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            there.world.capacity = True
            control.stop_run(there.session, there.store.get(RUN))
        there.world.clock.advance(timedelta(seconds=61))

    with patch.object(there.world.clock, "sleep", sleep), pytest.raises(Conflict, match="stays stopped"):
        recover_run(there.session, there.store.get(RUN), once=False, clock=there.world.clock)

    assert len(slept) == 3
    assert list(there.world.machines) == [FIRST], "nothing was rented for it"
    there.teardown()


def test_an_attempt_that_was_written_down_and_never_started_keeps_its_number() -> None:
    there = Recovery()
    there.world.end(FIRST)
    with patch.object(recover, "start", side_effect=Killed), pytest.raises(Killed):
        recover_run(there.session, there.store.get(RUN), clock=there.world.clock)
    # Its process had written it down when it was killed.
    written = there.store.get(RUN)
    assert written.attempt == 2

    recovered = recovered_by_another(there)

    assert recovered.record.attempt == 2
    assert there.world.going() == [written.instance_id]
    there.teardown()


@pytest.mark.parametrize("taken_back", [None, "interrupted", "handed over"])
def test_a_run_that_was_lost_goes_on_on_its_machine_unless_that_is_taken_back(taken_back: str | None) -> None:
    there = Recovery()
    Agent(there.world, FIRST).conclude(EndReason.LOST)
    if taken_back == "interrupted":
        there.world.machines[FIRST] = replace(there.world.machines[FIRST], interrupted=True)
    if taken_back == "handed over":
        run = there.world.runs[FIRST][1]
        assert run.end is not None
        given = HandOff(there.world.clock.now().timestamp() + 120)
        there.world.runs[FIRST][1] = replace(run, end=replace(run.end, hand_off=given))
        there.world.ends.clear()

    recovered = recovered_by_another(there)

    assert (recovered.record.instance_id == FIRST) is (taken_back is None)
    assert len(there.world.machines) == (1 if taken_back is None else 2)
    there.world.end(FIRST)
    there.teardown()


def test_what_a_volume_tells_of_the_last_end_does_not_undo_a_stop() -> None:
    there = Recovery()
    lost = InstanceEnded("it is gone", interrupted=False)
    known = with_its_machine(there.store.get(RUN), lost, there.world.clock.now())
    there.store.put(known)

    def stop_and_read(*_: object, **__: object) -> KeptLog:
        control.stop_run(there.session, there.store.get(RUN))
        return KeptLog(None, (), EndRecord(EndReason.INTERRUPTED, there.world.clock.now().timestamp()))

    with patch.object(sources, "find_kept_log", stop_and_read):
        control.find_kept(there.session, known)

    assert there.store.get(RUN).end_reason is EndReason.STOPPED
    there.world.end(FIRST)
    there.teardown()


def test_without_capacity_anywhere_it_is_asked_for_during_an_hour_and_nothing_is_rented() -> None:
    there = Recovery()
    there.world.end(FIRST)
    there.world.capacity = False
    began = there.world.clock.now()

    def sleep(seconds: float) -> None:
        there.world.clock.advance(timedelta(seconds=max(seconds, 30.0)))

    with patch.object(there.world.clock, "sleep", sleep):
        recovered = recover_run(there.session, there.store.get(RUN), once=False, clock=there.world.clock)

    assert (recovered.outcome, recovered.why) == (Outcome.ENDED, "found no machine within 60 minutes")
    assert timedelta(hours=1) < there.world.clock.now() - began < timedelta(minutes=63)
    assert list(there.world.machines) == [FIRST]
    # Whoever asks later, when there is some, goes on.
    there.world.capacity = True
    recovered_by_another(there)
    there.teardown()


def test_a_watcher_without_network_for_ten_minutes_neither_ends_the_run_nor_rents() -> None:
    there = Recovery()
    there.world.silent.add(FIRST)
    told: list[str] = []
    slept = 0

    def sleep(seconds: float) -> None:
        nonlocal slept
        slept += 1
        there.world.clock.advance(timedelta(seconds=10))
        if slept == 60:
            there.world.silent.clear()
            Agent(there.world, FIRST).conclude(EndReason.COMPLETED)

    def away(*_: object, **__: object) -> None:
        raise Unreachable("the network is down")

    with contextlib.ExitStack() as exits:
        exits.enter_context(patch.object(there.world.clock, "sleep", sleep))
        for name in ("instance", "instances"):
            real = getattr(Cloud, name)
            exits.enter_context(
                patch.object(
                    Cloud,
                    name,
                    lambda *given, real=real, **more: away() if slept < 60 else real(*given, **more),
                )
            )
        records = watch_runs(
            there.session,
            [there.store.get(RUN)],
            on_change=lambda recovered: told.append(recovered.why),
            clock=there.world.clock,
        )

    assert [record.end_reason for record in records] == [EndReason.COMPLETED]
    assert list(there.world.machines) == [FIRST]
    assert told[0] == "cannot be asked"
    there.world.end(FIRST)
    there.teardown()


class RecoveryInTime(Recovery):
    """The same with a deadline: it is moved while it goes on, too."""

    deadline = timedelta(hours=6)

    @rule(minutes=st.integers(10, 120))
    def time_passes(self, minutes: int) -> None:
        self.world.clock.advance(timedelta(minutes=minutes))

    @invariant()
    def nothing_is_rented_beside_what_it_uses_and_what_comes_next(self) -> None:
        attempts = {self.world.machines[name].tags.get(ATTEMPT) for name in self.world.going()}
        assert len(self.world.going()) <= 2 + (None in attempts)


def test_a_run_is_moved_to_on_demand_when_no_more_time_may_be_lost() -> None:
    there = RecoveryInTime()
    there.world.clock.advance(timedelta(hours=1.8))
    asked = there.session, there.store.get(RUN)
    assert recover_run(*asked, clock=there.world.clock).outcome is Outcome.GOES_ON

    there.world.clock.advance(timedelta(minutes=10))
    there.world.capacity = False
    stays = recover_run(*asked, clock=there.world.clock)
    assert (stays.outcome, there.world.going()) == (Outcome.GOES_ON, [FIRST])
    assert stays.why == "stays where it is: no on-demand machine is to be had (there is no machine)"

    there.world.capacity = True
    moved = recover_run(*asked, clock=there.world.clock)
    assert moved.outcome is Outcome.STARTED
    assert moved.record.past[0].end_reason is EndReason.MOVED
    (machine,) = there.world.going()
    assert there.world.machines[machine].market is Market.ON_DEMAND
    # Nothing that it has done lies in a checkpoint: it does not go back.
    there.world.clock.advance(timedelta(minutes=10))
    assert recover_run(*asked, clock=there.world.clock).outcome is Outcome.GOES_ON
    there.teardown()


def saves(there: Recovery) -> None:
    """The script that runs went on from the newest checkpoint, and has one of now in the store."""
    (machine,) = there.world.training()
    runs = there.world.runs[machine]
    attempt, now = max(runs), there.world.clock.now().timestamp()
    before = there.store.get(RUN).past
    runs[attempt] = replace(
        runs[attempt],
        checkpoint=CheckpointStatus("/c/1.pt", now, published_at=now),
        resumed=before[-1].checkpoint if before else None,
    )


def test_without_spot_capacity_a_run_goes_on_demand_in_time_and_back_when_there_is_some() -> None:
    there = RecoveryInTime()
    clock = there.world.clock

    def recovered() -> Recovered:
        return recover_run(there.session, there.store.get(RUN), clock=clock)

    clock.advance(timedelta(minutes=30))
    saves(there)
    recovered()
    there.world.end(FIRST, interrupted=True)
    there.world.spot = False
    assert recovered().outcome is Outcome.NO_CAPACITY
    # Two hours may be lost; what restarts are expected to need is kept of them.
    clock.advance(timedelta(minutes=95))
    moved = recovered()
    assert (moved.outcome, moved.record.market) == (Outcome.STARTED, "on-demand")

    clock.advance(timedelta(minutes=11))
    saves(there)
    assert recovered().why == "stays where it is: no spot machine is to be had (there is no machine)"
    # It asks again some time later, and the machine works on.
    there.world.spot = True
    clock.advance(timedelta(minutes=5))
    saves(there)
    assert recovered().outcome is Outcome.GOES_ON
    clock.advance(timedelta(minutes=6))
    saves(there)
    back = recovered()
    assert (back.outcome, back.record.market) == (Outcome.STARTED, "spot")
    assert [each.end_reason for each in back.record.past] == [EndReason.INTERRUPTED, EndReason.MOVED]
    assert there.world.going() == [back.record.instance_id]
    there.teardown()


TestRecoveryInTime = RecoveryInTime.TestCase
TestRecoveryInTime.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestRecovery = Recovery.TestCase
TestRecovery.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
