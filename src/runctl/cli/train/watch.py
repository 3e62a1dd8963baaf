"""``train --watch``: every save is synced, and the run starts over when asked to."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from runctl.agent.spec import ContainerSpec
from runctl.cli.framework.keys import Keys
from runctl.cli.train.following import show_log
from runctl.core.amounts import counted, size
from runctl.core.clock import SystemClock
from runctl.core.errors import RunctlError, UsageError
from runctl.render.progress import finish
from runctl.runs.launch import Synced, launch
from runctl.runs.plan import RunPlan
from runctl.runs.watch import Watcher

if TYPE_CHECKING:
    from runctl.cli.train.training import Training
    from runctl.project.sync import SyncResult
    from runctl.runs.store import RunRecord


def check_watch(container: ContainerSpec | None, *, synced: bool) -> None:
    """What is saved would be what runs. Raises `UsageError`."""
    if not synced:
        raise UsageError("--watch and --no-sync-code contradict each other", hint="leave one of them out")
    if container is not None and container.code != "mount":
        raise UsageError(
            "--watch needs --dev-mode: without it the run has the code that is in its image",
            hint="add --dev-mode, or run on the host with --no-docker",
            code="watch-without-dev-mode",
        )


@dataclass
class Watched:
    """A run that has been started, and whoever saves files meanwhile."""

    training: Training
    plan: RunPlan
    record: RunRecord
    on_change: bool
    """A save starts the run over; else only the key ``r`` does."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _again: threading.Event = field(default_factory=threading.Event)
    _digest: str = ""

    def to_the_end(self) -> int:
        """Until the run has ended and nobody can start it over; its exit code.

        Ctrl-C stops watching, and the run goes on: `Interrupted`.
        """
        progress = self.training.cli.progress
        self._digest = self._sync().digest
        with Watcher(self.training.project.root.path, self._saved, progress), Keys(self._typed) as keys:
            how = (
                "a save starts the run over" if self.on_change else "a save is synced, r starts the run over"
            )
            progress.note(f"watching {self.training.project.root.path}: {how}; Ctrl-C leaves the run going")
            while True:
                code = show_log(self.training.cli, self.training.machine, self.record, follow=True)
                if not self._again.is_set() and not (self.on_change or keys.available):
                    return code
                if not self._waited():
                    return code
                self._again.clear()
                self._start_over()

    def _waited(self) -> bool:
        """Whether the run is to start over; false for Ctrl-C after its end."""
        if not self._again.is_set():
            what = "the next save" if self.on_change else "r"
            self.training.cli.progress.note(f"{what} starts it over; Ctrl-C ends")
        try:
            # Without a limit, Ctrl-C would not get through on every platform.
            while not self._again.wait(0.5):
                pass
        except KeyboardInterrupt:
            return False
        return True

    def _typed(self, letter: str) -> None:
        if letter == "r":
            self._ask_again("asked to start over")

    def _saved(self) -> None:
        before = self._digest
        result = self._sync()
        self._digest = result.digest
        if result.digest == before:
            return
        sent = f"{counted(result.files_sent, 'changed file')}, {size(result.bytes_sent)}"
        synced = f"synced {sent}, in {result.seconds:.1f} s"
        if self.on_change:
            self.training.cli.progress.note(synced)
            self._ask_again("the project has changed")
        else:
            self.training.cli.progress.note(f"{synced}; r starts the run over with it")

    def _ask_again(self, why: str) -> None:
        if self._again.is_set():
            return
        self._again.set()
        try:
            # One that has ended is left as it is.
            self.training.machine.agent.stop(self.record.id, self.record.attempt)
        except RunctlError as error:
            self.training.cli.progress.warn(f"{why}, and the run could not be stopped: {error.message}")

    def _sync(self) -> SyncResult:
        with self._lock:
            try:
                return self.training.sync_again()
            finally:
                finish(self.training.cli.progress)

    def _start_over(self) -> None:
        """The next attempt of the same run, with the project as it is now."""
        spec = self.plan.spec
        plan = replace(self.plan, spec=replace(spec, attempt=self.record.attempt + 1))
        self.plan = self.training.refreshed(plan)
        cli = self.training.cli
        self.record = launch(
            self.plan,
            self.training.machine,
            cli.store,
            sync=lambda: Synced(self._sync().digest),
            clock=SystemClock(),
            region=self.training.machine.provider.region,
            progress=cli.progress,
        )
