"""The use case ``recover``: a further attempt of a run on another machine, with all that the first one had.

What follows is decided by `runctl.runs.recovery.decide_next`; here it is done. Whoever does it may be killed at any
point: the machine of attempt N carries ``RUN/N`` in a tag that is set in the call that rents it, the next call finds it
by that, and an agent starts one attempt once. On this computer one process at a time recovers a run; a run with a store
is recovered by one computer at a time, as its lease is there (`runctl.agent.lease`).
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from pathlib import Path

from runctl.agent.deadline import Why
from runctl.agent.spec import EndReason, RunSpec
from runctl.core.clock import Clock, SystemClock
from runctl.core.errors import (
    CapacityError,
    Conflict,
    NotFound,
    PermissionDenied,
    ProviderError,
    Unreachable,
)
from runctl.core.files import data_folder, make_private_folder
from runctl.core.journal import Change, Effect
from runctl.core.machine_models import Instance, InstanceState, Market
from runctl.core.run_models import RunPhase
from runctl.core.tags import INTENT
from runctl.machines.intents import IntentState
from runctl.machines.machine import reach
from runctl.machines.pool_record import Lifetime
from runctl.machines.session import Session
from runctl.project.kept import kept_projects
from runctl.providers.interface import require
from runctl.runs.control import refresh
from runctl.runs.costs import note_end
from runctl.runs.images.run_image import logged_in
from runctl.runs.nodes.asking import confirmed
from runctl.runs.nodes.giving_back import tidy_up_networks
from runctl.runs.records.account import check_account
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import run_store
from runctl.runs.recovering.machines import (
    after_failure,
    check_recipe,
    find_rented,
    rent,
    rented_before,
    same_machine,
)
from runctl.runs.recovering.moving import (
    ASK_FOR_SPOT,
    deadline_of,
    due_move,
    elapsed_of,
    give_back_old,
    leave_machine,
    not_to_be_had,
    progress_of,
)
from runctl.runs.recovering.next_attempt import history, next_spec, rules_of, why_it_ended
from runctl.runs.recovering.pools import SpotPools
from runctl.runs.recovering.relocating import bring_volumes, tidy_up
from runctl.runs.recovering.run import HasEndedError, RecoveredRun
from runctl.runs.recovering.several_machines import check_recoverable, move_nodes, recover_nodes
from runctl.runs.recovering.volumes import volumes_as_before
from runctl.runs.recovery import (
    RETRIED,
    GiveUp,
    NextAttempt,
    decide_next,
)
from runctl.runs.stored.elsewhere import catch_up
from runctl.runs.stored.leases import HeldElsewhere, lease_held
from runctl.runs.stored.lent_store import bring_first_keys
from runctl.runs.stored.stored_results import end_in_store
from runctl.runs.train.start import start
from runctl.runs.unattended.state import group_text, lives

TRY_AGAIN = "runctl runs recover tries again"
REFUSED_FOR = 60.0
"""Seconds after which spot capacity that was refused is asked for again."""
PAUSE = 5.0


class Outcome(Enum):
    """What has come of recovering a run."""

    STARTED = "started"
    """The next attempt has been taken up by its machine."""
    GOES_ON = "goes-on"
    """The run has not ended, or nobody can say that it has."""
    ENDED = "ended"
    """It has ended, and there is no further attempt."""
    NO_CAPACITY = "no-capacity"
    """No machine was to be had now."""


@dataclass(frozen=True)
class Recovered:
    """A run after somebody has looked whether it needs another attempt."""

    record: RunRecord
    outcome: Outcome
    why: str = ""
    """For a person, after the run's id."""
    rented_on: frozenset[Market] = frozenset()
    """The markets on which something was rented for it in vain, and given back."""


class BeingRecovered(Conflict):
    """Another process of this computer recovers the run."""

    code = "being-recovered"


def recover_run(
    session: Session,
    record: RunRecord,
    *,
    once: bool = True,
    afresh: bool = False,
    without_spot: bool = False,
    clock: Clock | None = None,
) -> Recovered:
    """The run's next attempt has started, if it has ended in a way that another machine changes.

    ``once``: a machine that is not to be had now is not waited for. ``afresh``: somebody wants to know it now, so that
    pools are asked that have refused a moment ago. ``without_spot``: spot counts as having no capacity. What was rented
    is given back where the attempt could not be started, after Ctrl-C too. Raises `BeingRecovered`, `NotFound` for a
    run that was not started here, and what renting, attaching and starting raise.
    """
    store = run_store(session)
    with _alone(record.id):
        known = store.get(record.id)
        if known.needs_refresh:
            (known,) = refresh(session, [known])
            if lives(known):
                # What rents a second machine for a run whose group is about to rent one pays for nothing.
                return Recovered(known, Outcome.GOES_ON, group_text(known))
        run = RecoveredRun(session, known, clock or SystemClock())
        run.spot_is_put_off = without_spot
        if known.nodes is not None:
            return _recover_nodes(run, once=once)
        if not _never_heard(known):
            (run.record,) = refresh(session, [known])
            known = run.record
        if not _never_heard(known):
            if not known.has_ended and _due(run) is None:
                return Recovered(known, Outcome.GOES_ON, going_on(known))
            if known.has_ended and known.end_reason not in RETRIED:
                return Recovered(known, Outcome.ENDED, why_it_ended(known))
        try:
            with _leased(run):
                return _recover(run, once=once, afresh=afresh)
        except HeldElsewhere as held:
            return _held_elsewhere(run, held)


