"""``runctl.launch``: the whole way from a program, by the same use case as the command's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Unpack

from runctl._dataclasses import dataclass
from runctl.agent.deadline import Policy
from runctl.agent.object_store import is_address
from runctl.core.clock import SystemClock
from runctl.core.errors import InstanceEnded, NotFound, Unreachable, Unsupported, UsageError
from runctl.core.machine_models import Instance
from runctl.core.run_models import Run
from runctl.machines.finding import find_instance
from runctl.machines.instances import MachineArguments, machine_request
from runctl.machines.session import Session
from runctl.providers.registry import DEFAULT
from runctl.runs.deadlines.plan import DeadlineRequest
from runctl.runs.fetched import with_fetched
from runctl.runs.launch.launch_plan import DEFAULT_RESULTS, FETCH_WITHIN, AfterRun, LaunchPlan
from runctl.runs.launch.launching import Launch, LaunchRequest, launch_on, launching
from runctl.runs.records.shown_run import as_run
from runctl.runs.results import (
    GivenBack,
    LaunchEnd,
    Results,
    fetch_results,
    give_back,
    launch_end,
    results_without_machine,
)
from runctl.runs.train.from_python import StartedRun, TrainArguments, train_request


@dataclass
class LaunchedRun(StartedRun):
    """A run that its machine has taken up. Both go on without this object; the machine ends itself after the run."""

    def fetch_results(self, folder: str | Path | None = None) -> Results:
        """Output, checkpoints and log are in ``folder/RUN``, as far as there are any by now.

        Without ``folder``, where `launch` was told, else in ``results``. All that has been brought to this computer is
        found there again when the machine has ended. Raises what is raised where the machine does not answer.
        """
        self.status()
        named = None if self._in_store else self._record.results
        where = Path(folder or named or DEFAULT_RESULTS)
        try:
            return fetch_results(self.session, self._machine, self._record, where)
        except (NotFound, InstanceEnded, Unreachable) as error:
            known = with_fetched(self.session, self._record)
            return results_without_machine(self.session, known, Path(folder) if folder else None, error)

    def give_back(self) -> GivenBack | None:
        """The machine of a run that has ended is given back, unless something keeps it; ``None`` for one that was not
        rented for the run, or is to be kept."""
        self.status()
        rented = self._record.machine_end
        if rented is None or rented.keep:
            return None
        return give_back(self.session, self._machine, self._record, only_read=self._in_store)

    def finish(self, on_log: Callable[[bytes], None] = lambda _: None) -> LaunchEnd:
        """What ``launch --wait`` does: the run has ended, its results are home, and its machine is given back."""
        self.follow(on_log)
        home = self._record.results is not None and not self._in_store
        results = self.fetch_results() if home else None
        ended = self.give_back()
        return launch_end(with_fetched(self.session, self._record), results, ended)

    @property
    def _in_store(self) -> bool:
        """Its machine puts the results into an object store."""
        return self._record.results is not None and is_address(self._record.results)


def launch(
    script: str | Path | None,
    args: Sequence[str] = (),
    *,
    provider: str = DEFAULT,
    machine: MachineArguments | None = None,
    instance: Instance | str | None = None,
    results: str | Path | None = None,
    bring_results: bool = True,
    fetch_within: timedelta = FETCH_WITHIN,
    keep: bool = False,
    keep_on_failure: timedelta = timedelta(0),
    follows: bool = True,
    resume_from: str | None = None,
    deadline: timedelta | datetime | None = None,
    estimate: timedelta | None = None,
    policy: str = Policy.DEADLINE.value,
    transport: str | None = None,
    on_plan: Callable[[LaunchPlan], None] = lambda _: None,
    session: Session | None = None,
    **run: Unpack[TrainArguments],
) -> LaunchedRun:
    """A machine is rented and has taken up a run: what ``runctl PROVIDER launch`` does, with the same options.

    ``machine`` are arguments of `runctl.create`, ``run`` those of `runctl.train`. ``on_plan`` is called with the
    finished plan and its price before anything is rented; an exception from it stops the call there. Nobody is asked.
    ``deadline``: the run must have ended by then; `runctl.runs.watch` moves it to on-demand in time. ``estimate`` is
    how long it takes without interruptions, ``policy`` one of those that ``runctl simulate`` compares.
    ``follows``: the program calls `LaunchedRun.finish`, and the machine waits for it for some minutes. Where a
    provider's machines are there already, ``instance`` names one, and nothing is rented.

    Raises what `runctl.create` and `runctl.train` raise. A machine on which the run could not be started is given back
    first, and the error says so.
    """
    session = session or Session()
    after = AfterRun(
        str(results) if results is not None else None,
        bring_results,
        keep,
        keep_on_failure,
        fetch_within,
        follows,
    )
    request = LaunchRequest(
        train_request(session, provider, script, args, **run),
        after,
        resume_from,
        transport=transport,
        deadline=None if deadline is None else _deadline(deadline, estimate, policy),
        estimate=estimate,
    )
    if isinstance(session.provider(provider).renting, Unsupported):
        if machine is not None:
            raise UsageError(f"{provider} rents no machine", hint="leave machine out, and name an instance")
        found = instance if isinstance(instance, Instance) else find_instance(session, provider, instance)
        own = launch_on(session, found, request)
        on_plan(own.plan)
        return _started(session, own)
    if instance is not None:
        raise UsageError("launch rents a machine", hint="runctl.train runs on one that is there")
    wanted = machine_request(session, provider, **(machine or {}))
    with launching(session, provider, request, wanted) as new:
        on_plan(new.plan)
        return _started(session, new)


def _deadline(deadline: timedelta | datetime, estimate: timedelta | None, policy: str) -> DeadlineRequest:
    """Raises `UsageError` for a policy that there is not."""
    now, known = SystemClock().now(), [each.value for each in Policy]
    if policy not in known:
        raise UsageError(f"{policy!r} is not a policy", hint=f"one of {', '.join(known)}")
    ends_at = now + deadline if isinstance(deadline, timedelta) else deadline.astimezone(UTC)
    return DeadlineRequest(ends_at, now, Policy(policy), estimate)


def launch_unattended(
    script: str | Path | None,
    args: Sequence[str] = (),
    *,
    provider: str = DEFAULT,
    machine: MachineArguments | None = None,
    results: str | None = None,
    bring_results: bool = True,
    keep_on_failure: timedelta = timedelta(0),
    resume_from: str | None = None,
    on_plan: Callable[[LaunchPlan], None] = lambda _: None,
    session: Session | None = None,
    **run: Unpack[TrainArguments],
) -> Run:
    """A run is left to a group that rents its machines: what ``runctl PROVIDER launch --unattended`` does.

    The program is not needed any longer then; `runctl.runs` has the run. The arguments are those of `launch`;
    ``results`` is an address in the object store. Raises what `launch` raises, and `Unsupported` where the provider
    does not replace a machine by itself.
    """
    from runctl.runs.unattended.launching import launching_unattended

    session = session or Session()
    after = AfterRun(results, bring_results, keep_on_failure=keep_on_failure)
    request = LaunchRequest(train_request(session, provider, script, args, **run), after, resume_from)
    wanted = machine_request(session, provider, **(machine or {}))
    with launching_unattended(session, provider, request, wanted) as new:
        on_plan(new.plan)
        return as_run(new.start(), SystemClock().now())


def _started(session: Session, launch: Launch) -> LaunchedRun:
    record = launch.start()
    return LaunchedRun(session, launch.plan.run, launch.training.machine, record)
