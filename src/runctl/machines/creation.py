"""Something is made once for one command, however often the command has to be given until it is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from typing import Any, TypeVar

from runctl.core.clock import Clock, SystemClock
from runctl.core.database import StateError
from runctl.core.errors import Conflict, NotFound
from runctl.core.ids import InstanceId, new_client_token
from runctl.core.journal import Change, Effect, Standing
from runctl.core.machine_models import Instance, Snapshot, SnapshotState, Volume, VolumeState
from runctl.core.progress import SILENT, Progress
from runctl.core.tags import INTENT
from runctl.machines.intents import (
    Intent,
    IntentState,
    IntentStore,
    Kind,
    Lock,
    Sighting,
    digest_of,
    taken_up,
)
from runctl.providers.abilities.groups import MachineGroup
from runctl.providers.abilities.volumes import Snapshots, Volumes
from runctl.providers.interface import Provider, require

Thing = Instance | Volume | Snapshot | MachineGroup
Created = TypeVar("Created", Instance, Volume, Snapshot)
Plan = TypeVar("Plan")

TOKEN_SPENT = "token-spent"  # noqa: S105 - an error's code
"""Of the `Conflict` that a provider raises where a client token has made something that does not exist any more."""


class Creation:
    """One thing that a command is about to make, or to finish making."""

    def __init__(
        self,
        store: IntentStore,
        intent: Intent,
        lock: Lock | None,
        created: Callable[[Thing], None],
        clock: Clock,
    ) -> None:
        self._on_created = created
        self._clock = clock
        self._store = store
        self._intent = intent
        self._lock = lock
        self._begun = False
        self._refused = False
        self.is_taken_up = lock is not None
        """An earlier call of the same command has begun it."""
        self.existing = intent.resource_id
        """What an earlier call of the same command has made of it; ``None``: nothing that can be seen."""

    @property
    def token(self) -> str:
        """For the request that is planned: the plan has it as its client token."""
        return self._intent.token

    @property
    def resource_id(self) -> str | None:
        """Of the thing, as far as it is known."""
        return self._intent.resource_id

    def adopt(self, token: str) -> None:
        """What is to be done was begun with that token, be it on another computer: it is this intent's from now on."""
        if token == self.token:
            return
        if self.is_taken_up:
            with suppress(StateError):
                self._store.put(replace(self._intent, state=IntentState.NOTHING))
        if self._lock is not None:
            self._lock.release(for_good=True)
        self._lock = None
        self._intent = replace(self._intent, token=token)

    def begin(self, alone: str = "") -> None:
        """It is written down that the thing is to be made; from now on it may be. Raises `StateError`.

        With ``alone``, raises `Conflict` of that message where another process is making it.
        """
        if self._lock is None:
            self._lock = self._store.lock(self.token)
            if self._lock is None and alone:
                raise Conflict(alone, hint="wait until that has ended", code="moving")
        self._store.put(self._intent)
        self._begun = True

    def note_id(self, resource_id: str) -> None:
        """The provider has named it. A file that cannot be written now is no reason to stop: the tag finds it."""
        if self._begun and self._intent.resource_id != resource_id:
            self._intent = replace(self._intent, resource_id=resource_id)
            with suppress(StateError):
                self._store.put(self._intent)

    def note(self, thing: Thing) -> None:
        """It was made: its id is written down, and whoever keeps account of it is told."""
        self.note_id(thing.id)
        self._on_created(thing)

    def make(
        self, plan: Plan, create: Callable[[Plan], Created], plan_with: Callable[[str], Plan]
    ) -> Created:
        """Begin, and the thing as ``create`` makes it by the plan.

        Where the plan's token has made something that was deleted since, it is made by the plan that ``plan_with`` has
        for a new token. Raises what these raise, and `StateError`.
        """
        self.begin()
        try:
            thing = create(plan)
        except Conflict as error:
            if error.code != TOKEN_SPENT:
                raise
            self.renew(IntentState.GONE)
            plan = plan_with(self.token)
            self.begin()
            thing = create(plan)
        self.note(thing)
        return thing

    def renew(self, state: IntentState) -> None:
        """The old token is used up, and ``state`` is what has come of it; from here on it is a new intent."""
        with suppress(StateError):
            self._store.put(replace(self._intent, state=state))
        if self._lock is not None:
            self._lock.release(for_good=True)
        # Its age is that of the token: a machine may have been waited for before for hours.
        now = self._clock.now()
        self._intent = replace(self._intent, token=new_client_token(), created_at=now, resource_id=None)
        self._lock = self.existing = None
        self._begun = self._refused = False

    def hear(self, change: Change) -> None:
        """For the provider's journal."""
        if change.token == self.token:
            self._refused = change.standing is Standing.REFUSED
            if change.standing is Standing.DONE and change.effect is Effect.CREATED and change.subject:
                self.note_id(change.subject[0])

    def end(self, *, finished: bool) -> None:
        """The command ends; what is not finished stays open for the same command."""
        state = IntentState.DONE if finished else IntentState.OPEN
        nothing = self._refused and self._intent.resource_id is None and self._intent.kind is not Kind.MOVE
        if not finished and nothing:
            state = IntentState.NOTHING
        if self._begun and state is not IntentState.OPEN:
            with suppress(StateError):
                self._store.put(replace(self._intent, state=state))
        if self._lock is not None:
            self._lock.release(for_good=self._begun and state is not IntentState.OPEN)