def _recover_nodes(run: RecoveredRun, *, once: bool) -> Recovered:
    """As `recover_run`, for a run on several machines."""
    (run.record,) = refresh(run.session, [run.record])
    run.record = tidy_up_networks(run.session, run.record)
    stays = _nodes_stay(run)
    if stays is not None:
        return stays
    try:
        with _leased(run):
            if run.lease is not None:
                before = run.record
                run.record = catch_up(run.session, before)
                if run.record.attempt != before.attempt or not run.record.has_ended:
                    (run.record,) = refresh(run.session, [run.record])
            if run.record.has_ended:
                run.record = confirmed(run.session, run.record)
            stays = _nodes_stay(run)
            if stays is not None:
                return stays
            if not run.record.has_ended:
                return _moved(run)
            following, why = recover_nodes(run, once=once)
    except HeldElsewhere as held:
        return _held_elsewhere(run, held)
    if following is not None:
        return Recovered(following, Outcome.STARTED, f"goes on as attempt {following.attempt}")
    outcome = Outcome.ENDED if why else Outcome.NO_CAPACITY
    return Recovered(run.record, outcome, why or "has no machines", frozenset(run.rented_on))


def _nodes_stay(run: RecoveredRun) -> Recovered | None:
    """Why a run on several machines is neither started over nor moved; ``None``: it is."""
    record = run.record
    if not record.has_ended:
        return Recovered(record, Outcome.GOES_ON, going_on(record)) if _due(run) is None else None
    if record.end_reason not in RETRIED:
        return Recovered(record, Outcome.ENDED, why_it_ended(record))
    return None


@contextmanager
def _leased(run: RecoveredRun) -> Iterator[None]:
    """Nobody else recovers the run, on any computer, where it has a store that this computer may use.

    Raises `HeldElsewhere`, `Unreachable` where the store does not answer, and `Conflict` where this is another account
    than the run's.
    """
    try:
        run.provider.instance(run.record.instance_id)
    except NotFound:
        check_account(run.provider, run.record)
    with ExitStack() as stack:
        if run.at is not None:
            try:
                run.lease = stack.enter_context(lease_held(run.at, run.record.id))
            except (PermissionDenied, NotFound, ProviderError) as error:
                if error.code == "throttled":
                    # A moment later it answers: somebody else may have the lease.
                    raise Unreachable(error.message, hint=error.hint, code=error.code) from error
                run.session.progress.detail(
                    f"other computers are not kept from recovering {run.record.id}: {error.message}"
                )
        yield


def _recover(run: RecoveredRun, *, once: bool, afresh: bool) -> Recovered:
    """With the lease: what others have done for the run is looked at first."""
    before = run.record
    if run.lease is not None:
        run.record = catch_up(run.session, before)
    unfinished = _unfinished(run)
    if unfinished is not None:
        return unfinished
    if run.record.attempt != before.attempt or not run.record.has_ended:
        (run.record,) = refresh(run.session, [run.record])
    known = run.record
    if not known.has_ended:
        return _moved(run)
    if known.end_reason in RETRIED:
        # Before anything is rented: whoever asked the provider first may not have known this.
        run.take_end(known, end_in_store(run.session, known))
    if run.record.end_reason not in RETRIED:
        return Recovered(run.record, Outcome.ENDED, why_it_ended(run.record))
    return _to_the_next_attempt(run, once=once, afresh=afresh)


def _held_elsewhere(run: RecoveredRun, held: HeldElsewhere) -> Recovered:
    """What is known of the run by what others have written of it."""
    record = catch_up(run.session, run.record)
    if record.has_ended and record.end_reason not in RETRIED:
        return Recovered(record, Outcome.ENDED, why_it_ended(record))
    if held.refused.ended:
        return Recovered(record, Outcome.ENDED, f"has ended as {held.refused.ended}")
    return Recovered(record, Outcome.GOES_ON, f"is left alone: {held.message}")


def going_on(record: RunRecord) -> str:
    """For a person, after the run's id: how far it is. Pure."""
    return "cannot be asked" if record.state is RunPhase.UNKNOWN else f"is {record.state.value}"


