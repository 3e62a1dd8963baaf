"""Machines and volumes are made once where there are no client tokens: by a name that carries the token, and is looked
for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, Literal, TypeVar

from runctl.core.clock import Clock
from runctl.core.errors import CapacityError, OutcomeUnknown, RunctlError, Unreachable
from runctl.core.journal import Change, Effect, Journal
from runctl.core.progress import Progress
from runctl.core.text import time_span
from runctl.core.waiting import attempts
from runctl.providers.capacity import Offer, Refusal, RefusalListener, RefusalReason
from runctl.providers.interface import CreatePlan
from runctl.providers.registry import command, volume_command

Made = TypeVar("Made")

_FIRST_POLL, _POLL_SECONDS = 1.0, 10.0


@dataclass(frozen=True)
class Creations(Generic[Made]):
    """How machines, or volumes, are made at such a provider."""

    provider: str
    title: str
    """The provider's name for a person."""
    noun: str
    """What it calls one: a VM, a pod."""
    found_within: timedelta
    """One whose creation was not answered is in the list by then."""
    find: Callable[[str], Made | None]
    """The one that a token has made. A list that fails raises: that is not an empty list."""
    id_of: Callable[[Made], str]
    clock: Clock
    journal: Journal
    kind: Literal["instance", "volume"] = "instance"

    def first_that_can_be_had(
        self,
        plan: CreatePlan,
        create: Callable[[Offer], Made],
        refused: RefusalListener,
        progress: Progress,
    ) -> Made:
        """The machine of the first offer that has one; ``create`` makes the call, and nothing else.

        Raises `CapacityError` where none has, and what ``create`` raises for anything but capacity.
        """
        in_vain = []
        for offer in plan.offers:
            try:
                return self.once(plan.client_token, lambda offer=offer: create(offer), progress)  # type: ignore[misc]
            except CapacityError as error:
                if error.code != CapacityError.code:
                    raise
                refused(
                    Refusal(offer.pool, plan.market, RefusalReason.NO_CAPACITY, error.code, error.message)
                )
                in_vain.append(offer.pool.instance_type)
                progress.note(f"{self.title} has no {offer.pool.instance_type} now")
        raise CapacityError(
            f"{self.title} has no {plan.market.value} {self.noun} now: {', '.join(in_vain)}",
            hint="try another GPU or number of them, another market or place, or again in a few minutes",
        )

    def once(self, token: str, create: Callable[[], Made], progress: Progress) -> Made:
        """What ``create`` makes by one call, whether or not that is answered. Raises what ``create`` raises."""
        entry = self.journal.begin(
            Change(
                self.kind,
                (),
                Effect.CREATED,
                f"a {self.noun} may exist and be billed",
                check=self._command("list"),
                token=token,
            ),
            lambda: self._seen(token),
        )
        try:
            created = create()
        except OutcomeUnknown as error:
            created = self._appeared(token, error, progress)
        except CapacityError:
            # Its words can be those of any failure: what was made all the same is found now.
            there = self.find(token)
            if there is None:
                entry.refused()
                raise
            created = there
        except RunctlError:
            # It was answered, or not sent at all.
            entry.refused()
            raise
        entry.done(self._exists(created, token))
        return created

    def _appeared(self, token: str, error: OutcomeUnknown, progress: Progress) -> Made:
        """What a creation has made that was not answered. Raises that error where there is nothing."""
        progress.step(f"{self.title} has not said whether it made the {self.noun}: looking for it")
        for _ in attempts(self.clock, self.found_within, first=_FIRST_POLL, most=_POLL_SECONDS):
            try:
                created = self.find(token)
            except Unreachable as silent:
                progress.update(silent.message)
                continue
            if created is not None:
                return created
        raise OutcomeUnknown(
            f"{error.message}; no {self.noun} of that name has appeared within {time_span(self.found_within)}",
            hint=f"the same command looks for it first; {self._command('list')} shows what there is",
            may_still_happen=True,
        )

    def _seen(self, token: str) -> Change | None:
        created = self.find(token)
        return None if created is None else self._exists(created, token)

    def _exists(self, created: Made, token: str) -> Change:
        identifier = self.id_of(created)
        is_volume = self.kind == "volume"
        return Change(
            self.kind,
            (identifier,),
            Effect.CREATED,
            f"{self.kind} {identifier} exists and is billed",
            check=self._command("show" if is_volume else "status", identifier),
            undo=self._command("delete" if is_volume else "terminate", identifier),
            token=token,
        )

    def _command(self, *argv: str) -> str:
        return (volume_command if self.kind == "volume" else command)(self.provider, *argv)
