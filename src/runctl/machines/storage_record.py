"""Writes into the ledger what is stored with a provider: objects of runs and images, as they are listed.

Nobody rents them by a call of their own, and nobody tells when they change: a row has what each look found.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from runctl.agent.object_store import is_address
from runctl.core.errors import RunctlError, Unsupported
from runctl.costs.entries import Entry, EntryKind, EntryState
from runctl.costs.sightings import vanished, with_stored
from runctl.machines.ledger_record import LedgerRecord
from runctl.providers.abilities.inventory import Listing, Resource, ResourceKind
from runctl.providers.abilities.prices import Prices

STORED = frozenset({ResourceKind.OBJECTS, ResourceKind.IMAGE})
PASSING = "staged"
"""The state of what is on its way to a machine: it is gone within a day."""
_GIB = 1 << 30


def note_stored(record: LedgerRecord, listing: Listing, now: datetime) -> None:
    """The ledger has what was listed, and what of it is gone; what could not be read stays as it was.

    Raises `StateError`.
    """
    provider, account, home = record.scope
    found = [
        each
        for each in listing.resources
        if each.provider == provider and each.kind in STORED and each.state != PASSING
    ]
    prices = record.provider.prices
    per_gib = {key: _per_gib(prices, *key) for key in {(each.kind, each.region) for each in found}}
    with record.changing():
        open_ones = {
            str(entry.resource_id): entry
            for entry in record.ledger.select(
                "provider = ? AND account = ? AND kind = ? AND state = 'open'",
                (provider, account, EntryKind.STORAGE.value),
            )
        }
        entries = []
        for each in found:
            key = _key(each)
            known = open_ones.pop(key, None) or record.ledger.of_resource(provider, account, key)
            if known is None and each.id in open_ones and open_ones[each.id].region == each.region:
                # Written before regions were told apart.
                known = open_ones.pop(each.id)
            entries.append(_seen(known or _new(record, each), each, per_gib[each.kind, each.region], now))
        if not any(each.provider == provider for each in listing.unread):
            asked = {home, *listing.regions}
            # Objects are listed for the whole account, whatever the region is in which they were seen first.
            gone = [e for e in open_ones.values() if e.region in asked or is_address(str(e.resource_id))]
            entries += [vanished(entry, None) for entry in gone]
        record.ledger.put(*entries)


def _key(resource: Resource) -> str:
    """What the ledger calls it: the same image may be in several regions, and costs in each."""
    return resource.id if resource.region is None else f"{resource.id} in {resource.region}"


def _new(record: LedgerRecord, resource: Resource) -> Entry:
    blank = record.blank(EntryKind.STORAGE, None, resource.created_at)
    return replace(blank, state=EntryState.OPEN, minimum_seconds=0, region=resource.region or blank.region)


def _seen(entry: Entry, resource: Resource, per_gib: Decimal | None, now: datetime) -> Entry:
    """Pure."""
    gib = Decimal(resource.size_bytes or 0) / _GIB
    seen = with_stored(
        entry,
        _key(resource),
        gib,
        resource.created_at or now,
        now,
        None if per_gib is None else per_gib * gib,
    )
    # Of objects, the name is that of their run.
    is_of_run = resource.kind is ResourceKind.OBJECTS and resource.name is not None
    return replace(
        seen,
        project=resource.project or entry.project,
        owner=resource.owner or entry.owner,
        name=resource.name or entry.name,
        run_id=resource.name if is_of_run else entry.run_id,
    )


def _per_gib(prices: Prices | Unsupported, kind: ResourceKind, region: str | None) -> Decimal | None:
    """USD a month, of the first tier: what else the account keeps is not known. ``None``: nobody tells."""
    if isinstance(prices, Unsupported):
        return None
    with suppress(RunctlError):
        if kind is ResourceKind.IMAGE:
            rate = prices.image_storage(region)
        else:
            stored = prices.storage(region)
            rate = None if stored is None else stored.gib_month.first
        return None if rate is None else rate.usd
    return None