@contextmanager
def _alone(run_id: str) -> Iterator[None]:
    """For the time in which a run is recovered; it ends with the process. Raises `BeingRecovered`."""
    folder = data_folder() / "recoveries"
    make_private_folder(folder)
    path: Path = folder / f"{run_id}.lock"
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BeingRecovered(
                f"{run_id} is being recovered by another command",
                hint=f"runctl runs show {run_id} shows how far it is",
            ) from error
        yield


def _never_heard(record: RunRecord) -> bool:
    """Whether the machine of a further attempt may not have heard of it. Pure."""
    pending = record.end_reason is EndReason.NOT_STARTED or record.state is RunPhase.PENDING
    return pending and bool(record.past)


def _unfinished(run: RecoveredRun) -> Recovered | None:
    """An attempt that was written down, and whose machine may not have heard of it, has started."""
    record = run.record
    if not _never_heard(record):
        return None
    recipe = run.recipes.find(record.id)
    if recipe is None or recipe.spec.attempt != record.attempt:
        return None
    try:
        instance = run.provider.instance(record.instance_id)
    except NotFound:
        return None
    if instance.state is not InstanceState.RUNNING:
        return None
    return _start_on(run, instance, recipe.spec, record)


def _due(run: RecoveredRun) -> tuple[Market, Why] | None:
    """Where a run that goes on is to go now, by its deadline, and why; ``None``: it stays where it is."""
    recipe = run.recipes.find(run.record.id)
    if recipe is None or recipe.request is None:
        return None
    return due_move(run, rules_of(recipe), SpotPools(run, ASK_FOR_SPOT))


def _moved(run: RecoveredRun) -> Recovered:
    """A run that goes on has gone to another machine where its deadline asks for that."""
    record, due = run.record, _due(run)
    if due is None:
        return Recovered(record, Outcome.GOES_ON, going_on(record))
    market, reason = due
    run.session.progress.note(f"{record.id} is to be on {market.value}, because {reason.value}")
    try:
        if record.nodes is not None:
            check_recoverable(record, run.recipe)
            moved = move_nodes(run, market, reason)
            return Recovered(moved, Outcome.STARTED, f"goes on as attempt {moved.attempt}")
        check_recipe(run)
        return _move(run, market, reason)
    except HasEndedError as error:
        if not run.record.has_ended:
            # It goes on: only another machine is more than its budget allows.
            return Recovered(record, Outcome.GOES_ON, f"stays where it is: it {error.message}")
        return Recovered(run.record, Outcome.ENDED, error.message)
    except CapacityError as error:
        if run.record is not record:
            raise
        if market is Market.SPOT:
            SpotPools(run, ASK_FOR_SPOT).refused(error)
        run.note_rented(error)
        return Recovered(record, Outcome.GOES_ON, not_to_be_had(market, error), frozenset(run.rented_on))


def _move(run: RecoveredRun, market: Market, reason: Why) -> Recovered:
    """The next attempt has started on another machine, which was ready before this one ended."""
    record, number = run.record, run.next_attempt
    with _machine_for(run, market, number) as rented:
        run.check_wanted()
        left = leave_machine(run, market, reason)
        if not run.store.replace(left, record):
            # Whoever follows the log may have been quicker to write the same end down.
            known = run.store.get(record.id)
            if (known.attempt, known.end_reason) != (left.attempt, left.end_reason):
                raise run.stopped()
        run.record = left
        if left.end_reason not in RETRIED:
            # It has ended by itself meanwhile: whoever asks next learns how.
            raise HasEndedError(why_it_ended(left))
        give_back_old(run, left)
        bring_volumes(run, rented)
        ends_itself = require(run.provider.renting).ends_on_shutdown
        lifetime = _lifetime(run, rented)
        spec = next_spec(run.recipe, run.record, ends_itself=ends_itself, lifetime=lifetime)
        return _start_on(run, rented, replace(spec, attempt=number))


def _to_the_next_attempt(run: RecoveredRun, *, once: bool, afresh: bool) -> Recovered:
    """Rent, attach, send, start; as often as `decide_next` says so."""
    run.begin_search()
    rules, attempts = rules_of(run.recipe), history(run.record)
    pools = SpotPools(run, timedelta(seconds=REFUSED_FOR), afresh=afresh)
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
        on_demand = refused_at is None or run.clock.monotonic() - refused_at >= REFUSED_FOR
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
        run.clock.sleep(PAUSE)


def _attempt(run: RecoveredRun, market: Market) -> Recovered:
    staying = same_machine(run)
    if staying is not None:
        spec = next_spec(run.recipe, run.record, ends_itself=False)
        return _start_on(run, staying, replace(spec, attempt=run.next_attempt))
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
        return _start_on(run, instance, replace(spec, attempt=number))


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


def _start_on(
    run: RecoveredRun, instance: Instance, spec: RunSpec, known: RunRecord | None = None
) -> Recovered:
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
