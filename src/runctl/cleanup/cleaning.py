"""The use cases that remove: what nobody needs goes, or every machine stops costing. Planned, then carried out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING

from runctl._dataclasses import dataclass
from runctl.cleanup.facts import OLDER_THAN, Include
from runctl.cleanup.knowledge import unfinished_on
from runctl.cleanup.listing import Selection, select
from runctl.cleanup.overview import Account
from runctl.cleanup.plan import CleanupPlan, plan_cleanup, plan_stop
from runctl.cleanup.removing import Outcome, carry_out
from runctl.core.clock import Clock
from runctl.core.database import StateError
from runctl.core.errors import RunctlError, Unsupported
from runctl.core.ids import InstanceId
from runctl.core.tags import INTENT
from runctl.machines.intents import IntentState
from runctl.providers.abilities.inventory import Inventory, Resource, ResourceKind
from runctl.runs.asking import refresh
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import run_store
from runctl.runs.run_logs.sources import fetch_logs
from runctl.runs.stopping import stop_run

if TYPE_CHECKING:
    from runctl.machines.renting import Rentals
    from runctl.machines.session import Session

K = ResourceKind
RENTING = frozenset({K.GROUP, K.FLEET, K.SPOT_REQUEST, K.INSTANCE})
"""What costs by the hour, or makes that something does."""


@dataclass(frozen=True)
class StopPlan:
    """What makes every machine stop costing by the hour."""

    end: CleanupPlan
    stop: CleanupPlan

    @property
    def is_empty(self) -> bool:
        """Nothing costs by the hour that could be stopped."""
        return not (self.end.remove or self.stop.remove)


class Cleaning:
    """One look at the account, plans by it, and carrying them out."""

    def __init__(
        self,
        session: Session,
        *,
        provider: str | None = None,
        kinds: Collection[ResourceKind] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Lists everything; for `plan_stop` alone `RENTING` will do as ``kinds``.

        Raises what `runctl.cleanup.listing.list_all` raises.
        """
        self._session = session
        self.account = Account(session, provider=provider, kinds=kinds, clock=clock)

    def plan(
        self,
        selection: Selection | None = None,
        *,
        older_than: timedelta = OLDER_THAN,
        include: frozenset[Include] = frozenset(),
    ) -> CleanupPlan:
        """What of the selection nobody needs, and why the rest stays.

        Machines are asked about runs that may still continue on them. Raises `NotFound` for a reference that nothing is
        called by.
        """
        account = self.account
        self._ask_about_runs()
        facts = replace(account.facts(older_than), include=include)
        chosen = select(list(account.listing.resources), selection or Selection(), account.now)
        first = plan_cleanup(chosen, facts, account.now, account.monthly, account.listing.unread)
        protected = self._protected([item.resource for item in first.remove])
        if not protected:
            return first
        return plan_cleanup(
            chosen, replace(facts, protected=protected), account.now, account.monthly, account.listing.unread
        )

    def plan_stop(self, selection: Selection | None = None, *, end: bool = False) -> StopPlan:
        """What makes the selection's machines stop costing by the hour; with ``end`` none is only stopped."""
        account = self.account
        chosen = select(list(account.listing.resources), selection or Selection(), account.now)
        machines = [each for each in chosen if each.kind is K.INSTANCE]
        facts = replace(account.facts(), protected=self._protected(machines))
        return StopPlan(*plan_stop(chosen, facts, account.monthly, end=end, unread=account.listing.unread))

    def carry_out(self, plan: CleanupPlan) -> Outcome:
        """Everything that the plan removes is gone, or its failure is in the outcome."""
        return carry_out(
            plan.waves,
            self.account.inventories,
            self.account.clock,
            act=self._remove,
            is_done=self._is_gone,
            progress=self._session.progress,
        )

    def stop(self, plan: StopPlan) -> Outcome:
        """No machine of the plan costs by the hour any more, or its failure is in the outcome."""
        ended = self.carry_out(plan.end)
        stopped = carry_out(
            plan.stop.waves,
            self.account.inventories,
            self.account.clock,
            act=self._stop,
            is_done=lambda inventory, resource: inventory.is_stopped(resource),
            progress=self._session.progress,
            verb="stopping",
        )
        return Outcome((*ended.done, *stopped.done), (*ended.failed, *stopped.failed))

    def runs_on(self, resources: Sequence[Resource]) -> list[RunRecord]:
        """The runs of this computer that continue on these machines, or that these groups rent machines for."""
        ids = {each.id for each in resources}
        kept = {
            each.id
            for each in self.account.listing.resources
            if each.kind is K.INSTANCE and (each.id in ids or each.ends_with in ids)
        }
        with suppress(StateError):
            records = [each for each in run_store(self._session).list() if kept.intersection(each.machines)]
            return [each for each in refresh(self._session, records) if not each.has_ended]
        return []

    def stop_runs(self, runs: Sequence[RunRecord]) -> None:
        """Each has ended by SIGTERM and its own grace, and has saved what it saves then; a failure is said."""
        for run in runs:
            try:
                stop_run(self._session.in_region(run.region), run)
            except RunctlError as error:
                self._session.progress.warn(f"{run.id} could not be stopped: {error.message}")

    def _ask_about_runs(self) -> None:
        """What machines say of their runs is in the state file; one that cannot be asked keeps what continues on it."""
        with suppress(StateError):
            refresh(self._session, unfinished_on(run_store(self._session).list(), self.account.listing))

    def _protected(self, resources: Sequence[Resource]) -> dict[str, str]:
        found: dict[str, str] = {}
        for resource in resources:
            if resource.kind is not K.INSTANCE:
                continue
            # Where it may not be read, the provider still refuses what is protected.
            with suppress(RunctlError):
                why = self.account.inventories[resource.provider].protection(resource)
                if why:
                    found[resource.id] = why
        return found

    @cache  # noqa: B019 (lives as long as one command)
    def _rentals(self, provider: str, region: str | None) -> Rentals | None:
        session = self._session.in_region(region)
        return (
            None if isinstance(session.provider(provider).renting, Unsupported) else session.rentals(provider)
        )

    def _remove(self, inventory: Inventory, resource: Resource) -> None:
        if resource.kind is K.INTENT:
            self._settle(resource)
            return
        rentals = self._rentals(resource.provider, resource.region) if resource.kind is K.INSTANCE else None
        if rentals is not None:
            with suppress(RunctlError):
                fetch_logs(self._session, [rentals.provider.instance(InstanceId(resource.id))])
        inventory.remove(resource)
        if rentals is not None:
            # Whoever keeps account of machines hears that this one has ended.
            with suppress(RunctlError):
                rentals.give_back(InstanceId(resource.id))

    def _stop(self, inventory: Inventory, resource: Resource) -> None:
        inventory.stop(resource)
        rentals = self._rentals(resource.provider, resource.region)
        if rentals is not None:
            with suppress(RunctlError):
                rentals.stop(InstanceId(resource.id))

    def _is_gone(self, inventory: Inventory, resource: Resource) -> bool:
        if resource.kind is not K.INTENT:
            gone = inventory.is_gone(resource)
            token = resource.tags.get(INTENT)
            if gone and token:
                # Whoever was about to make it has nothing to finish any more, also where its id was never heard of.
                with suppress(StateError):
                    self._session.intents.close(IntentState.GONE, resource.id, token)
            return gone
        intent = self._session.intents.get(resource.id)
        return intent is None or intent.state is not IntentState.OPEN

    def _settle(self, resource: Resource) -> None:
        """Nothing came of the intent, or it is gone: the next command of the same words begins anew."""
        store = self._session.intents
        lock = store.lock(resource.id)
        if lock is None:
            return  # a command has taken it up since
        try:
            intent = store.get(resource.id)
            if intent is not None:
                gone = intent.kind.is_deletion or intent.resource_id is not None
                store.end(resource.id, IntentState.GONE if gone else IntentState.NOTHING)
        finally:
            lock.release(for_good=True)
