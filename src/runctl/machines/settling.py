"""The ledger is compared with what the cloud says: what ended while nobody looked gets its true end, what somebody else
rented with the same tags gets its row, and spot machines get the prices that the market had.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from runctl._dataclasses import dataclass
from runctl.core.clock import Clock, SystemClock
from runctl.core.errors import CredentialsError, RunctlError, Unsupported
from runctl.core.machine_models import Instance, Market, Snapshot, Volume
from runctl.costs.entries import Entry, EntryKind, EntryState
from runctl.costs.ledger import Ledger
from runctl.costs.sightings import ended, vanished
from runctl.machines.intents import LIVES_UNSEEN
from runctl.machines.ledger_record import LedgerRecord
from runctl.machines.session import Session
from runctl.providers.interface import Provider, require
from runctl.providers.registry import names

APPEARS_WITHIN = timedelta(minutes=10)
"""A list may lack what was made so shortly ago: lists lag behind calls."""


@dataclass(frozen=True)
class Settlement:
    """How far the ledger agrees with the cloud now."""

    at: datetime
    problems: tuple[str, ...]
    """What could not be asked, and why; a sentence each."""


@dataclass(frozen=True)
class Sightings:
    """What a provider shows in a region: all of ours, ended instances included as long as it shows them."""

    instances: tuple[Instance, ...]
    volumes: tuple[Volume, ...] | None
    """``None``: it has none, or did not say."""
    snapshots: tuple[Snapshot, ...] | None


def settle(session: Session, *, clock: Clock | None = None) -> Settlement:
    """Every provider and region of which the ledger has something that goes on is asked, and the configured ones."""
    clock = clock or SystemClock()
    problems: list[str] = []
    asked: set[tuple[str, str]] = set()
    refused: dict[str, str] = {}
    going = Ledger(session.database).select("state != 'closed'", ())
    for there, name in _accounts(session, going, problems, refused):
        known = any(entry.provider == name for entry in going)
        try:
            record = there.ledger_record(name)
            settle_at(record, clock.now())
            asked.add(record.scope[:2])
        except CredentialsError as error:
            # Who has never rented anything there need not hear that he could not.
            if known:
                problems.append(f"{name} could not be asked: {error.message}")
            else:
                refused[name] = error.message
        except RunctlError as error:
            problems.append(f"{name} could not be asked: {error.message}")
    if refused and not asked and not problems:
        each = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        problems.append(f"nobody could be asked what there is: {each}")
    pretends = {name: not session.provider(name).costs_money() for name, _ in asked}
    for name, account in sorted({(entry.provider, entry.account) for entry in going} - asked):
        if name in pretends and any(
            entry.account == account and entry.in_sandbox == pretends[name] for entry in going
        ):
            problems.append(
                f"what is rented by {name} account {account} was not asked for: choose its --profile"
            )
    return Settlement(clock.now(), tuple(problems))


def settle_at(record: LedgerRecord, now: datetime) -> None:
    """The ledger agrees with what the provider shows in its region. Raises what the provider raises, `StateError`."""
    seen = sightings_of(record.provider)
    on_spot = {each.instance_type for each in seen.instances if each.market is Market.SPOT}
    record.learn_list_prices(on_spot)
    # All in one step: a thousand machines are not a thousand waits for the disk.
    with record.changing():
        for instance in seen.instances:
            record.seen_instance(instance, now)
        for volume in seen.volumes or ():
            record.seen_volume(volume, now)
        for snapshot in seen.snapshots or ():
            record.seen_snapshot(snapshot, now)
        left = record.ledger.unfinished(*record.scope)
        record.ledger.put(*_missing(left, seen, now))
        for token in _never_created(left, now):
            record.ledger.drop(token)
    record.price_addresses()
    record.price_spot()


def first_seen(record: LedgerRecord, volume_ids: Collection[str], now: datetime) -> Mapping[str, datetime]:
    """When this computer saw each of these volumes first; one that it has not seen yet is in the ledger from now on.

    Raises what the provider's list raises, `StateError`.
    """
    found = _began(record, volume_ids)
    if found.keys() < set(volume_ids):
        shown = require(record.provider.volumes).list()
        with record.changing():
            for volume in shown:
                if volume.id in volume_ids and volume.id not in found:
                    record.seen_volume(volume, now)
        found = _began(record, volume_ids)
    return found


def _began(record: LedgerRecord, resource_ids: Collection[str]) -> dict[str, datetime]:
    known = record.ledger.of_resources(*record.scope[:2], resource_ids)
    return {str(each.resource_id): each.began_at for each in known if each.began_at}


def sightings_of(provider: Provider) -> Sightings:
    """What the provider shows. Raises what its lists raise."""
    volumes, snapshots = provider.volumes, provider.snapshots
    return Sightings(
        provider.instances(include_ended=True),
        None if isinstance(volumes, Unsupported) else volumes.list(),
        None if isinstance(snapshots, Unsupported) else snapshots.list(),
    )


def _missing(left: Sequence[Entry], seen: Sightings, now: datetime) -> Iterator[Entry]:
    """What the ledger takes for existing and the provider does not show. Pure."""
    shown: dict[EntryKind, set[str] | None] = {
        EntryKind.INSTANCE: {each.id for each in seen.instances},
        EntryKind.VOLUME: None if seen.volumes is None else {each.id for each in seen.volumes},
        EntryKind.SNAPSHOT: None if seen.snapshots is None else {each.id for each in seen.snapshots},
    }
    gone: dict[str, Entry] = {}
    for entry in left:
        ids = shown.get(entry.kind)
        if entry.state is not EntryState.OPEN or entry.resource_id is None or ids is None:
            continue
        young = now - max(entry.opened_at, entry.began_at or entry.opened_at) < APPEARS_WITHIN
        if entry.resource_id in ids or young:
            continue
        over = vanished(entry, None)
        gone[entry.resource_id] = over
        yield over
    for entry in left:
        # What comes with a machine goes with it, whether or not it was ever named.
        if entry.machine in gone and entry.resource_id not in gone and entry.state is EntryState.OPEN:
            yield ended(entry, gone[entry.machine].ended_at or now, estimated=True)


def _never_created(left: Sequence[Entry], now: datetime) -> list[str]:
    """The tokens of what was about to be rented, and by now would be seen if it had been. Pure."""
    return [
        entry.token
        for entry in left
        if entry.state is EntryState.INTENDED and entry.token and now - entry.opened_at > LIVES_UNSEEN
    ]


def _accounts(
    session: Session, going: Sequence[Entry], problems: list[str], refused: dict[str, str]
) -> Iterator[tuple[Session, str]]:
    """Where to ask: the configured region of each provider that rents, and where else something goes on. Those that are
    not set up are in ``problems`` where they have something of ours, else in ``refused``."""
    for name in names():
        own = [entry for entry in going if entry.provider == name]
        try:
            provider = session.provider(name)
        except RunctlError as error:
            if own:
                problems.append(f"{name} could not be asked: {error.message}")
            else:
                refused[name] = error.message
            continue
        if isinstance(provider.renting, Unsupported):
            continue
        yield session, name
        pretends = not provider.costs_money()
        for region in sorted({entry.region for entry in own if entry.in_sandbox == pretends}):
            there = session.in_region(region)
            if there is not session and region != provider.region:
                yield there, name
