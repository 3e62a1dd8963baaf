"""A launch as a person sees it: the plan, the start, the log, the results brought home, the machine given back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.agent.after_run import NOT_UPLOADED
from runctl.agent.object_store import is_address
from runctl.cli.context import Cli
from runctl.cli.machines.renting import ask_fallback
from runctl.cli.runs.attempts import follow_attempts
from runctl.core.clock import SystemClock
from runctl.core.errors import InstanceEnded, Interrupted, RunctlError
from runctl.core.money import hourly, usd
from runctl.core.text import counted, size
from runctl.machines.machine import Machine
from runctl.machines.renting import READY_TIMEOUT
from runctl.providers.ended import what_became_of
from runctl.providers.registry import command, is_this_computer
from runctl.render.left_out import left_out
from runctl.render.plans.launch_plan import launch_plan_document, launch_plan_text
from runctl.render.run_table import machine_end_text
from runctl.runs.costs import with_ledger_costs
from runctl.runs.fetched import with_fetched
from runctl.runs.launch.launch_plan import LaunchPlan
from runctl.runs.launch.launching import Launch
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.shown_run import as_run
from runctl.runs.results import GivenBack, Results, fetch_results, give_back, launch_end


def show_launch_plan(cli: Cli, plan: LaunchPlan) -> None:
    """``--dry-run``: the plan is the result."""
    cli.emit(launch_plan_document(plan), text=lambda: launch_plan_text(plan), ids=())


def carry_out_launch(
    cli: Cli,
    launch: Launch,
    *,
    may_rent: Callable[[], None] = lambda: None,
    ready_timeout: timedelta = READY_TIMEOUT,
) -> Launched:
    """The plan is shown, somebody agreed where that is needed, and the run has started."""
    cli.say(launch_plan_text(launch.plan))
    may_rent()
    record = launch.start(ready_timeout, lambda *asked: ask_fallback(cli, *asked))
    return Launched(cli, launch, record)


@dataclass
class Launched:
    """A run that its machine has taken up."""

    cli: Cli
    launch: Launch
    record: RunRecord

    def left_alone(self) -> int:
        """Say how to follow it, and what becomes of the machine."""
        record, cli = self.record, self.cli
        cli.emit(as_run(record, SystemClock().now()), text=lambda: record.id, ids=[record.id])
        machines = ", ".join(record.machines)
        where = "" if is_this_computer(record.provider) else f" on {machines}"
        cli.progress.note(
            f"{record.id} has started{where}; follow it with: runctl runs logs {record.id} --follow"
        )
        if record.machine_end is not None:
            ends = "ends" if len(record.machines) == 1 else "end"
            cli.progress.note(f"{machines} {ends} {machine_end_text(record.machine_end)}")
        if record.results is not None and is_address(record.results):
            cli.progress.note(f"its results will be at {record.results}/{record.id}")
        elif record.results is not None:
            cli.progress.note(f"fetch its results into {record.results}: runctl runs results {record.id}")
        return 0

    def to_the_end(self) -> int:
        """Follow it, bring its results home, see the machine given back; the exit code that ``--wait`` promises."""
        cli, machine = self.cli, self.launch.training.machine
        if cli.settings.quiet:
            cli.write(self.record.id)
        code, machine, record = follow_attempts(cli, machine, self.record, emits=False)
        home = record.results is not None and not is_address(record.results)
        results = bring_home(cli, machine, record, str(record.results)) if home else None
        ended = end_rental(cli, machine, record, only_read=record.results is not None and not home)
        if cli.settings.json:
            cli.emit(launch_end(with_fetched(cli.session, record), results, ended), text=str)
        return code


def bring_home(cli: Cli, machine: Machine, record: RunRecord, folder: str) -> Results | None:
    """The results are in the folder, and it is said where; ``None`` where the machine has ended and they with it."""
    gone = what_became_of(machine.provider, machine.instance.id) if record.machine_end is not None else None
    if gone is not None:
        _not_fetched(cli, record, gone)
        return None
    later = f"runctl runs results {record.id} continues where this one stopped"
    try:
        results = fetch_results(cli.session, machine, record, Path(folder))
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted: the results of {record.id} are not all here", hint=later) from None
    except RunctlError as error:
        gone = (
            what_became_of(machine.provider, machine.instance.id) if record.machine_end is not None else None
        )
        if gone is not None:
            # It was taken back while they were fetched.
            _not_fetched(cli, record, gone)
            return None
        error.hint = "; ".join(part for part in (error.hint, later) if part)
        raise
    for sentence in left_out(results.skipped, results.changed):
        cli.progress.warn(sentence)
    cli.say(f"results: {results.folder} ({counted(results.files, 'file')}, {size(results.bytes)})")
    return results


def _not_fetched(cli: Cli, record: RunRecord, gone: InstanceEnded) -> None:
    """Say what is left of the results, whose machine has ended."""
    places = []
    if record.saved_volume:
        places.append("they are on its volume")
    elif record.store is not None:
        places.append(f"checkpoints and log are in {record.store}/{record.id}")
    if not record.saved_volume:
        places.append("what was on its own disk is lost")
    cli.progress.warn(f"the results of {record.id} cannot be fetched: {gone.message}; {', '.join(places)}")


def end_rental(cli: Cli, machine: Machine, record: RunRecord, *, only_read: bool = False) -> GivenBack | None:
    """The machine of an ended run is given back, and it is said what it cost, or why it stays; ``None`` for a machine
    that was not rented for the run. ``only_read``: the machine sees to its results itself."""
    if record.machine_end is None:
        return None
    instance = machine.instance
    if record.machine_end.keep:
        end_it = command(record.provider, "terminate", instance.id)
        cli.say(f"{instance.id} stays, and is billed until it is terminated: {end_it}")
        return None
    taken = record.hand_off
    if taken is not None and not (taken.is_rehearsal or taken.moves):
        # Whoever ends it now hides the reason, and pays for the hour that it would have had for nothing.
        at = datetime.fromtimestamp(taken.machine_ends_at, UTC)
        cli.say(f"{instance.id} is left to its provider, which takes it back at {at:%H:%M:%S} UTC")
        return None
    cli.progress.step(f"giving {instance.id} back")
    try:
        ended = give_back(cli.session, machine, record, only_read=only_read)
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted: {instance.id} ends itself, as the run has ended",
            hint=f"{command(record.provider, 'status', instance.id)} shows it",
        ) from None
    if only_read and (ended.stay is None or not ended.stay.why.startswith(NOT_UPLOADED)):
        cli.say(f"results: {record.results}/{record.id}")
    if ended.stay is None:
        cli.say(_cost(ended) + _all_attempts(cli, record))
    else:
        cli.say(_stays(record, ended))
    return ended


def _cost(ended: GivenBack) -> str:
    instance = ended.instance
    if ended.cost is None or instance.price_per_hour is None:
        return f"{instance.id} is given back after {ended.seconds:.0f} s"
    price = f"{hourly(instance.price_per_hour)}, {instance.market.value}"
    return f"cost: {usd(ended.cost)} ({ended.seconds:.0f} s at {price}); {instance.id} is given back"


def _all_attempts(cli: Cli, record: RunRecord) -> str:
    """The machines before this one are the run's cost as well."""
    now = SystemClock().now()
    (run,) = with_ledger_costs(cli.session, [as_run(record, now)], now)
    if not record.past or run.cost is None:
        return ""
    return f"; the run cost {usd(run.cost)} in {counted(len(record.past) + 1, 'attempt')}"


def _stays(record: RunRecord, ended: GivenBack) -> str:
    stay, until = ended.stay, ""
    if stay is not None and stay.seconds is not None and record.ended_at is not None:
        at = datetime.fromtimestamp(record.ended_at.timestamp() + stay.seconds, UTC)
        until = f" until {at:%H:%M:%S} UTC"
    end_it = command(record.provider, "terminate", ended.instance.id)
    why = stay.why if stay is not None else ""
    return f"{ended.instance.id} stays{until}: {why}; {end_it} ends it at once"
