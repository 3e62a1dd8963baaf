"""Carrying out a plan as a person sees it: the plan, the start, the log, and with ``--watch`` every save."""

from __future__ import annotations

import enum
import threading
from dataclasses import field
from typing import TYPE_CHECKING

from runctl._dataclasses import dataclass
from runctl.cli.context import Cli
from runctl.cli.framework.prompts import Keys
from runctl.cli.runs.attempts import follow_attempts
from runctl.cli.runs.show_log import show_log
from runctl.core.clock import SystemClock
from runctl.core.errors import RunctlError, UsageError
from runctl.core.text import counted, size
from runctl.providers.registry import is_this_computer
from runctl.render.plans.run_plan import run_plan_document, run_plan_lines
from runctl.render.progress import finish
from runctl.runs.records.shown_run import as_run
from runctl.runs.train.plan import RunPlan
from runctl.runs.train.project_plan import ProjectPlan
from runctl.runs.train.saves import Watcher
from runctl.runs.train.training import Training

if TYPE_CHECKING:
    from runctl.project.sync import SyncResult
    from runctl.runs.records.run_record import RunRecord


class OnSave(enum.Enum):
    """What a save does."""

    NOTHING = "nothing"
    SYNC = "it is synced"
    RESTART = "it is synced, and the run restarts"


def check_watch(project: ProjectPlan, *, watch: bool, restart_on_change: bool) -> OnSave:
    """What a save does. Raises `UsageError` where that would change nothing of what runs."""
    if not watch:
        if restart_on_change:
            raise UsageError("--restart-on-change needs --watch", hint="add --watch")
        return OnSave.NOTHING
    if project.sent.selection is None:
        raise UsageError("--watch and --no-sync-code contradict each other", hint="leave one of them out")
    if project.container is not None and project.container.code != "mount":
        raise UsageError(
            "--watch needs --dev-mode: without it the run has the code that is in its image",
            hint="add --dev-mode, or run on the host with --no-docker",
            code="watch-without-dev-mode",
        )
    return OnSave.RESTART if restart_on_change else OnSave.SYNC


def show_plan(cli: Cli, plan: RunPlan) -> None:
    """``--dry-run``: the plan is the result."""
    cli.emit(run_plan_document(plan), text=lambda: "\n".join(run_plan_lines(plan)), ids=())


def carry_out(
    cli: Cli, training: Training, plan: RunPlan, *, wait: bool, on_save: OnSave = OnSave.NOTHING
) -> int:
    """The machine has taken up the run; with ``wait`` it has ended, and its code is returned; where a save does
    something, the run is started over until nobody wants that any more."""
    cli.say("\n".join(run_plan_lines(plan)))
    record = training.start(plan)
    if on_save is not OnSave.NOTHING:
        return Watched(cli, training, plan, record, on_save is OnSave.RESTART).to_the_end()
    if not wait:
        cli.emit(as_run(record, SystemClock().now()), text=lambda: record.id, ids=[record.id])
        machine = "" if is_this_computer(record.provider) else f" {record.instance_id}"
        command = f"runctl {record.provider} monitor{machine} {record.id}"
        cli.progress.note(f"{record.id} has started; follow it with: {command}")
        return 0
    if cli.settings.quiet:
        cli.write(record.id)
    return follow_attempts(cli, training.machine, record)[0]


@dataclass
class Watched:
    """A run that has been started, and whoever saves files meanwhile."""

    cli: Cli
    training: Training
    plan: RunPlan
    record: RunRecord
    on_change: bool
    """A save starts the run over; else only the key ``r`` does."""
    _restart: threading.Event = field(default_factory=threading.Event)
    _digest: str = ""

    def to_the_end(self) -> int:
        """Until the run has ended and nobody can start it over; its exit code.

        Ctrl-C stops watching, and the run goes on: `Interrupted`.
        """
        progress = self.cli.progress
        self._digest = self._sync().digest
        with Watcher(self.training.project.root.path, self._saved, progress), Keys(self._typed) as keys:
            how = "every save restarts the run" if self.on_change else "saves are synced, r restarts the run"
            progress.note(f"watching {self.training.project.root.path}: {how}; Ctrl-C leaves the run going")
            while True:
                code = show_log(self.cli, self.training.machine, self.record, follow=True)
                if not self._restart.is_set() and not (self.on_change or keys.available):
                    return code
                if not self._waited():
                    return code
                self._restart.clear()
                self._start_over()

    def _waited(self) -> bool:
        """Whether the run is to start over; false for Ctrl-C after its end."""
        if not self._restart.is_set():
            what = "the next save" if self.on_change else "r"
            self.cli.progress.note(f"{what} starts it over; Ctrl-C ends")
        try:
            # Without a limit, Ctrl-C would not get through on every platform.
            while not self._restart.wait(0.5):
                pass
        except KeyboardInterrupt:
            return False
        return True

    def _typed(self, letter: str) -> None:
        if letter == "r":
            self._request_restart("asked to restart")

    def _saved(self) -> None:
        before = self._digest
        result = self._sync()
        self._digest = result.digest
        if result.digest == before:
            return
        sent = f"{counted(result.files_sent, 'changed file')}, {size(result.bytes_sent)}"
        synced = f"synced {sent}, in {result.seconds:.1f} s"
        if self.on_change:
            self.cli.progress.note(synced)
            self._request_restart("the project has changed")
        else:
            self.cli.progress.note(f"{synced}; r restarts the run with it")

    def _request_restart(self, why: str) -> None:
        if self._restart.is_set():
            return
        self._restart.set()
        try:
            # One that has ended is left as it is.
            self.training.machine.agent.stop(self.record.id, self.record.attempt)
        except RunctlError as error:
            self.cli.progress.warn(f"{why}, and the run could not be stopped: {error.message}")

    def _sync(self) -> SyncResult:
        try:
            return self.training.sync()
        finally:
            finish(self.cli.progress)

    def _start_over(self) -> None:
        """The next attempt of the same run, with the project as it is now."""
        self.plan, self.record = self.training.start_over(self.plan, self.record.attempt + 1)
