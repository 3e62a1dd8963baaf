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
from functools import partial
from pathlib import Path

from runctl.agent.deadline import Why
from runctl.agent.end_reason import RETRIED, EndReason
from runctl.core.clock import Clock, SystemClock
from runctl.core.errors import (
    CapacityError,
    NotFound,
    PermissionDenied,
    ProviderError,
    RunctlError,
    Unreachable,
    passes_by_itself,
)
from runctl.core.files import data_folder, make_private_folder
from runctl.core.machine_models import InstanceState, Market
from runctl.core.run_models import RunPhase
from runctl.machines.session import Session
from runctl.runs.asking import refresh
from runctl.runs.nodes.asking import confirmed
from runctl.runs.nodes.giving_back import tidy_up_networks
from runctl.runs.records.account import check_account
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import run_store
from runctl.runs.recovering.adopting import adopt
from runctl.runs.recovering.machines import check_recipe
from runctl.runs.recovering.moving import ASK_FOR_SPOT, due_move, not_to_be_had
from runctl.runs.recovering.next_attempt import rules_of, why_it_ended
from runctl.runs.recovering.outcome import BeingRecovered, Outcome, Recovered
from runctl.runs.recovering.pools import SpotPools
from runctl.runs.recovering.run import HasEndedError, RecoveredRun
from runctl.runs.recovering.several_machines import check_recoverable, move_nodes, recover_nodes
from runctl.runs.recovering.start_next import move, start_next, start_on
from runctl.runs.stored.elsewhere import catch_up
from runctl.runs.stored.leases import HeldElsewhere, lease_held
from runctl.runs.stored.recipe import Recipes
from runctl.runs.stored.stored_results import end_in_store
from runctl.runs.unattended.state import check_group_is_gone, group_text, lives


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
    run that was not started here, what `check_group_is_gone` raises, and what renting, attaching and starting raise.
    """
    store = run_store(session)
    with _alone(record.id):
        known = store.get(record.id)
        if known.needs_refresh:
            (known,) = refresh(session, [known])
            if lives(known):
                # What rents a second machine for a run whose group is about to rent one pays for nothing.
                return Recovered(known, Outcome.GOES_ON, group_text(known))
        if not known.has_ended or known.end_reason in RETRIED:
            check_group_is_gone(known)
            known = _with_recipe(session, known)
        run = RecoveredRun(session, known, clock or SystemClock(), spot_is_put_off=without_spot)
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


def _with_recipe(session: Session, known: RunRecord) -> RunRecord:
    """What another attempt needs is kept here: of a run that was left to a group, which is gone, the store has it.

    Raises what `adopt` raises.
    """
    was_left = known.store is not None and known.unattended is not None
    if not was_left or Recipes(session.database).find(known.id) is not None:
        return known
    return adopt(session.in_region(known.region), f"{known.store}/{known.id}", known.provider)


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
                run.lease = stack.enter_context(lease_held(run.at, run.record.id, partial(_has_ended, run)))
            except (PermissionDenied, NotFound, ProviderError) as error:
                if passes_by_itself(error):
                    # A moment later it answers: somebody else may have the lease.
                    raise Unreachable(error.message, hint=error.hint, code=error.code) from error
                run.session.progress.detail(
                    f"other computers are not kept from recovering {run.record.id}: {error.message}"
                )
        yield


def _has_ended(run: RecoveredRun, holder: str) -> bool:
    """Whether it is the run's machine, and the provider says that it has ended."""
    # One that is shutting down may still hand over.
    if holder != run.record.instance_id:
        return False
    try:
        return run.provider.instance(run.record.instance_id).state is InstanceState.TERMINATED
    except NotFound:
        # `_leased` has made sure that this is the run's account.
        return True
    except RunctlError:
        return False


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
    return start_next(run, once=once, afresh=afresh)


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
    return start_on(run, instance, recipe.spec, record)


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
        return move(run, market, reason)
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
