"""What this computer knows that bears on a resource: its runs, and what it was about to make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from runctl.agent.end_reason import NEVER_RAN, RETRIED
from runctl.cleanup.facts import Facts, IntentFact, RunFact
from runctl.core import tags as tag
from runctl.core.database import StateError
from runctl.core.errors import Unsupported
from runctl.machines.intents import Intent
from runctl.providers.abilities.inventory import EVERYTHING, Listing, Resource, ResourceKind
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import run_store
from runctl.runs.stored.recipe import Recipes
from runctl.runs.stored.stored_data import store_of

if TYPE_CHECKING:
    from runctl.machines.session import Session


def run_fact(record: RunRecord) -> RunFact:
    """What of a run bears on resources. Pure."""
    volumes = {mount.volume_id for mount in record.mounts if mount.volume_id}
    if record.saved_volume is not None:
        volumes.add(record.saved_volume)
    never_ran = record.end_reason in NEVER_RAN and record.attempt == 1 and record.checkpoint is None
    end = record.machine_end
    waits = (
        max(end.read_within_seconds, end.fetch_within_seconds, end.keep_on_failure_seconds) if end else 0.0
    )
    return RunFact(
        id=record.id,
        instance_id=record.instance_id,
        volumes=frozenset(volumes),
        store=store_of(record),
        goes_on=not record.has_ended,
        unfinished=not record.has_ended or (record.end_reason in RETRIED and not never_ran),
        rented=end is not None and not end.keep,
        fetched_until=record.ended_at + timedelta(seconds=waits) if record.ended_at is not None else None,
        image_digest=record.image_digest,
    )


def run_facts(record: RunRecord) -> tuple[RunFact, ...]:
    """The same of each of its machines. Pure."""
    fact = run_fact(record)
    return tuple(replace(fact, instance_id=machine) for machine in record.machines) or (fact,)


def gather(session: Session, users: Mapping[str, str | None], listing: Listing) -> Facts:
    """The facts for judging what was listed; a state file that cannot be read is said in them."""
    renting = {each.provider for each in listing.resources if each.kind is ResourceKind.INSTANCE}
    stopping = {name: session.provider(name).stop_and_start for name in renting}
    seen = Facts(
        users=users,
        existing={resource.id: resource for resource in listing.resources},
        unread=listing.unread,
        region=session.region,
        cannot_stop={
            name: found.message for name, found in stopping.items() if isinstance(found, Unsupported)
        },
        loses_disks=frozenset(
            name
            for name, found in stopping.items()
            if not isinstance(found, Unsupported) and not found.keeps_disks
        ),
    )
    try:
        stores = Recipes(session.database).stores()
        known = (fact for record in run_store(session).list() for fact in run_facts(record))
        runs = tuple(
            replace(fact, keep_last=store.keep_last, keep_best=tuple(store.keep_best))
            if (store := stores.get(fact.id)) is not None
            else fact
            for fact in known
        )
        intents = {intent.token: _intent_fact(session, intent) for intent in session.intents.unfinished()}
    except StateError as error:
        return replace(seen, state_error=error.message)
    return replace(seen, runs=runs, intents=intents)


def _intent_fact(session: Session, intent: Intent) -> IntentFact:
    lock = session.intents.lock(intent.token)
    if lock is not None:
        lock.release(for_good=False)
    return IntentFact(intent.token, intent.kind.value, unfinished=True, busy=lock is None)


def with_intents(session: Session, listing: Listing) -> Listing:
    """The listing, and what this computer was about to make or delete where nothing of it is there.

    Where a region could not be read nothing is known of its intents, and none is listed.
    """
    try:
        intents = session.intents.unfinished()
    except StateError:
        return listing
    silent = {each.provider for each in listing.unread if each.what == EVERYTHING}
    accounts = {
        name: session.provider(name).scope().account for name in {each.provider for each in intents} - silent
    }
    return replace(
        listing,
        resources=(
            *listing.resources,
            *(
                _as_resource(intent)
                for intent in intents
                if accounts.get(intent.provider, "") == intent.account and is_left_over(intent, listing)
            ),
        ),
    )


def is_left_over(intent: Intent, listing: Listing) -> bool:
    """Whether an open intent has nothing to show, and all of its region was read. Pure."""
    unread = any(
        each.provider == intent.provider and each.region in {None, intent.region} for each in listing.unread
    )
    if unread or (intent.region is not None and intent.region not in listing.regions):
        return False
    return not any(
        resource.id == intent.resource_id or resource.tags.get(tag.INTENT) == intent.token
        for resource in listing.resources
    )


def _as_resource(intent: Intent) -> Resource:
    what = intent.kind.value.replace("-", " ")
    return Resource(
        kind=ResourceKind.INTENT,
        id=intent.token,
        name=intent.name,
        provider=intent.provider,
        region=intent.region,
        zone=None,
        state=intent.state.value,
        created_at=intent.created_at,
        project=intent.project,
        owner=None,
        size_bytes=None,
        details=f"{what} {intent.resource_id}" if intent.resource_id else what,
        tags={tag.OWNED: tag.OWNED_VALUE},
    )


def unfinished_on(records: Sequence[RunRecord], listing: Listing) -> list[RunRecord]:
    """The runs that may continue on a machine that was listed. Pure."""
    machines = {each.id for each in listing.resources if each.kind is ResourceKind.INSTANCE}
    return [record for record in records if not record.has_ended and machines.intersection(record.machines)]
