"""Machines and volumes are made once where there are no client tokens: by a name that carries the token, and is looked
for.

Each call is noted in a file until it is answered. After a kill or Ctrl-C the same command so knows that what it is
about to make may appear yet, and looks for as long as that may take before it sends another call.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Generic, Literal, TypeVar

from runctl._dataclasses import dataclass
from runctl.core.clock import Clock, parse_rfc3339
from runctl.core.database import StateError
from runctl.core.errors import CapacityError, OutcomeUnknown, RunctlError, Unreachable
from runctl.core.files import make_private_folder, write_atomically
from runctl.core.journal import Change, Effect, Entry, Journal
from runctl.core.progress import Progress
from runctl.core.text import time_span
from runctl.core.waiting import attempts
from runctl.providers.capacity import Offer, Refusal, RefusalListener, RefusalReason
from runctl.providers.instance_plans import CreatePlan
from runctl.providers.registry import command, volume_command

Created = TypeVar("Created")

_FIRST_POLL, _POLL_SECONDS = 1.0, 10.0


class Calls:
    """The calls of this computer that make something and have no answer yet, each in a file by its token."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is the user's alone, and made when there is one."""
        self._folder = folder

    def note(self, token: str, now: datetime, kept: timedelta) -> None:
        """It is about to be sent, or was still not answered at that time. Those of longer ago than ``kept`` say nothing
        any more, and go. Raises `StateError`."""
        try:
            make_private_folder(self._folder)
            for file in tuple(self._folder.iterdir()):
                sent_at = _time_in(file)
                if sent_at is not None and sent_at + kept < now:
                    file.unlink(missing_ok=True)
            write_atomically(self._folder / token, now.isoformat(), mode=0o600)
        except OSError as error:
            raise StateError(
                f"what is about to be made cannot be written to {self._folder}: {error.strerror}",
                hint="check its permissions and the disk's free space; nothing was created",
            ) from error

    def sent_at(self, token: str) -> datetime | None:
        """When the call of that token was sent that nobody has answered; ``None``: there is none."""
        return _time_in(self._folder / token)

    def forget(self, token: str) -> None:
        """It was answered, or what it has made was found."""
        # One that stays is looked for in vain, and no more.
        with suppress(OSError):
            (self._folder / token).unlink(missing_ok=True)


def _time_in(file: Path) -> datetime | None:
    try:
        return parse_rfc3339(file.read_text())
    except (OSError, ValueError):
        return None


@dataclass(frozen=True)
class Creations(Generic[Created]):
    """How machines, or volumes, are made at such a provider."""

    provider: str
    title: str
    """The provider's name for a person."""
    noun: str
    """What it calls one: a VM, a pod."""
    found_within: timedelta
    """One whose creation was not answered is in the list by then."""
    find: Callable[[str], Created | None]
    """The one that a token has made. A list that fails raises: that is not an empty list."""
    id_of: Callable[[Created], str]
    calls: Calls
    """Those that nobody has answered."""
    clock: Clock
    journal: Journal
    kind: Literal["instance", "volume"] = "instance"

    def first_that_can_be_had(
        self,
        plan: CreatePlan,
        create: Callable[[Offer], Created],
        refused: RefusalListener,
        progress: Progress,
    ) -> Created:
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

    def once(self, token: str, create: Callable[[], Created], progress: Progress) -> Created:
        """What ``create`` makes by one call, whether or not that is answered. Raises what ``create`` raises.

        Where an earlier command has sent that call and heard nothing, its thing is looked for first, and another call
        is sent once it would have appeared. Raises `StateError` where that cannot be written down.
        """
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
        created = self._of_earlier_call(token, progress)
        if created is None:
            created = self._called(token, create, entry, progress)
        self.calls.forget(token)
        entry.done(self._exists(created, token))
        return created

    def _called(self, token: str, create: Callable[[], Created], entry: Entry, progress: Progress) -> Created:
        try:
            self.calls.note(token, self.clock.now(), self.found_within)
            return create()
        except OutcomeUnknown as error:
            # It may have been under way for minutes. That it was sent is noted in any case.
            with suppress(StateError):
                self.calls.note(token, self.clock.now(), self.found_within)
            return self._appeared(token, error, progress)
        except CapacityError:
            # Its words can be those of any failure: what was made all the same is found now.
            there = self.find(token)
            if there is not None:
                return there
            self._refused(token, entry)
            raise
        except RunctlError:
            # It was answered, or not sent at all.
            self._refused(token, entry)
            raise

    def _refused(self, token: str, entry: Entry) -> None:
        self.calls.forget(token)
        entry.refused()

    def _of_earlier_call(self, token: str, progress: Progress) -> Created | None:
        """What a call of an earlier command has made that was not answered; ``None``: nothing, by now for sure."""
        sent_at = self.calls.sent_at(token)
        left = sent_at + self.found_within - self.clock.now() if sent_at is not None else timedelta(0)
        if left <= timedelta(0):
            return None
        progress.step(
            f"{self.title} has not said whether it made the {self.noun} of the command before: looking for it,"
            f" {time_span(left)} at most"
        )
        return self._look(token, left, progress)

    def _look(self, token: str, within: timedelta, progress: Progress) -> Created | None:
        """What has appeared within that time. Raises `Unreachable` where the last look was not answered."""
        silence: Unreachable | None = None
        for _ in attempts(self.clock, within, first=_FIRST_POLL, most=_POLL_SECONDS):
            try:
                created = self.find(token)
            except Unreachable as error:
                silence = error
                progress.update(error.message)
                continue
            if created is not None:
                return created
            silence = None
        if silence is not None:
            raise silence
        return None

    def _appeared(self, token: str, error: OutcomeUnknown, progress: Progress) -> Created:
        """What a creation has made that was not answered. Raises that error where there is nothing."""
        progress.step(f"{self.title} has not said whether it made the {self.noun}: looking for it")
        with suppress(Unreachable):
            created = self._look(token, self.found_within, progress)
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

    def _exists(self, created: Created, token: str) -> Change:
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
