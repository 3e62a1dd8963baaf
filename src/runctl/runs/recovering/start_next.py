"""The next attempt of a run gets a machine, its volumes and its project, and starts there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from runctl.agent.deadline import Why
from runctl.agent.spec import RunSpec
from runctl.core.errors import CapacityError
from runctl.core.journal import Change, Effect
from runctl.core.machine_models import Instance, Market
from runctl.core.tags import INTENT
from runctl.machines.intents import IntentState
from runctl.machines.machine import reach
from runctl.machines.pool_record import Lifetime
from runctl.project.kept import kept_projects
from runctl.providers.interface import require
from runctl.runs.costs import note_end
from runctl.runs.images.run_image import logged_in
from runctl.runs.records.run_record import RunRecord
from runctl.runs.recovering.machines import (
    after_failure,
    check_recipe,
    find_rented,
    rent,
    rented_before,
    same_machine,
)
from runctl.runs.recovering.moving import deadline_of, elapsed_of, give_back_old, leave_machine, progress_of
from runctl.runs.recovering.next_attempt import history, next_spec, rules_of
from runctl.runs.recovering.outcome import Outcome, Recovered
from runctl.runs.recovering.pools import PAUSE_SECONDS, REFUSED_FOR, SpotPools, may_ask_again
from runctl.runs.recovering.relocating import bring_volumes, tidy_up
from runctl.runs.recovering.run import HasEndedError, RecoveredRun
from runctl.runs.recovering.volumes import volumes_as_before
from runctl.runs.recovery import GiveUp, NextAttempt, decide_next
from runctl.runs.stored.lent_store import bring_first_keys
from runctl.runs.train.start import start

TRY_AGAIN = "runctl runs recover tries again"


def move(run: RecoveredRun, market: Market, reason: Why) -> Recovered:
    """The next attempt has started on another machine, which was ready before this one ended."""
    number = run.next_attempt
    with _machine_for(run, market, number) as rented:
        run.check_wanted()
        left = leave_machine(run, market, reason)
        run.note_left(left)
        give_back_old(run, left)
        bring_volumes(run, rented)
        ends_itself = require(run.provider.renting).ends_on_shutdown
        lifetime = _lifetime(run, rented)
        spec = next_spec(run.recipe, run.record, ends_itself=ends_itself, lifetime=lifetime)
        return start_on(run, rented, replace(spec, attempt=number))


def start_next(run: RecoveredRun, *, once: bool, afresh: bool) -> Recovered:
    """Rent, attach, send, start; as often as `decide_next` says so."""
    run.begin_search()
    rules, attempts = rules_of(run.recipe), history(run.record)
    pools = SpotPools(run, REFUSED_FOR, afresh=afresh)
    on_spot = run.recipe.request is None or run.recipe.request.market is Market.SPOT
    on_spot = on_spot or run.record.deadline is not None
    refused_at: float | None = None
    refusal = "there is no capacity"
    if run.spot_is_put_off:
        refusal = "spot machines were rented for it in vain, and are not tried again yet"
    while True:
        run.check_wanted()
        elapsed = elapsed_of(run)
        deadline = deadline_of(run.record, elapsed, run)
        on_demand = refused_at is None or may_ask_again(refused_at, run.clock)
        available = pools.available() if on_spot else ()
        progress = progress_of(run.record, deadline, elapsed, available, on_demand=on_demand)
        step = decide_next(attempts, replace(rules, deadline=deadline), progress)
        if isinstance(step, GiveUp):
            return Recovered(run.record, Outcome.ENDED, step.why)
        if isinstance(step, NextAttempt):
            try:
                return _attempt(run, Market(step.market))
            except HasEndedError as error:
                # What was rented to find that out may be going on.
                why = f"{error.message} ({error.hint})" if error.hint else error.message
                return Recovered(run.record, Outcome.ENDED, why)
            except CapacityError as error:
                refusal, market = error.message, Market(step.market)
                run.note_rented(error)
                waits = deadline is not None or progress.searched(attempts[-1]) <= rules.retry_within
                if market is Market.SPOT:
                    pools.refused(error)
                else:
                    refused_at = run.clock.monotonic()
                either = deadline is not None or market is Market.SPOT
                if either and (waits or rules.on_demand_after is not None):
                    # Whether that calls for another market, for waiting or for giving up is decided there.
                    run.session.progress.detail(f"{run.record.id}: {refusal}")
                    continue
                if not waits:
                    # Whoever asked once hears that there was no capacity, however long others have searched before.
                    outcome = Outcome.NO_CAPACITY if once else Outcome.ENDED
                    why = f"has no machine: {refusal}"
                    why = why if once else f"{why}; {TRY_AGAIN}"
                    return Recovered(run.record, outcome, why, frozenset(run.rented_on))
        if once:
            why = f"has no machine: {refusal}"
            return Recovered(run.record, Outcome.NO_CAPACITY, why, frozenset(run.rented_on))
        run.session.progress.step(f"waiting for a machine for {run.record.id}")
        run.clock.sleep(PAUSE_SECONDS)


def _attempt(run: RecoveredRun, market: Market) -> Recovered:
    staying = same_machine(run)
    if staying is not None:
        spec = next_spec(run.recipe, run.record, ends_itself=False)
        return start_on(run, staying, replace(spec, attempt=run.next_attempt))
    number = run.next_attempt
    check_recipe(run)
    # Else its time would go on in the ledger until somebody asks about it.
    note_end(run.session, run.record)
    # Nobody has to be told of a machine that its provider has taken back.
    give_back_old(run, run.record)
    over = f"instance {run.record.instance_id} has ended"
    run.provider.journal.record(Change("instance", (run.record.instance_id,), Effect.GONE, over))
    with _machine_for(run, market, number) as instance:
        run.check_wanted()
        bring_volumes(run, instance)
        ends_itself = require(run.provider.renting).ends_on_shutdown
        spec = next_spec(run.recipe, run.record, ends_itself=ends_itself, lifetime=_lifetime(run, instance))
        return start_on(run, instance, replace(spec, attempt=number))


@contextmanager
def _machine_for(run: RecoveredRun, market: Market, number: int) -> Iterator[Instance]:
    """A machine for this attempt, which is given back unless the attempt may have started. Raises `CapacityError`."""
    instance: Instance | None = None
    try:
        instance = rented_before(run, number) or rent(run, market, number)
        yield instance
    except BaseException as error:
        if instance is None and isinstance(error, CapacityError):
            raise
        if instance is None:
            run.provider.journal.settle(clock=run.clock)
            instance = find_rented(run, number)
        told = after_failure(run, instance, number, error)
        if told is error:
            raise
        raise told from error


def _lifetime(run: RecoveredRun, instance: Instance) -> Lifetime | None:
    """What was seen of such machines, where the provider takes them back."""
    if instance.market is not Market.SPOT:
        return None
    record = run.session.pool_record(instance.provider)
    return record.lifetime(instance.instance_type, instance.zone, run.clock.now())


def start_on(
    run: RecoveredRun, instance: Instance, spec: RunSpec, known: RunRecord | None = None
) -> Recovered:
    """The attempt has started on that machine; ``known``: it was written down before."""
    machine = reach(run.session, instance, run.recipe.transport)
    with volumes_as_before(run, machine), logged_in(run.session, machine, spec):
        if known is None:
            run.read_end_on_volume()
        if spec.tree is not None:
            kept_projects().send(spec.tree, spec.project, machine.agent, instance.id, run.session.progress)
        # Before anything says that the attempt may have started.
        bring_first_keys(machine, spec)
        run.begin(spec, is_new=known is None)
        record = known or run.written_down(spec, instance)
        run.tell(spec, instance)
        record = start(record, spec, machine, run.store, clock=run.clock, progress=run.session.progress)
    run.session.intents.close(IntentState.DONE, instance.id, instance.tags.get(INTENT))
    tidy_up(run)
    return Recovered(record, Outcome.STARTED, f"goes on as attempt {record.attempt} on {instance.id}")
