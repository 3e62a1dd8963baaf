"""What there is with every provider, and what of it a user wants to see."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING

from runctl._dataclasses import dataclass
from runctl.cleanup.machines_only import MachineInventory
from runctl.core.database import StateError
from runctl.core.errors import CredentialsError, NotFound, RunctlError, Unsupported, UsageError
from runctl.core.names import did_you_mean
from runctl.providers.abilities.inventory import (
    EVERYTHING,
    Inventory,
    Listing,
    Resource,
    ResourceKind,
    Unread,
)
from runctl.providers.registry import names

if TYPE_CHECKING:
    from runctl.machines.session import Session


class SortKey(StrEnum):
    """By what a list is sorted."""

    KIND = "kind"
    AGE = "age"
    COST = "cost"
    REGION = "region"
    NAME = "name"
    SIZE = "size"


class GroupKey(StrEnum):
    """By what resources are put together."""

    KIND = "kind"
    REGION = "region"
    PROJECT = "project"
    OWNER = "owner"
    STATE = "state"
    PROVIDER = "provider"


@dataclass(frozen=True)
class Selection:
    """What of the resources is meant; everything in it must hold."""

    kinds: frozenset[ResourceKind] = frozenset()
    """Empty: all."""
    project: str | None = None
    state: str | None = None
    older_than: timedelta | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    references: tuple[str, ...] = ()
    """Ids or names, compared exactly; empty: all."""


@dataclass(frozen=True)
class Priced:
    """A resource, and what it costs while it stays as it is."""

    resource: Resource
    usd_per_month: Decimal | None
    """``None``: no price is known."""


@dataclass(frozen=True)
class Group:
    """Resources that have something in common."""

    name: str
    count: int
    size_bytes: int
    usd_per_month: Decimal
    unpriced: int
    """How many of them have no known price, and are not in the sum."""


def inventories(session: Session, provider: str | None = None) -> Mapping[str, Inventory]:
    """By name, of one provider or of all that can list what runctl has made.

    Raises `Unsupported` where the provider that was asked for cannot, or none can.
    """
    found, reasons = _inventories(session, provider)
    if not found:
        raise _nobody_to_ask(reasons)
    return found


def _inventories(
    session: Session, provider: str | None
) -> tuple[dict[str, Inventory], dict[str, RunctlError]]:
    """Those there are, and why the others are not set up."""
    found: dict[str, Inventory] = {}
    reasons: dict[str, RunctlError] = {}
    for name in names() if provider is None else [provider]:
        try:
            asked = session.provider(name)
        except RunctlError as error:
            if provider is not None or is_known(session, name):
                raise
            reasons[name] = error  # it is not set up, and nothing was ever made with it
            continue
        ability = asked.inventory
        if not isinstance(ability, Unsupported):
            found[name] = ability
        elif not isinstance(asked.renting, Unsupported):
            found[name] = MachineInventory(asked)
        else:
            reasons[name] = ability
    return found, reasons


def _nobody_to_ask(reasons: Mapping[str, RunctlError]) -> RunctlError:
    """The error of a list that nobody could give: with every provider's reason, where there are several. Pure."""
    if not reasons:
        return Unsupported("no provider that rents machines is installed", hint="runctl providers list")
    # Of the providers that rent at all.
    told = {name: error for name, error in reasons.items() if not isinstance(error, Unsupported)} or reasons
    if len(told) == 1:
        return next(iter(told.values()))
    each = "; ".join(f"{name}: {error.message}" for name, error in told.items())
    kind = CredentialsError if any(isinstance(e, CredentialsError) for e in told.values()) else RunctlError
    return kind(
        f"nobody could be asked what there is: {each}",
        hint="runctl doctor says how to log in; --provider NAME asks one provider, and says how that goes",
    )


def is_known(session: Session, provider: str) -> bool:
    """Whether this computer has ever used the provider, as far as its state file tells."""
    from runctl.runs.records.store import run_store

    try:
        return any(each.provider == provider for each in run_store(session).list()) or any(
            each.provider == provider for each in session.intents.unfinished()
        )
    except StateError:
        return True


