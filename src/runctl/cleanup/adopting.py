"""What another computer created is taken over: its runs are remembered here, and with consent it changes its owner."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from runctl._dataclasses import dataclass
from runctl.cleanup.eligibility import SHARED
from runctl.cleanup.listing import Selection, select
from runctl.cleanup.overview import Account
from runctl.core.clock import Clock
from runctl.core.errors import NotFound, RunctlError
from runctl.core.ids import InstanceId
from runctl.core.names import did_you_mean
from runctl.machines.machine import reach
from runctl.providers.abilities.inventory import Resource, ResourceKind, Unread
from runctl.runs.records.adopting import adopt
from runctl.runs.records.store import run_store

if TYPE_CHECKING:
    from runctl.machines.session import Session

K = ResourceKind


@dataclass(frozen=True)
class AdoptPlan:
    """What is about to be taken over."""

    take_over: tuple[Resource, ...]
    """Somebody else's, or not made by runctl at all: the caller becomes their owner."""
    ask: tuple[Resource, ...]
    """The machines that are asked for their runs."""
    unread: tuple[Unread, ...]


@dataclass(frozen=True)
class Adopted:
    """What was taken over."""

    resources: tuple[Resource, ...]
    runs: tuple[str, ...]
    """The ids of runs that this computer did not know before."""
    failed: tuple[tuple[Resource, str], ...]
    """Each with the reason."""


class Adoption:
    """One look at the account, a plan by it, and carrying it out."""

    def __init__(self, session: Session, *, provider: str | None = None, clock: Clock | None = None) -> None:
        """Lists everything. Raises what `runctl.cleanup.listing.list_all` raises."""
        self._session = session
        self.account = Account(session, provider=provider, clock=clock)

    def plan(self, references: Sequence[str] = ()) -> AdoptPlan:
        """Without ``references`` the caller's own machines are asked; with them these resources, whoever's they are.

        By its id, a resource may also be one that runctl did not create. Raises `NotFound` for a reference that nothing
        is called by.
        """
        account = self.account
        everything = list(account.listing.resources)
        known = {each.id for each in everything} | {each.name for each in everything}
        foreign_to_runctl = self._not_runctls([each for each in references if each not in known])
        everything += foreign_to_runctl
        found = known | {each.id for each in foreign_to_runctl}
        for reference in references:
            if reference.strip() and reference not in found:
                raise NotFound(
                    f"there is nothing that is called {reference!r}",
                    hint=did_you_mean(reference, [each for each in found if each])
                    or "what runctl did not create is named by its id, in the region where it is (--region)",
                    code="resource-not-found",
                )
        chosen = select(everything, Selection(references=tuple(references)), account.now)
        if not references:
            chosen = account.own()
        ids = {each.id for each in chosen}
        # A machine's own disks go with it.
        along = [each for each in everything if references and each.ends_with in ids and each.id not in ids]
        foreign = [
            each
            for each in (*chosen, *along)
            if each in foreign_to_runctl
            or (each.kind not in SHARED and each.owner != account.users.get(each.provider))
        ]
        # A machine that runctl did not rent has no runs, and is not asked before anybody has agreed.
        ask = [
            each
            for each in chosen
            if each.kind is K.INSTANCE and each.state == "running" and each not in foreign_to_runctl
        ]
        return AdoptPlan(tuple(foreign), tuple(ask), account.listing.unread)

    def _not_runctls(self, references: Sequence[str]) -> list[Resource]:
        """What has one of these ids with a provider, and was not made by runctl."""
        found = (
            inventory.find_foreign(reference)
            for reference in references
            for inventory in self.account.inventories.values()
        )
        return [each for each in found if each is not None]

    def carry_out(self, plan: AdoptPlan) -> Adopted:
        """The owner of what is taken over is the caller, and its runs are in this computer's state file."""
        taken: list[Resource] = []
        failed: list[tuple[Resource, str]] = []
        for resource in plan.take_over:
            try:
                self.account.inventories[resource.provider].take_over(resource, self._session.progress)
                taken.append(resource)
            except RunctlError as error:
                failed.append((resource, error.message))
        runs: list[str] = []
        if plan.ask:
            self._session.progress.step(f"asking {len(plan.ask)} machines for their runs")
            with ThreadPoolExecutor(min(8, len(plan.ask))) as pool:
                for resource, answer in zip(plan.ask, pool.map(self._runs_of, plan.ask), strict=True):
                    if isinstance(answer, str):
                        failed.append((resource, answer))
                    else:
                        runs += answer
        return Adopted(tuple(taken), tuple(runs), tuple(failed))

    def _runs_of(self, resource: Resource) -> list[str] | str:
        """The ids of the runs that were not known, or why the machine could not be asked."""
        session = self._session.in_region(resource.region)
        store = run_store(session)
        try:
            machine = reach(session, session.provider(resource.provider).instance(InstanceId(resource.id)))
            newest = {}
            for status in sorted(machine.agent.attempts(), key=lambda each: each.attempt):
                newest[status.run_id] = status
            found = []
            for run_id, status in newest.items():
                known = store.find(run_id)
                if adopt(machine, status, store, self.account.now) is None:
                    elsewhere = known.instance_id if known is not None else ""
                    session.progress.warn(
                        f"{machine.instance.id} says that it has {run_id}, which is on {elsewhere or 'no machine yet'}"
                    )
                elif known is None:
                    found.append(run_id)
        except RunctlError as error:
            return error.message
        return found
