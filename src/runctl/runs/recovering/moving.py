"""A run leaves a machine that goes on: for on-demand while its deadline can still be kept, or back to spot.

The next machine is rented first, and the run works on until that is ready: where there is none, it stays where it is.
"""

from __future__ import annotations

from datetime import timedelta

from runctl.agent.deadline import Move, Policy, Why, job_of
from runctl.agent.end_reason import EndReason
from runctl.core.errors import CapacityError, MachineError, RunctlError, Unreachable
from runctl.core.machine_models import Market
from runctl.core.run_models import RunPhase
from runctl.machines.machine import reach
from runctl.runs.deadlines.standing import durable_seconds, paid_seconds, why_moved, worked
from runctl.runs.records.run_record import RunRecord, as_known
from runctl.runs.records.updates import from_status
from runctl.runs.recovering.next_attempt import history
from runctl.runs.recovering.pools import SpotPools
from runctl.runs.recovering.run import RecoveredRun
from runctl.runs.recovery import Deadline, Going, PastAttempt, Progress, RecoveryRules, decide_move

ASK_FOR_SPOT = timedelta(minutes=10)
"""How often a run that is on demand asks for spot capacity again."""
NOTICE = timedelta(minutes=2)
"""For the script to save, as at an interruption."""
END_PATIENCE = 60.0
"""Seconds after that for the machine to write down how the attempt ended."""
POLL_SECONDS = 1.0


def deadline_of(record: RunRecord, elapsed: float, run: RecoveredRun) -> Deadline | None:
    """What the policy decides by, ``elapsed`` seconds after the run's start; ``None``: the run has no deadline."""
    if record.deadline is None:
        return None
    attempts = (*record.past, as_known(record))
    job = job_of(record.deadline, [worked(each) for each in attempts], run.clock.now().timestamp(), elapsed)
    return Deadline(Policy(record.deadline.policy), job)


def progress_of(
    record: RunRecord, deadline: Deadline | None, elapsed: float, pools: tuple[str, ...], *, on_demand: bool
) -> Progress:
    """Where the run is now; ``on_demand``: on-demand machines are available, as far as is known."""
    attempts = (*record.past, as_known(record))
    work = deadline.job.work if deadline is not None and deadline.job is not None else 0.0
    began = record.search_began_at
    searches_since = None if began is None else (began - attempts[0].created_at).total_seconds()
    return Progress(elapsed, durable_seconds(record, attempts, work), pools, on_demand, searches_since)


def elapsed_of(run: RecoveredRun) -> float:
    """Seconds since the run's start."""
    record = run.record
    first = (record.past or (as_known(record),))[0].created_at
    return (record.by_its_clock(run.clock.now()) - first).total_seconds()


def due_move(run: RecoveredRun, rules: RecoveryRules, pools: SpotPools) -> tuple[Market, Why] | None:
    """Where the run is to go now, and why; ``None``: it stays where it is."""
    record = run.record
    if record.deadline is None or record.state not in (RunPhase.RUNNING, RunPhase.SETTING_UP):
        return None
    before: list[PastAttempt] = history(record)[:-1]
    if len(before) + 1 >= rules.max_attempts:
        return None
    elapsed = elapsed_of(run)
    deadline = deadline_of(record, elapsed, run)
    assert deadline is not None  # noqa: S101 - it was looked at above
    on_spot = record.market == Market.SPOT.value
    paid = paid_seconds(as_known(record), record.by_its_clock(run.clock.now()))
    going = Going("spot" if on_spot else "on-demand", paid)

    def decided(available: tuple[str, ...]) -> tuple[Move, Why]:
        progress = progress_of(record, deadline, elapsed, available, on_demand=True)
        return decide_move(before, going, deadline, progress)

    # Which pools there are is asked only where it matters.
    move, why = decided(("any",))
    if move is Move.SPOT:
        move, why = decided(pools.available())
    return None if move is Move.STAY else (Market(move.value), why)


def leave_machine(run: RecoveredRun, market: Market, why: Why) -> RunRecord:
    """The attempt has ended as MOVED (or by itself meanwhile), with a checkpoint as after a notice.

    Raises `Unreachable` where its machine has not said so in time, and what reaching it raises.
    """
    record = run.record
    machine = reach(run.session, run.provider.instance(record.instance_id), run.recipe.transport)
    run.session.progress.step(f"asking {record.id} to leave {record.instance_id}")
    try:
        status = machine.agent.interrupt(
            record.id, record.attempt, notice=NOTICE, moves=why_moved(why, market)
        )
    except MachineError as error:
        if error.code != "has-ended":
            raise
        status = machine.agent.status(record.id, record.attempt)
    until = run.clock.monotonic() + NOTICE.total_seconds() + END_PATIENCE
    while status.end is None:
        if run.clock.monotonic() >= until:
            raise Unreachable(
                f"{record.id} was asked to leave {record.instance_id} and has not ended",
                hint=f"runctl runs show {record.id}",
            )
        run.clock.sleep(POLL_SECONDS)
        status = machine.agent.status(record.id, record.attempt)
    return from_status(record, status, run.clock.now())


def give_back_old(run: RecoveredRun, record: RunRecord) -> None:
    """The machine that the run has left is given back where it was rented for the run; so its volumes become free."""
    if record.end_reason is not EndReason.MOVED or record.machine_end is None:
        return
    try:
        run.rentals.give_back(record.instance_id)
    except RunctlError as error:
        run.session.progress.warn(
            f"{record.instance_id}, which {record.id} has left, is not given back: {error.message}"
        )


def not_to_be_had(market: Market, error: CapacityError) -> str:
    """Why the run stays where it is, for a person, after its id."""
    return f"stays where it is: no {market.value} machine is available ({error.message})"
