"""What a cleanup will remove, in which order, and what it keeps. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from itertools import groupby

from runctl._dataclasses import dataclass
from runctl.cleanup.eligibility import KeptBecause, Verdict, eligibility, kept, not_ours
from runctl.cleanup.facts import Facts
from runctl.providers.abilities.inventory import Resource, ResourceKind, Unread

K = ResourceKind

ORDER = (
    # What rents again goes before what it has rented, and what is attached before what it is attached to.
    (K.GROUP, K.FLEET, K.SPOT_REQUEST),
    (K.INSTANCE,),
    (K.LAUNCH_TEMPLATE, K.VOLUME, K.SNAPSHOT, K.UPLOAD, K.OBJECTS, K.IMAGE, K.INSTANCE_PROFILE, K.KEY_PAIR),
    (K.SECURITY_GROUP, K.PLACEMENT_GROUP, K.ROLE, K.REPOSITORY, K.BUCKET),
    (K.INTENT,),
)
"""The waves of a removal: nothing in one needs anything in the same one to go first."""

Monthly = Callable[[Resource], Decimal | None]
"""USD a month of a resource while it stays as it is; ``None``: not known."""


@dataclass(frozen=True)
class Item:
    """A resource, and what is to become of it."""

    resource: Resource
    why: str
    usd_per_month: Decimal | None
    """What it costs now."""
    kept: KeptBecause | None = None
    """``None``: it is removed."""


@dataclass(frozen=True)
class CleanupPlan:
    """What is about to be done; nothing has been yet."""

    remove: tuple[Item, ...]
    """In this order."""
    keep: tuple[Item, ...]
    unread: tuple[Unread, ...] = ()
    """What could not be looked at, and stays."""

    @property
    def usd_per_month(self) -> Decimal:
        """What is saved, as far as prices are known: what goes along with something is counted with it."""
        going = {item.resource.id for item in self.remove}
        along = (
            item for item in self.keep if item.resource.ends_with in going and item.usd_per_month is not None
        )
        return sum((item.usd_per_month or Decimal(0) for item in (*self.remove, *along)), Decimal(0))

    @property
    def waves(self) -> Sequence[Sequence[Resource]]:
        """What may be removed at the same time."""
        resources = [item.resource for item in self.remove]
        return [list(wave) for _, wave in groupby(resources, key=lambda each: wave_of(each.kind))]


def wave_of(kind: ResourceKind) -> int:
    """When a kind's turn is. Pure."""
    return next(number for number, kinds in enumerate(ORDER) if kind in kinds)


def _turn(resource: Resource) -> tuple[int, int, str, str]:
    wave = wave_of(resource.kind)
    return wave, ORDER[wave].index(resource.kind), resource.region or "", resource.id


def plan_cleanup(
    chosen: Sequence[Resource],
    facts: Facts,
    now: datetime,
    monthly: Monthly,
    unread: Sequence[Unread] = (),
) -> CleanupPlan:
    """What becomes of each of the ``chosen`` resources. Pure.

    ``facts.existing`` has all that exists, as what is not chosen may use what is.
    """
    remove: list[Item] = []
    keep: list[Item] = []
    going: set[str] = set(facts.going)
    # Within a wave nothing depends on another, but an object and its bucket are judged in turn.
    for resource in sorted(chosen, key=_turn):
        verdict = eligibility(resource, replace(facts, going=frozenset(going)), now)
        item = Item(resource, verdict.why, monthly(resource), verdict.kept)
        if verdict.removable:
            going.add(resource.id)
            remove.append(item)
        else:
            if _goes_along(resource, verdict, going):
                going.add(resource.id)
            keep.append(item)
    return CleanupPlan(tuple(remove), tuple(keep), tuple(unread))


def _goes_along(resource: Resource, verdict: Verdict, going: Collection[str]) -> bool:
    return verdict.kept is KeptBecause.GOES_ALONG and resource.ends_with in going


def plan_stop(
    chosen: Sequence[Resource],
    facts: Facts,
    monthly: Monthly,
    *,
    end: bool = False,
    unread: Sequence[Unread] = (),
) -> tuple[CleanupPlan, CleanupPlan]:
    """What makes every machine of the user's stop costing by the hour: what is removed, and what is only stopped. Pure.

    Groups go first, as they would rent again. A machine that can be stopped is, with its disks as they are; spot
    machines end. With ``end`` all end. Whether a run goes on makes no difference: whoever asks means all of them.
    """
    remove: list[Item] = []
    stop: list[Item] = []
    keep: list[Item] = []
    groups = {each.id for each in chosen if each.kind is K.GROUP}
    for resource in sorted(chosen, key=_turn):
        if wave_of(resource.kind) > wave_of(K.INSTANCE):
            continue
        cost = monthly(resource)
        against = _against_stopping(resource, facts)
        if against is not None:
            keep.append(Item(resource, against.why, cost, against.kept))
        elif resource.kind is K.INSTANCE and resource.ends_with in groups:
            keep.append(Item(resource, f"it goes with {resource.ends_with}", cost, KeptBecause.GOES_ALONG))
        elif resource.kind is K.INSTANCE and not end and resource.market != "spot":
            reason = facts.cannot_stop.get(resource.provider)
            if reason is None:
                stop.append(Item(resource, _what_stopping_means(resource, facts), cost))
            else:
                keep.append(Item(resource, f"{reason}; --end ends it", cost, KeptBecause.PROTECTED))
        else:
            remove.append(Item(resource, _why_it_ends(resource), cost))
    return CleanupPlan(tuple(remove), tuple(keep), tuple(unread)), CleanupPlan(tuple(stop), ())


def _against_stopping(resource: Resource, facts: Facts) -> Verdict | None:
    foreign = not_ours(resource, facts)
    if foreign is not None:
        return foreign
    # Where nobody can stop a machine, one that is stopped has shut itself down, and may be billed.
    costs = resource.state in {"stopped", "stopping"} and resource.provider in facts.cannot_stop
    if resource.state in {"stopped", "stopping", "shutting-down"} and not costs:
        return kept(KeptBecause.WANTED, f"it is {resource.state}")
    if resource.kind is K.SPOT_REQUEST and resource.ends_with is not None:
        return kept(KeptBecause.GOES_ALONG, f"it goes with {resource.ends_with}")
    if resource.is_persistent:
        return kept(KeptBecause.PERSISTENT, "it is persistent")
    if resource.id in facts.protected:
        return kept(KeptBecause.PROTECTED, facts.protected[resource.id])
    return None


def _what_stopping_means(resource: Resource, facts: Facts) -> str:
    if resource.provider in facts.loses_disks:
        return "it can be started again; what is on its own disk is lost"
    return "it can be started again; its disks stay, and cost"


def _why_it_ends(resource: Resource) -> str:
    if resource.kind is K.INSTANCE:
        return "a spot machine cannot be stopped: it ends" if resource.market == "spot" else "it ends"
    return "it would rent machines again"
