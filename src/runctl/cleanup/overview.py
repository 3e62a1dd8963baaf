"""The use cases that only look: what there is, what it costs, and what would become of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from runctl._dataclasses import dataclass
from runctl.cleanup.eligibility import Verdict, eligibility
from runctl.cleanup.facts import OLDER_THAN, Facts, RunFact
from runctl.cleanup.insights import Insight, Measured, Usage, insights
from runctl.cleanup.knowledge import gather, with_intents
from runctl.cleanup.listing import Priced, Selection, inventories, list_all, of_user, select
from runctl.cleanup.plan import Monthly
from runctl.cleanup.pricing import monthly_of
from runctl.core.clock import Clock, SystemClock
from runctl.core.errors import RunctlError, UsageError
from runctl.core.ids import InstanceId
from runctl.machines.settling import first_seen
from runctl.machines.storage_record import STORED, note_stored
from runctl.providers.abilities.inventory import (
    EVERYTHING,
    Inventory,
    Listing,
    Measurement,
    Resource,
    ResourceKind,
    Unread,
)
from runctl.runs.asking import machine_of
from runctl.runs.records.store import run_store

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from runctl.machines.session import Session


@dataclass(frozen=True)
class Overview:
    """What there is."""

    resources: tuple[Priced, ...]
    unread: tuple[Unread, ...]
    """What could not be looked at: nothing is known of it."""
    regions: tuple[str, ...]
    """Those that were asked."""
    others: int = 0
    """How many there are besides that were asked for, and not meant."""


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
        if kinds is None or set(kinds) >= STORED:
            self._note_stored(listing, silent)
        listing = self._with_ages(listing, silent)
        self.users = {
            name: _user(inventory) for name, inventory in self.inventories.items() if name not in silent
        }
        self.listing: Listing = with_intents(session, listing)
        self.monthly: Monthly = monthly_of(session)

    def _note_stored(self, listing: Listing, silent: Collection[str]) -> None:
        """The ledger learns what is stored; one that cannot be written can wait."""
        for name in self.inventories.keys() - set(silent):
            with suppress(RunctlError):
                note_stored(self.session.ledger_record(name), listing, self.now)

    def _with_ages(self, listing: Listing, silent: Collection[str]) -> Listing:
        """The listing with what this computer knows of the age of volumes whose providers do not say it."""
        ageless: dict[str, list[str]] = {}
        for each in listing.resources:
            if each.created_at is None and each.kind is ResourceKind.VOLUME:
                ageless.setdefault(each.provider, []).append(each.id)
        known: dict[tuple[str, str], datetime] = {}
        for name in ageless.keys() - set(silent):
            # A ledger that cannot be read knows of none.
            with suppress(RunctlError):
                found = first_seen(self.session.ledger_record(name), ageless[name], self.now)
                known |= {(name, volume): at for volume, at in found.items()}
        return replace(
            listing,
            resources=tuple(
                replace(each, known_since=known[each.provider, each.id])
                if each.created_at is None and (each.provider, each.id) in known
                else each
                for each in listing.resources
            ),
        )

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
    others = len(resources) - len(chosen)
    return Overview(priced, account.listing.unread, account.listing.regions, others)


def _user(inventory: Inventory) -> str | None:
    """``None`` where nobody can say who the caller is: then nothing is the caller's own."""
    try:
        return inventory.user()
    except RunctlError:
        return None


@dataclass(frozen=True)
class Advice:
    """What could be had for less."""

    insights: tuple[Insight, ...]
    unread: tuple[Unread, ...]
    unmeasured: tuple[str, ...] = ()
    """Sentences about machines of which nobody knows what they use."""


def advice(
    session: Session, *, provider: str | None = None, measure: bool = True, clock: Clock | None = None
) -> Advice:
    """See `runctl.cleanup.insights`.

    With ``measure``, running machines are asked what their runs use, and providers what they have measured.
    """
    account = Account(session, provider=provider, clock=clock)
    own, facts = account.own(), account.facts()
    usage, silent = _usage(session, facts) if measure else ({}, {})
    outside, unread = _from_outside(account, own) if measure else ({}, ())
    alternatives = {
        each.id: account.inventories[each.provider].alternatives(each, outside.get(each.id))
        for each in own
        if each.kind in {ResourceKind.VOLUME, ResourceKind.INSTANCE}
    }
    regions = {name: session.provider(name).region for name in account.inventories}
    measured = Measured(usage, alternatives, outside, regions)
    found = insights(own, facts, account.now, account.monthly, measured)
    unmeasured = [*_unmeasured(own, facts, measured, silent)] if measure else []
    return Advice(tuple(found), (*account.listing.unread, *unread), tuple(unmeasured))


def _usage(session: Session, facts: Facts) -> tuple[dict[str, Usage], dict[str, str]]:
    """What runs use at the moment, by machine, and why those that could not be asked were silent."""
    running = [run for run in facts.runs if run.goes_on and run.instance_id in facts.existing]
    if not running:
        return {}, {}
    session.progress.step("asking machines what their runs use")

    def ask(run: RunFact) -> Usage | str:
        try:
            record = replace(run_store(session).get(run.id), instance_id=InstanceId(run.instance_id))
            status = machine_of(session, record).agent.status(run.id)
        except RunctlError as error:
            return error.message
        return Usage(status.cpu_percent, status.gpu_percent)

    with ThreadPoolExecutor(min(8, len(running))) as pool:
        answers = dict(zip((run.instance_id for run in running), pool.map(ask, running), strict=True))
    return (
        {machine: answer for machine, answer in answers.items() if isinstance(answer, Usage)},
        {machine: answer for machine, answer in answers.items() if isinstance(answer, str)},
    )


def _from_outside(
    account: Account, own: Sequence[Resource]
) -> tuple[dict[str, Measurement], tuple[Unread, ...]]:
    found: dict[str, Measurement] = {}
    unread: list[Unread] = []
    for name, inventory in account.inventories.items():
        of_provider = [each for each in own if each.provider == name]
        if of_provider:
            answer = inventory.measurements(of_provider, account.now, account.session.progress)
            found |= answer.found
            unread += answer.unread
    return found, tuple(unread)


def _unmeasured(
    own: Sequence[Resource], facts: Facts, measured: Measured, silent: Mapping[str, str]
) -> Iterator[str]:
    """Pure."""
    busy = {run.instance_id for run in facts.runs if run.goes_on}
    for each in own:
        if each.kind is not ResourceKind.INSTANCE or each.state != "running" or each.id in measured.usage:
            continue
        outside = measured.provider.get(each.id, Measurement())
        if each.id in silent and (outside.gpus or outside.cpu_percent is None):
            yield f"{each.id} could not be asked what its run uses: {silent[each.id]}"
        elif outside.gpus and each.id not in busy:
            yield f"nobody measures the GPUs of {each.id}: no run of this computer is on it"


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
