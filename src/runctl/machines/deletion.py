"""A deletion is written down before the call, so that the same command again knows what an earlier one has deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Generic, TypeVar

from runctl._dataclasses import dataclass
from runctl.core.clock import Clock, SystemClock
from runctl.core.database import StateError
from runctl.core.errors import Conflict, NotFound, RunctlError, Unreachable
from runctl.core.ids import new_client_token
from runctl.core.machine_models import Instance, Snapshot, Volume
from runctl.core.progress import SILENT, Progress
from runctl.core.tags import INTENT, NAME
from runctl.machines.creation import is_over
from runctl.machines.intents import Intent, IntentState, IntentStore, Kind
from runctl.providers.interface import Provider

REMEMBERED = timedelta(hours=1)
"""How long an earlier deletion answers for a name or an id that does not exist any more."""

Resource = TypeVar("Resource", Instance, Volume, Snapshot)


class Verdict(StrEnum):
    """What a name or an id on the command line of a deletion means."""

    DELETE = "delete"
    """What was found is what the user means."""
    ALREADY_DELETED = "already-deleted"
    """An earlier command has deleted it."""
    ANOTHER = "another"
    """An earlier command was cut short as it deleted what had the name; now something else has it."""
    NOT_FOUND = "not-found"


@dataclass(frozen=True)
class Decision:
    """A verdict, and the earlier deletion that it rests on."""

    verdict: Verdict
    earlier: Intent | None = None


def decide(reference: str, found_id: str | None, earlier: Sequence[Intent], now: datetime) -> Decision:
    """What ``reference`` means: ``found_id`` has that name or id now, ``earlier`` are deletions of it. Pure.

    Names and ids are compared as they are. A deletion that was refused, or is older than `REMEMBERED`, counts for
    nothing.
    """
    recent = [
        intent
        for intent in earlier
        if reference in {intent.name, intent.resource_id}
        and intent.state is not IntentState.NOTHING
        and now - intent.created_at <= REMEMBERED
    ]
    recent.sort(key=lambda intent: intent.created_at, reverse=True)
    if found_id is None:
        return Decision(Verdict.ALREADY_DELETED, recent[0]) if recent else Decision(Verdict.NOT_FOUND)
    unfinished = [intent for intent in recent if intent.state is IntentState.OPEN]
    if not unfinished or any(intent.resource_id == found_id for intent in unfinished):
        return Decision(Verdict.DELETE)
    return Decision(Verdict.ANOTHER, unfinished[0])


class Deletions:
    """The deletions of one command."""

    def __init__(
        self,
        store: IntentStore,
        provider: Provider,
        kind: Kind,
        *,
        clock: Clock | None = None,
        progress: Progress = SILENT,
    ) -> None:
        self._store = store
        self._provider = provider
        self._kind = kind
        self._clock = clock or SystemClock()
        self._progress = progress

    def find(self, references: Sequence[str], find: Callable[[str], Resource]) -> list[Resource]:
        """What is there to delete, each once; what an earlier command has deleted is noted.

        Of that, only what the provider still shows is in the list, as what has ended.

        Raises what ``find`` raises, and `Conflict` (code ``name-moved-on``) where a deletion was cut short and its name
        belongs to something else now.
        """
        found: dict[str, Resource] = {}
        for reference in references:
            missing: NotFound | None = None
            resource: Resource | None = None
            try:
                resource = find(reference)
            except NotFound as error:
                missing = error
            decision = decide(
                reference, resource.id if resource else None, self._earlier(reference), self._clock.now()
            )
            earlier = decision.earlier
            if decision.verdict is Verdict.ANOTHER and resource is not None and earlier is not None:
                raise Conflict(
                    f"{reference} is {resource.id} now: an earlier command was interrupted as it deleted"
                    f" {earlier.resource_id} of that name, and {resource.id} is another one",
                    hint=f"if {resource.id} is to be deleted, give its id",
                    code="name-moved-on",
                )
            if missing is not None and earlier is not None:
                with suppress(NotFound):
                    resource = find(earlier.resource_id or reference)
                if resource is not None and not is_over(resource):
                    raise missing  # it lives on under another name
                named = f" ({earlier.name})" if earlier.name else ""
                self._progress.note(
                    f"{earlier.resource_id}{named} is deleted already, by the command of"
                    f" {earlier.created_at:%Y-%m-%d %H:%M} UTC"
                )
                self._put(replace(earlier, state=IntentState.GONE))
            elif missing is not None:
                raise missing
            if resource is not None:
                found[resource.id] = resource
        return list(found.values())

    @contextmanager
    def deleting(self, resource: Instance | Volume | Snapshot) -> Iterator[None]:
        """Around the call that deletes it: written down before, closed after.

        It stays open where the block ends by Ctrl-C or without an answer. A state file that cannot be written keeps
        nobody from deleting.
        """
        scope = self._provider.scope()
        intent = Intent(
            token=new_client_token(),
            kind=self._kind,
            provider=self._provider.name,
            account=scope.account,
            region=scope.region,
            digest="",
            name=resource.tags.get(NAME),
            project=None,
            created_at=self._clock.now(),
            resource_id=resource.id,
        )
        for earlier in self._earlier(resource.id):
            if earlier.state is IntentState.OPEN:
                intent = replace(intent, token=earlier.token)
        self._put(intent)
        try:
            yield
        except Unreachable:
            raise
        except RunctlError:
            self._put(replace(intent, state=IntentState.NOTHING))
            raise
        self._put(replace(intent, state=IntentState.GONE))
        # Whoever was about to make it has nothing to finish any more, also where its id was never heard of.
        with suppress(StateError):
            self._store.close(IntentState.GONE, resource.id, resource.tags.get(INTENT))

    def _earlier(self, reference: str) -> list[Intent]:
        try:
            known = self._store.about(self._kind, reference)
        except StateError:
            return []
        if not known:
            return []
        scope = self._provider.scope()
        return [
            intent
            for intent in known
            if (intent.provider, intent.account, intent.region)
            == (self._provider.name, scope.account, scope.region)
        ]

    def _put(self, intent: Intent) -> None:
        with suppress(StateError):
            self._store.put(intent)


@dataclass(frozen=True)
class Deleting(Generic[Resource]):
    """What is there to delete, and the call that deletes one of it."""

    found: tuple[Resource, ...]
    delete: Callable[[Resource], Resource]
    """Returns it as deleted."""


def deleting(
    deletions: Deletions,
    references: Sequence[str],
    find: Callable[[str], Resource],
    delete: Callable[[Resource], Resource],
) -> Deleting[Resource]:
    """What the references mean, and ``delete`` with an intent around it. Raises what `Deletions.find` raises."""

    def recorded(resource: Resource) -> Resource:
        with deletions.deleting(resource):
            return delete(resource)

    return Deleting(tuple(deletions.find(references, find)), recorded)
