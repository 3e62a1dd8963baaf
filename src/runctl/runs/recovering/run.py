"""A run that is being recovered: what is known of it here, and what its own machines have said of its end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import cached_property

from runctl.agent.end_reason import RETRIED
from runctl.agent.lease_keeper import LeaseKeeper
from runctl.agent.spec import EndRecord, RunSpec
from runctl.checkpoints.download import Prefix
from runctl.core.clock import Clock
from runctl.core.errors import CapacityError, Conflict, RunctlError
from runctl.core.machine_models import Instance, Market
from runctl.core.run_models import MovedVolume, SpotFallback
from runctl.machines.renting import Rentals
from runctl.machines.session import Session
from runctl.providers.interface import Provider
from runctl.runs.records.node_records import KnownNodes
from runctl.runs.records.run_record import RunRecord, as_known
from runctl.runs.records.store import run_store
from runctl.runs.records.updates import fell_back, planned, with_end
from runctl.runs.recovering.next_attempt import why_it_ended
from runctl.runs.run_logs.reading import find_kept
from runctl.runs.stored.recipe import Recipe, Recipes
from runctl.runs.stored.stored_run import facts_of, prefix_of, put_machine, put_recipe


class HasEndedError(RunctlError):
    """The run had ended for good, which only its volume knew."""


class RecoveredRun:
    """One run, from the end of an attempt to the start of the next one."""

    def __init__(self, session: Session, record: RunRecord, clock: Clock, *, spot_is_put_off: bool) -> None:
        self.session = session.in_region(record.region)
        self.record = record
        self.clock = clock
        self.store = run_store(session)
        self.recipes = Recipes(session.database)
        self.rented_on: set[Market] = set()
        """Where something was rented for the next attempt in vain."""
        self.spot_is_put_off = spot_is_put_off
        """What was rented on spot has failed lately: it counts as having no capacity."""
        self.lease: LeaseKeeper | None = None
        """This computer's right to start the next attempt; ``None``: the run has no store that it may use."""

    def note_rented(self, error: CapacityError) -> None:
        """There was no capacity, for all of what was needed or for the time that it was needed for."""
        if error.rented_on:
            self.rented_on.add(Market(error.rented_on))

    @cached_property
    def recipe(self) -> Recipe:
        """Raises `NotFound`."""
        return self.recipes.get(self.record.id)

    @cached_property
    def provider(self) -> Provider:
        """Whose machines the run is on."""
        return self.session.provider(self.record.provider)

    @cached_property
    def rentals(self) -> Rentals:
        """Its machines."""
        return self.session.rentals(self.record.provider)

    @cached_property
    def at(self) -> Prefix | None:
        """The run's prefix in its store, where this computer reaches it."""
        recipe = self.recipes.find(self.record.id)
        return prefix_of(self.session, recipe) if recipe is not None else None

    @property
    def next_attempt(self) -> int:
        """The number of the attempt that comes next: one that was given to nobody."""
        return max(self.record.attempt, self.lease.attempt if self.lease is not None else 0) + 1

    def begin(self, spec: RunSpec, *, is_new: bool) -> None:
        """Nobody else starts the attempt.

        Raises `Conflict` (code ``lease-lost``), and what the store raises.
        """
        if self.lease is None or self.at is None:
            return
        ours = self.lease.begin_attempt(spec.attempt) == spec.attempt if is_new else self.lease.holds
        if not ours:
            raise Conflict(
                f"another computer, or a machine, has the lease of {self.record.id} by now",
                hint=f"runctl runs show {self.record.id}",
                code="lease-lost",
            )

    def tell(self, spec: RunSpec, instance: Instance) -> None:
        """Everybody who may recover the run knows where the attempt is. Raises what the store raises.

        Called after the attempt was written down here: other commands of this computer read the store as well, and
        would write down themselves what they find there first.
        """
        if self.lease is None or self.at is None:
            return
        put_recipe(self.at, replace(self.recipe, spec=spec), facts_of(self.record))
        # Last: an attempt that has a machine counts, wherever it is read of.
        put_machine(self.at, spec.attempt, instance, self.clock.now())

    def keep(self, recipe: Recipe) -> None:
        """The recipe is what the next attempt is made by. Raises `StateError`."""
        self.recipes.put(recipe, self.clock)
        self.__dict__["recipe"] = recipe

    def searched(self) -> timedelta:
        """For how long a machine has been looked for."""
        began = self.record.search_began_at or self.record.ended_at or self.record.created_at
        return self.record.by_its_clock(self.clock.now()) - began

    def begin_search(self) -> None:
        """A machine is looked for from now on, if it was not before: nobody may have looked since the attempt's end.

        Raises `Conflict` as `check_wanted` does.
        """
        before = self.record
        if before.search_began_at is not None:
            return
        record = replace(before, search_began_at=before.by_its_clock(self.clock.now()))
        if not self.store.replace(record, before):
            raise self.stopped()
        self.record = record

    def read_end_on_volume(self) -> None:
        """What the last attempt wrote of its end before its machine was gone, where that is on a volume that is mounted
        now, counts more than what the provider says. Raises `HasEndedError` where the run has ended for good."""
        if self.record.saved_volume is None:
            return
        record, kept = find_kept(self.session, self.record)
        self.take_end(record, kept.end)
        if self.record.end_reason not in RETRIED:
            raise HasEndedError(why_it_ended(self.record))

    def take_end(self, known: RunRecord, end: EndRecord | None) -> None:
        """What the machine itself wrote of the attempt's end is what is remembered.

        Raises `Conflict` as `check_wanted` does.
        """
        if end is None:
            return
        record = with_end(known, end)
        if not self.store.replace(record, known):
            raise self.stopped()
        self.record = record

    def note_left(self, left: RunRecord) -> None:
        """That the run has left its machines is what is remembered.

        Raises `HasEndedError` where it has ended by itself meanwhile: whoever asks next learns how. Raises `Conflict`
        as `check_wanted` does.
        """
        before = self.record
        if not self.store.replace(left, before):
            # Whoever follows the log may have been quicker to write the same end down.
            known = self.store.get(before.id)
            if (known.attempt, known.end_reason) != (left.attempt, left.end_reason):
                raise self.stopped()
        self.record = left
        if left.end_reason not in RETRIED:
            raise HasEndedError(why_it_ended(left))

    def written_down(self, spec: RunSpec, instance: Instance, nodes: KnownNodes | None = None) -> RunRecord:
        """The next attempt is what is remembered of the run, unless somebody has stopped it meanwhile."""
        before = self.record
        record = planned(
            spec,
            instance,
            self.clock.now(),
            self.record.region,
            account=self.provider.scope().rented_in,
            name=before.name,
            git=before.git,
            fallback=self._fallback(instance),
        )
        record = replace(
            record,
            results=before.results,
            moved_volumes=before.moved_volumes,
            past=(*before.past, as_known(before)),
            nodes=nodes,
        )
        if not self.store.replace(record, before):
            raise self.stopped()
        self.keep(replace(self.recipe, spec=spec))
        return record

    def take_back(self, following: RunRecord, recipe: Recipe) -> None:
        """An attempt that was written down, and of which no machine has heard, is not remembered: what comes next is
        what came before it, unless somebody has stopped the run meanwhile."""
        if self.store.replace(self.record, following):
            self.keep(recipe)

    def _fallback(self, instance: Instance) -> SpotFallback | None:
        """Beside the price of the last spot machine that the run had."""
        request = self.recipe.request
        paid = [
            each.price_per_hour
            for each in (*self.record.past, as_known(self.record))
            if each.market == Market.SPOT.value
        ]
        return fell_back(request.market, instance, paid[-1] if paid else None) if request else None

    def volume_moved(self, moved: MovedVolume) -> None:
        """It is remembered, unless the run was stopped meanwhile: whoever goes on finds that out."""
        before = self.record
        record = replace(before, moved_volumes=(*before.moved_volumes, moved))
        if before.saved_volume == moved.volume_id:
            # What the last attempt wrote of its end came along.
            record = replace(record, saved_volume=moved.to_volume_id)
        if self.store.replace(record, before):
            self.record = record

    def check_wanted(self) -> None:
        """Raises `Conflict` (code ``run-changed``) where the run was stopped meanwhile, or went on elsewhere."""
        now = self.store.find(self.record.id)
        if now is None or (now.attempt, now.end_reason) != (self.record.attempt, self.record.end_reason):
            raise self.stopped()

    def stopped(self) -> Conflict:
        """Somebody else has changed the run meanwhile."""
        return Conflict(
            f"{self.record.id} was stopped while its next attempt was prepared; it stays stopped",
            hint=f"runctl runs show {self.record.id}",
            code="run-changed",
        )
