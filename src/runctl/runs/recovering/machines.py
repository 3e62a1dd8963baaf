"""The machine of a run's next attempt: the one that is there still, one that was rented already, or a new one."""

from __future__ import annotations

from runctl.core.errors import (
    CapacityError,
    Interrupted,
    NotFound,
    QuotaExceeded,
    RunctlError,
    Unsupported,
    UsageError,
    add_fact,
)
from runctl.core.machine_models import Instance, InstanceState, Market
from runctl.core.money import usd
from runctl.core.tags import ATTEMPT
from runctl.machines.renting import READY_TIMEOUT
from runctl.project.kept import kept_projects
from runctl.providers.abilities.limits import TOO_LITTLE
from runctl.providers.instance_plans import InstanceRequest
from runctl.runs.images.registry_logins import keep_pull_login
from runctl.runs.recovering.next_attempt import next_request
from runctl.runs.recovering.relocating import relocations_of, volumes_zone
from runctl.runs.recovering.run import HasEndedError, RecoveredRun
from runctl.runs.relocation import is_due, relocation_text


def same_machine(run: RecoveredRun) -> Instance | None:
    """The machine of the last attempt, where nobody takes it back: it was only started anew, say."""
    given = run.record.hand_off
    if given is not None and not given.is_rehearsal:
        return None
    try:
        instance = run.provider.instance(run.record.instance_id)
    except NotFound:
        return None
    going = instance.state is InstanceState.RUNNING and not instance.interrupted
    return instance if going else None


def check_recipe(run: RecoveredRun) -> None:
    """Raises `Unsupported` for what only the first attempt's machine had."""
    spec = run.recipe.spec
    if spec.node is not None:
        raise Unsupported(
            f"{spec.run_id} is on several machines, and nothing here says which",
            hint="start a new run from its checkpoints: --resume-from",
        )
    if spec.tree is None and not spec.is_command and not spec.builtin:
        raise Unsupported(
            f"{spec.run_id} used the project that its machine had (--no-sync-code)",
            hint="start a new run from its checkpoints: --resume-from",
        )
    if spec.container is not None and spec.container.build is not None and spec.container.build.secrets:
        raise Unsupported(
            f"the image of {spec.run_id} is built with secrets, which are not kept",
            hint="start a new run from its checkpoints: --resume-from",
        )
    if spec.tree is not None:
        kept_projects().check(spec.tree)
    if run.recipe.request is None:
        raise Unsupported(
            f"what a machine like that of {spec.run_id} is rented by is not known",
            hint="start a new run from its checkpoints: --resume-from",
        )


def rented_before(run: RecoveredRun, number: int) -> Instance | None:
    """What an earlier call has rented for this attempt; it can be used. Raises what `Rentals.wait_ready` raises."""
    found = find_rented(run, number)
    if found is None:
        return None
    run.session.progress.note(f"{found.id} was rented for attempt {number} already: going on with it")
    # Whoever rented it may not have seen its first boot finish.
    return run.rentals.wait_ready(found.id, READY_TIMEOUT)


def find_rented(run: RecoveredRun, number: int) -> Instance | None:
    """What goes on of the machines that were rented for this attempt."""
    wanted = f"{run.record.id}/{number}"
    there = [
        each
        for each in run.provider.instances()
        if each.tags.get(ATTEMPT) == wanted and not each.state.is_over
    ]
    return there[-1] if there else None


def rent(run: RecoveredRun, market: Market, number: int) -> Instance:
    """A new machine for this attempt; it can be used. Where the zone of the run's volumes has none, and it is sooner
    for them to follow, it is in another zone. Raises what `NewMachine.rent` raises, and `NotFound`."""
    zone = volumes_zone(run)
    try:
        return _rent(run, request_for(run, market, number, zone))
    except QuotaExceeded:
        raise
    except CapacityError as error:
        # The volumes of a run that goes on are in use.
        if zone is None or not run.record.has_ended:
            raise
        refused = error
    for relocation in relocations_of(run):
        if not is_due(relocation, run.searched()):
            add_fact(refused, relocation_text(relocation), "")
            continue
        run.session.progress.note(relocation_text(relocation))
        try:
            return _rent(run, request_for(run, market, number, relocation.to))
        except QuotaExceeded:
            raise
        except CapacityError as error:
            refused = error
    raise refused


def _rent(run: RecoveredRun, wanted: InstanceRequest) -> Instance:
    if wanted.budget is not None and wanted.budget <= 0:
        whole = run.recipe.request.budget if run.recipe.request is not None else None
        raise HasEndedError(f"has used up its budget of {usd(whole or wanted.budget)}")
    keep_pull_login(run.session, run.provider, wanted.image)
    try:
        with run.rentals.renting(wanted) as new:
            return new.rent()
    except UsageError as error:
        if error.code != TOO_LITTLE:
            raise
        raise HasEndedError(f"has used up its budget: {error.message}") from error


def request_for(run: RecoveredRun, market: Market, number: int, zone: str | None) -> InstanceRequest:
    """What the machine of this attempt is rented by in a zone."""
    request = run.recipe.request
    assert request is not None  # noqa: S101 - `check_recipe` has looked
    return next_request(request, run.record, number, market, zone)


def after_failure(
    run: RecoveredRun, instance: Instance | None, number: int, error: BaseException
) -> BaseException:
    """What was rented for the attempt is given back unless it may have started; the error says which."""
    if isinstance(error, KeyboardInterrupt) and instance is None:
        return Interrupted(
            f"interrupted; nothing is rented for attempt {number} of {run.record.id}",
            hint=f"runctl runs recover {run.record.id}",
        )
    known = run.store.find(run.record.id)
    may_have_started = known is not None and known.attempt == number and not known.has_ended
    if instance is None:
        return error
    if may_have_started:
        facts, hint = f"attempt {number} may continue on {instance.id}", f"runctl runs show {run.record.id}"
    else:
        facts, hint = run.rentals.give_back_surely(instance.id)
    if isinstance(error, KeyboardInterrupt):
        return Interrupted(
            f"interrupted; {facts}",
            hint=f"{hint + '; ' if hint else ''}runctl runs recover {run.record.id}",
        )
    if isinstance(error, RunctlError) and not may_have_started:
        error.rented_on = instance.market.value
    add_fact(error, facts, hint)
    return error
