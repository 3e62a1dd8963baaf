"""A run that another computer has started becomes known here, by its prefix in the store."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from runctl.agent import stored_run
from runctl.agent.end_reason import RETRIED
from runctl.agent.stored_run import StoredMachine
from runctl.checkpoints.download import Prefix
from runctl.core.errors import Conflict, NotFound, Unsupported
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance, InstanceState, Market
from runctl.core.run_models import GroupPhase, UnattendedRun
from runctl.machines.session import Session
from runctl.project.kept import kept_projects
from runctl.runs.checkpoints.locations import stored_at
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import run_store
from runctl.runs.records.updates import planned
from runctl.runs.stored.elsewhere import catch_up, price_of, read, read_attempt, with_stored
from runctl.runs.stored.recipe import Recipe, Recipes
from runctl.runs.stored.stored_results import run_prefix
from runctl.runs.stored.stored_run import RunFacts, fetch_project, read_run


def adopt(session: Session, address: str, provider: str | None = None) -> RunRecord:
    """This computer knows the run as if it had been started here; one that it knows is brought up to date.

    Raises `NotFound` (code ``not-stored``), `Conflict` (code ``another-store``), `UsageError`, `Unsupported`, and what
    the store raises.
    """
    location = stored_at(session, address.rstrip("/"), provider)
    at, store = location.at, run_store(session)
    found = read_run(at)
    recipes = Recipes(session.database)
    known = store.find(found.recipe.run_id)
    if known is not None:
        _check_is_its_own(known, at)
    if known is None:
        known = _first(at, found.recipe, found.facts)
        recipes.put(found.recipe)
        store.put(known)
    elif recipes.find(known.id) is None and known.end_reason in {None, *RETRIED}:
        recipes.put(found.recipe)
    if found.recipe.spec.tree is not None:
        fetch_project(at, found.recipe.spec.tree, kept_projects())
    return catch_up(session, known, found.recipe)


def _check_is_its_own(known: RunRecord, at: Prefix) -> None:
    """Raises `Conflict` where the run is known to have another store: whoever has written here may not say how it goes
    on."""
    own = run_prefix(known.store, known)
    if own is not None and (own.bucket, own.prefix) != (at.bucket, at.prefix):
        raise Conflict(
            f"{known.id} is known here, and its store is {own}, not {at}",
            hint=f"runctl runs recover {known.id}",
            code="another-store",
        )


def _first(at: Prefix, recipe: Recipe, facts: RunFacts) -> RunRecord:
    """The record of the first attempt, by what its machine has said of it."""
    machine = read(at, stored_run.machine_key(1), StoredMachine)
    if machine is None:
        raise NotFound(
            f"{at} does not say which machine the run began on",
            hint="runctl runs list, on the computer that has started it",
            code="not-stored",
        )
    created_at = datetime.fromtimestamp(machine.created_at, UTC)
    record = planned(
        replace(recipe.spec, attempt=1),
        _instance(recipe, machine),
        created_at,
        recipe.region,
        account=None,
        name=facts.name,
        git=facts.git,
    )
    # Whether the group is still there is asked of its provider, as everywhere.
    group = recipe.spec.machine_end.group if recipe.spec.machine_end is not None else None
    unattended = None if group is None else UnattendedRun(group.group, GroupPhase.RENTING)
    record = replace(record, results=facts.results, unattended=unattended)
    known = with_stored(record, read_attempt(at, 1))
    if recipe.nodes is not None and known.nodes is None:
        raise Unsupported(
            f"{recipe.run_id} is on several machines, and {at} does not say which",
            hint="the computer that has started it recovers it",
        )
    return known


def _instance(recipe: Recipe, machine: StoredMachine) -> Instance:
    return Instance(
        id=InstanceId(machine.instance_id),
        provider=recipe.provider,
        state=InstanceState.RUNNING,
        instance_type=machine.instance_type,
        market=Market.SPOT if machine.market == Market.SPOT.value else Market.ON_DEMAND,
        zone=machine.zone or None,
        public_ip=None,
        private_ip=None,
        price_per_hour=price_of(machine),
        project="",
        owner="",
        created_at=datetime.fromtimestamp(machine.created_at, UTC),
        tags={},
    )
