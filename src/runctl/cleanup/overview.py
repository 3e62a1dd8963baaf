"""The use cases that only look: what there is, what it costs, and what would become of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from runctl.cleanup.eligibility import Verdict, eligibility
from runctl.cleanup.facts import OLDER_THAN, Facts
from runctl.cleanup.knowledge import gather, with_intents
from runctl.cleanup.listing import Priced, Selection, inventories, list_all, of_user, select
from runctl.cleanup.plan import Monthly
from runctl.cleanup.pricing import monthly_of
from runctl.core.clock import Clock, SystemClock
from runctl.core.errors import UsageError
from runctl.providers.inventory import EVERYTHING, Inventory, Listing, Resource, ResourceKind, Unread

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from runctl.machines.session import Session


@dataclass(frozen=True)
class Overview:
    """What there is."""

    resources: tuple[Priced, ...]
    unread: tuple[Unread, ...]
    """What could not be looked at: nothing is known of it."""
    regions: tuple[str, ...]
    """Those that were asked."""


class Account:
    """Everything that runctl has made, listed once."""

    def __init__(
        self,
        session: Session,
        *,
        provider: str | None = None,
        kinds: Collection[ResourceKind] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """With ``kinds`` only these are asked for. Raises what `runctl.cleanup.listing.list_all` raises."""
        self.session = session
        self.clock = clock or SystemClock()
        self.now = self.clock.now()
        self.inventories: Mapping[str, Inventory] = inventories(session, provider)
        listing = list_all(session, provider=provider, kinds=kinds)
        silent = {each.provider for each in listing.unread if each.what == EVERYTHING}
        self.users = {
            name: inventory.user() for name, inventory in self.inventories.items() if name not in silent
        }
        self.listing: Listing = with_intents(session, listing)
        self.monthly: Monthly = monthly_of(session)

    def own(self) -> list[Resource]:
        """The caller's, and what all share."""
        return of_user(self.listing.resources, self.users)

    def facts(self, older_than: timedelta = OLDER_THAN) -> Facts:
        """For judging what was listed."""
        return replace(gather(self.session, self.users, self.listing), older_than=older_than)


def overview(
    session: Session,
    selection: Selection | None = None,
    *,
    provider: str | None = None,
    everyone: bool = False,
    clock: Clock | None = None,
) -> Overview:
    """The caller's own resources and what all of the account share; with ``everyone`` those of others as well.

    Raises `NotFound` for a reference that nothing is called by.
    """
    selection = selection or Selection()
    # By an id or a name anything may be meant.
    kinds = selection.kinds if not selection.references else None
    account = Account(session, provider=provider, kinds=kinds or None, clock=clock)
    resources = list(account.listing.resources) if everyone else account.own()
    chosen = select(resources, selection, account.now)
    priced = tuple(Priced(each, account.monthly(each)) for each in chosen)
    return Overview(priced, account.listing.unread, account.listing.regions)


@dataclass(frozen=True)
class Detail:
    """One resource, and what a cleanup would make of it."""

    resource: Resource
    usd_per_month: Decimal | None
    verdict: Verdict


def detail(
    session: Session, reference: str, *, provider: str | None = None, clock: Clock | None = None
) -> Detail:
    """The resource of that id or name, of whichever owner. Raises `NotFound`, `UsageError` (code ``ambiguous``)."""
    account = Account(session, provider=provider, clock=clock)
    found = select(list(account.listing.resources), Selection(references=(reference,)), account.now)
    exact = [each for each in found if each.id == reference] or found
    if len(exact) > 1:
        raise UsageError(
            f"several resources are called {reference}: {', '.join(each.id for each in exact)}",
            hint="use the id of one of them",
            code="ambiguous",
        )
    (only,) = exact
    verdict = eligibility(only, account.facts(), account.now)
    return Detail(only, account.monthly(only), verdict)
