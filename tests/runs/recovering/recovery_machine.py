"""One run that is recovered, whatever happens to it: hypothesis decides the order."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runctl.agent.after_run import MachineEnd
from runctl.agent.checkpoint_spec import StoreSpec
from runctl.agent.deadline_spec import DeadlineSpec
from runctl.agent.end_reason import RETRIED, EndReason
from runctl.agent.spec import RunSpec
from runctl.core.config import Config
from runctl.core.database import Database
from runctl.core.errors import RunctlError
from runctl.core.machine_models import Instance, Market
from runctl.machines.intents import IntentStore
from runctl.machines.session import Session
from runctl.providers.instance_plans import InstanceRequest
from runctl.runs import asking, stopping
from runctl.runs.records.store import run_store
from runctl.runs.records.updates import from_status, planned
from runctl.runs.recovering import moving, recover, start_next, volumes
from runctl.runs.recovering.outcome import Outcome, Recovered
from runctl.runs.recovering.recover import recover_run
from runctl.runs.recovery import RecoveryRules
from runctl.runs.run_logs import reading
from runctl.runs.stored import leases
from runctl.runs.stored.recipe import Recipe, Recipes
from tests.cli.fake_provider import an_instance
from tests.runs.recovering.world import FIRST, RUN, Agent, Cloud, Killed, World


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

        for module in (asking, reading, start_next, volumes, moving):
            self._exit.enter_context(patch.object(module, "reach", reach))
        for module in (asking, reading, stopping):
            self._exit.enter_context(patch.object(module, "SystemClock", lambda: self.world.clock))
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

    @rule(calls=st.integers(0, 30))
    def somebody_looks_at_it_while_it_is_recovered(self, calls: int) -> None:
        def look() -> None:
            asking.refresh(self.session, [self.store.get(RUN)])

        self.world.meanwhile = (calls, look)
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
            stopping.stop_run(self.session, self.store.get(RUN))
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


def recovered_by_another(there: Recovery) -> Recovered:
    """What comes of it after a process that was killed."""
    there.world.clock.advance(timedelta(seconds=61))
    recovered = recover_run(there.session, there.store.get(RUN), clock=there.world.clock)
    assert recovered.outcome is Outcome.STARTED
    assert there.session.intents.unfinished() == []
    return recovered
