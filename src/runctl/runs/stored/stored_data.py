"""What runs keep in object stores and registries: where it is, and what the ledger has of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from runctl.agent.object_store import is_address
from runctl.core.clock import Clock
from runctl.core.database import StateError
from runctl.core.errors import CredentialsError, PermissionDenied, RunctlError, Unsupported
from runctl.costs.entries import EntryKind
from runctl.costs.ledger import Ledger
from runctl.machines.storage_record import STORED, note_stored
from runctl.providers.registry import names
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import run_store

if TYPE_CHECKING:
    from runctl.machines.session import Session


def stores_of(session: Session, provider: str) -> Mapping[str, str]:
    """The addresses at which runs of this computer keep their data, each with the run's id; also of runs that are
    forgotten, as long as the ledger has that something was there."""
    try:
        records = run_store(session).list()
        stored = Ledger(session.database).select(
            "provider = ? AND kind = ? AND state = 'open'", (provider, EntryKind.STORAGE.value)
        )
    except StateError:
        return {}
    found = {
        address: record.id
        for record in records
        if record.provider == provider and (address := store_of(record)) is not None
    }
    kept = [entry for entry in stored if is_address(str(entry.resource_id)) and entry.run_id is not None]
    account = _account(session, provider) if kept else None
    of_ledger = {
        str(entry.resource_id).rstrip("/"): str(entry.run_id) for entry in kept if entry.account == account
    }
    return {**of_ledger, **found}


def _account(session: Session, provider: str) -> str | None:
    """As the ledger has it; ``None`` where nobody tells."""
    try:
        return session.provider(provider).scope().account or ""
    except RunctlError:
        return None


def store_of(record: RunRecord) -> str | None:
    """A run's own address. Pure."""
    return None if record.store is None else f"{record.store.rstrip('/')}/{record.id}"


def note_all_stored(session: Session, clock: Clock) -> Iterator[str]:
    """The ledger has what is stored with every provider now, of images what the configured region has.

    Gives a sentence for each part that could not be looked at. Raises `StateError`.
    """
    for name in names():
        try:
            provider = session.provider(name)
            inventory = provider.inventory
            if isinstance(inventory, Unsupported):
                continue
            regions = None if provider.region is None else [provider.region]
            listing = inventory.list(
                regions=regions, kinds=STORED, stores=stores_of(session, name), progress=session.progress
            )
        except StateError:
            raise
        except RunctlError as error:
            # Of a provider that cannot be asked at all, `settle` has said so.
            if not isinstance(error, CredentialsError) or isinstance(error, PermissionDenied):
                yield f"what is stored with {name} could not be looked at: {error.message}"
            continue
        note_stored(session.ledger_record(name), listing, clock.now())
        for unread in listing.unread:
            yield f"{unread.what} of {name} could not be looked at: {unread.reason}"