@contextmanager
def creating(
    store: IntentStore,
    provider: Provider,
    kind: Kind,
    request: Any,
    *,
    clock: Clock | None = None,
    progress: Progress = SILENT,
    created: Callable[[Thing], None] = lambda _: None,
) -> Iterator[Creation]:
    """For the time in which a thing is planned, made and made ready.

    In the block: plan the request with `Creation.token`, call `Creation.begin`, carry the plan out. Its end means that
    all was done that was asked; an error or Ctrl-C leaves the intent open where the thing may exist. ``made`` is called
    with the thing once it exists.
    """
    clock = clock or SystemClock()
    scope = provider.scope()
    digest = digest_of(kind, {"provider": provider.name, **asdict(scope)}, request)
    new = Intent(
        token=new_client_token(),
        kind=kind,
        provider=provider.name,
        account=scope.account,
        region=scope.region,
        digest=digest,
        name=getattr(request, "name", None),
        project=getattr(request, "project", None),
        created_at=clock.now(),
    )
    with taken_up(store, digest, clock.now(), lambda intent: see(provider, intent)) as (found, lock):
        if found is not None and found.resource_id is not None:
            progress.note(
                f"{found.resource_id} was begun by the same command at {found.created_at:%Y-%m-%d %H:%M} UTC and is"
                " not finished: going on with it"
            )
        creation = Creation(store, found or new, lock, created, clock)
        stop = provider.journal.listen(creation.hear)
        finished = False
        try:
            yield creation
            finished = True
        finally:
            stop()
            creation.end(finished=finished)


def see(provider: Provider, intent: Intent) -> Sighting:
    """What there is of the intent's thing, by its id or else by its tag."""
    try:
        things = _things(provider, intent)
    except NotFound:
        return Sighting(ended=True)
    usable = next((thing.id for thing in things if not is_over(thing)), None)
    return Sighting(usable, ended=usable is None and bool(things))


def is_over(thing: Thing) -> bool:
    """Whether it has ended, or never became what it was to be. Pure."""
    if isinstance(thing, Instance):
        return thing.state.is_over
    if isinstance(thing, MachineGroup):
        return thing.is_ending
    if isinstance(thing, Volume):
        return thing.state in {VolumeState.DELETING, VolumeState.DELETED, VolumeState.ERROR}
    return thing.state is SnapshotState.ERROR


def _things(provider: Provider, intent: Intent) -> list[Thing]:
    known = intent.resource_id
    listed: Sequence[Thing] = ()
    if intent.kind is Kind.INSTANCE:
        if known is not None:
            return [provider.instance(InstanceId(known))]
        # The token of one that has ended would be answered with that one.
        listed = provider.instances(include_ended=True)
    elif intent.kind is Kind.NODES:
        # One that has ended says nothing of the others.
        listed = provider.instances()
    elif intent.kind is Kind.GROUP:
        listed = require(provider.groups).list()
    else:
        kept: Snapshots | Volumes
        kept = require(provider.snapshots) if intent.kind is Kind.SNAPSHOT else require(provider.volumes)
        if known is not None:
            return [kept.find(known)]
        listed = kept.list()
    return [thing for thing in listed if thing.tags.get(INTENT) == intent.token]