def list_all(
    session: Session, *, provider: str | None = None, kinds: Collection[ResourceKind] | None = None
) -> Listing:
    """Everything of every owner, of all regions (or the one that was asked for by name), every provider's.

    What cannot be read is in `Listing.unread`. With ``kinds`` only these are asked for. Raises the providers' errors,
    as one, where none can be asked.
    """
    from runctl.runs.stored.stored_data import stores_of

    regions = None if session.region is None else [session.region]
    resources: list[Resource] = []
    unread: list[Unread] = []
    asked: list[str] = []
    answered = False
    found, reasons = _inventories(session, provider)
    for name, inventory in found.items():
        try:
            listing = inventory.list(
                regions=regions, kinds=kinds, stores=stores_of(session, name), progress=session.progress
            )
        except RunctlError as error:
            reasons[name] = error
            if provider is None and isinstance(error, CredentialsError) and not is_known(session, name):
                # Whoever has no account with a provider has nothing there.
                session.progress.detail(f"{name} was not asked: {error.message}")
                continue
            unread.append(Unread(name, None, EVERYTHING, error.message, error.code))
            continue
        answered = True
        resources += listing.resources
        unread += listing.unread
        asked += listing.regions
    if not answered:
        failed = {each.provider for each in unread}
        # Where a provider was used before, it is the one that matters.
        raise _nobody_to_ask({name: reasons[name] for name in reasons if name in failed} or reasons)
    return Listing(tuple(resources), tuple(unread), tuple(asked))


def of_user(resources: Iterable[Resource], users: Mapping[str, str | None]) -> list[Resource]:
    """The caller's own, and what all share. Pure."""
    return [each for each in resources if each.owner is None or each.owner == users.get(each.provider)]


def select(resources: Sequence[Resource], selection: Selection, now: datetime) -> list[Resource]:
    """Those that are meant. Pure. Raises `NotFound` for a reference that nothing is called by."""
    found = [each for each in resources if _fits(each, selection, now)]
    if not selection.references:
        return found
    wanted = set(selection.references)
    known = {each.id for each in resources} | {each.name for each in resources if each.name}
    for reference in selection.references:
        if not reference.strip():
            raise UsageError("a resource is needed here, and an empty text was given")
        if reference not in known:
            raise NotFound(
                f"runctl has made nothing that is called {reference!r}",
                hint=did_you_mean(reference, known) or "runctl resources list shows what there is",
                code="resource-not-found",
            )
    return [each for each in found if each.id in wanted or each.name in wanted]


def _fits(resource: Resource, selection: Selection, now: datetime) -> bool:
    old_enough = selection.older_than is None or (
        resource.existed_at is not None and now - resource.existed_at >= selection.older_than
    )
    return (
        old_enough
        and (not selection.kinds or resource.kind in selection.kinds)
        and selection.project in {None, resource.project}
        and selection.state in {None, resource.state}
        and all(resource.tags.get(key) == value for key, value in selection.tags.items())
    )


def in_order(priced: Iterable[Priced], by: SortKey) -> list[Priced]:
    """Sorted: the oldest, the dearest and the largest first. Pure."""
    kinds = list(ResourceKind)
    nothing = Decimal(-1)
    keys: Mapping[SortKey, Callable[[Priced], tuple[object, ...]]] = {
        SortKey.KIND: lambda _each: (),
        SortKey.AGE: lambda each: (
            each.resource.existed_at is None,
            each.resource.existed_at.timestamp() if each.resource.existed_at else 0.0,
        ),
        SortKey.COST: lambda each: (-(nothing if each.usd_per_month is None else each.usd_per_month),),
        SortKey.REGION: lambda each: (each.resource.region or "",),
        SortKey.NAME: lambda each: (each.resource.name is None, each.resource.name or ""),
        SortKey.SIZE: lambda each: (-(each.resource.size_bytes or 0),),
    }

    def key(each: Priced) -> tuple[object, ...]:
        last = (kinds.index(each.resource.kind), each.resource.region or "", each.resource.id)
        return (*keys[by](each), *last)

    return sorted(priced, key=key)


def by_group(priced: Iterable[Priced], by: GroupKey) -> dict[str, list[Priced]]:
    """What has something in common, in the order in which it is given; the groups by their names. Pure."""
    parts: dict[str, list[Priced]] = {}
    for each in priced:
        value = getattr(each.resource, by.value)
        parts.setdefault(str(value) if value else "-", []).append(each)
    return dict(sorted(parts.items()))


def grouped(priced: Iterable[Priced], by: GroupKey) -> list[Group]:
    """The sums, by what they have in common. Pure."""
    return [
        Group(
            name,
            len(part),
            sum(each.resource.size_bytes or 0 for each in part),
            sum((each.usd_per_month for each in part if each.usd_per_month is not None), Decimal(0)),
            sum(each.usd_per_month is None for each in part),
        )
        for name, part in by_group(priced, by).items()
    ]
