"""A volume is moved to another zone as something that is written down first, so that the same command can finish it.

What a move has done so far is in the tags of what it works on (`runctl.storage.moving`), and they have the last word:
another computer can finish it too. The intent knows what no tag can say: that an id which does not exist any more was
the source, and that another command on this computer is carrying the move out at this moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from runctl._dataclasses import dataclass
from runctl.core.clock import Clock
from runctl.core.database import StateError
from runctl.core.errors import NotFound
from runctl.core.machine_models import Volume
from runctl.core.progress import SILENT, Progress
from runctl.machines.creation import Creation, creating
from runctl.machines.intents import IntentState, IntentStore, Kind
from runctl.providers.interface import Provider
from runctl.storage import moving as steps
from runctl.storage.moving import Abandonment, Moved, MovePlan


@dataclass(frozen=True)
class MoveRequest:
    """A volume, by id or name, and the zone that it is to be in."""

    volume: str
    zone: str


class Move:
    """One move, planned and not carried out yet."""

    def __init__(
        self,
        provider: Provider,
        plan: MovePlan,
        creation: Creation,
        clock: Clock | None = None,
        progress: Progress = SILENT,
    ) -> None:
        self.plan = plan
        self._provider = provider
        self._creation = creation
        self._clock = clock
        self._progress = progress

    def carry_out(self) -> Moved:
        """See `runctl.storage.moving.carry_out`. Raises `Conflict` (code ``moving``) while another command does it."""
        self._creation.begin(alone=f"the volume is being moved to {self.plan.zone} by another command")
        moved = steps.carry_out(self._provider, self.plan, self._progress, self._clock)
        self._creation.note_id(moved.volume.id)
        return moved


@contextmanager
def moving(
    store: IntentStore,
    provider: Provider,
    request: MoveRequest,
    *,
    rate: int | None,
    delete_source: bool = False,
    include_protected: bool = False,
    clock: Clock | None = None,
    progress: Progress = SILENT,
) -> Iterator[Move]:
    """For the time in which the move is planned and carried out; the end of the block means that it is finished.

    Raises what `runctl.storage.moving.plan_move` raises.
    """
    with creating(store, provider, Kind.MOVE, request, clock=clock, progress=progress) as creation:

        def plan(volume: str) -> MovePlan:
            return steps.plan_move(
                provider,
                volume,
                request.zone,
                rate=rate,
                delete_source=delete_source,
                include_protected=include_protected,
                token=creation.token,
            )

        try:
            planned = plan(request.volume)
        except NotFound:
            if creation.existing is None:
                raise
            planned = plan(creation.existing)  # the source was deleted at the end of the move
        if planned.token:
            creation.adopt(planned.token)
        elif creation.is_taken_up:
            creation.begin()  # an earlier command has finished it, all but saying so here
        yield Move(provider, planned, creation, clock, progress)


def abandon(store: IntentStore, provider: Provider, plan: Abandonment, progress: Progress = SILENT) -> Volume:
    """See `runctl.storage.moving.abandon`; nobody has to finish the move any more."""
    volume = steps.abandon(provider, plan, progress)
    with suppress(StateError):
        store.end(plan.token, IntentState.GONE)
    return volume
