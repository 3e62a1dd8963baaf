"""Time passes without a checkpoint: the script is asked for one, and a late one is told of."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.agent.attempt.watchers.interface import Watched
from runctl.agent.checkpoint_spec import CheckpointSchedule, CheckpointStatus
from runctl.agent.checkpoints.choosing import status_of
from runctl.agent.checkpoints.folders import Checksums
from runctl.agent.checkpoints.schedule import FIRST_COST_SECONDS, best_interval, late_seconds
from runctl.agent.disks.run_folders import run_folders
from runctl.agent.errors import AgentError

POLL_SECONDS = 5.0
"""Between two looks at what has been saved."""
DEAF_SECONDS = 60.0
"""A script that has just started may not have set its handlers: only then is it said that none listens."""


@dataclass(frozen=True)
class Clock:
    """What is known of a run's checkpoints. Times in seconds since the epoch. Each step returns the next."""

    began_at: float
    """When the script started."""
    saved_at: float | None = None
    asked_at: float | None = None
    """When it was asked last, by a signal that somebody listens to."""
    cost: float | None = None
    """Seconds from the request to the complete checkpoint, as measured."""

    def every(self, schedule: CheckpointSchedule) -> float:
        """Seconds between two checkpoints."""
        if schedule.every_seconds is not None:
            return schedule.every_seconds
        cost = FIRST_COST_SECONDS if self.cost is None else self.cost
        return best_interval(cost, schedule.between_interruptions)

    def saw(self, saved_at: float | None) -> Clock:
        """The newest complete checkpoint is of that time."""
        if saved_at is None or saved_at <= (self.saved_at or self.began_at):
            return self
        answers = (
            self.asked_at is not None and self.asked_at <= saved_at and (self.saved_at or 0) < self.asked_at
        )
        if not answers or self.asked_at is None:
            return dataclasses.replace(self, saved_at=saved_at)
        measured = saved_at - self.asked_at
        cost = measured if self.cost is None else (self.cost + measured) / 2
        return dataclasses.replace(self, saved_at=saved_at, cost=cost)

    def is_due(self, schedule: CheckpointSchedule, now: float) -> bool:
        """Whether the script is to be asked now: nothing was saved, and nothing asked for, since so long."""
        newest = max(self.began_at, self.saved_at or 0.0, self.asked_at or 0.0)
        return now - newest >= self.every(schedule)

    def late(self, schedule: CheckpointSchedule, now: float) -> float:
        """Seconds by which the newest is older than it should be; 0 if it is not."""
        return late_seconds(now, self.saved_at or self.began_at, self.every(schedule))


class _Look(threading.Thread):
    """One look at what has been saved, in a thread of its own: all of a checkpoint is read where it has a list of
    checksums, and whoever asks the watchers hears of a machine that is taken back meanwhile. It is over when the script
    is: a file that is read keeps its volume from being unmounted."""

    def __init__(self, folder: Path, known: CheckpointStatus | None, checksums: Checksums) -> None:
        super().__init__(name="checkpoint-look", daemon=True)
        self._folder, self._checksums = folder, checksums
        self.found = known

    def run(self) -> None:
        """`found` is the newest complete one."""
        # What is removed meanwhile is looked at the next time.
        with contextlib.suppress(OSError, AgentError):
            self.found = status_of(self._folder, self.found, self._checksums)
        self._checksums.forget_removed()


class CheckpointClock:
    """Asks for checkpoints as the run's schedule says. Ends nothing."""

    sharpens = False

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._folder = run_folders(watched.spec, watched.folder).checkpoints
        self._clock: Clock | None = None
        self._found: CheckpointStatus | None = None
        self._checksums = Checksums(lambda: not watched.script_ended())
        self._look: _Look | None = None
        self._next_poll = 0.0
        self._every = 0.0
        self._told_late = self._told_deaf = False

    def stop_request(self) -> None:
        """Nothing: a run without checkpoints goes on."""
        schedule, began = self._watched.spec.checkpoint_schedule, self._watched.script_began()
        if schedule is None or began is None or self._watched.script_ended() or not self._has_looked():
            return
        now = time.time()
        clock = self._clock or Clock(now - (time.monotonic() - began))
        clock = clock.saw(None if self._found is None else self._found.saved_at)
        every = clock.every(schedule)
        if every != self._every:
            self._every = every
            self._watched.remember(checkpoint_every=every)
        if clock.is_due(schedule, now):
            if self._watched.ask_for_checkpoint():
                clock = dataclasses.replace(clock, asked_at=now)
            elif not self._told_deaf and now - clock.began_at >= DEAF_SECONDS:
                self._told_deaf = True
                self._watched.log(
                    "the script has no handler for the signal that asks for a checkpoint: it saves on its own schedule"
                )
        self._clock = clock
        self._tell(clock.late(schedule, now), now, clock)

    def _has_looked(self) -> bool:
        """Whether a look has just ended; begins the next one where it is time for that."""
        if self._look is None:
            if time.monotonic() >= self._next_poll:
                self._look = _Look(self._folder, self._found, self._checksums)
                self._look.start()
            return False
        if self._look.is_alive():
            return False
        self._found, self._look = self._look.found, None
        self._next_poll = time.monotonic() + POLL_SECONDS
        return True

    def _tell(self, late: float, now: float, clock: Clock) -> None:
        if late and not self._told_late:
            old = now - (clock.saved_at or clock.began_at)
            found = (
                f"there is no complete checkpoint after {old:.0f} s"
                if clock.saved_at is None
                else f"the newest complete checkpoint is {old:.0f} s old"
            )
            self._watched.log(f"warning: {found}; one was expected every {self._every:.0f} s")
        elif self._told_late and not late:
            self._watched.log("a complete checkpoint has been saved again")
        self._told_late = bool(late)
