"""From a request to a run that has started, as a person sees it happen."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from runctl.cli.context import Cli
from runctl.cli.machines.resolve import wanted_transport
from runctl.cli.settings.project import sync_limits
from runctl.cli.train.image import BY_CONFIGURATION, ImageOfTraining, ImageOptions
from runctl.cli.train.training_volumes import VolumesOfTraining
from runctl.core.clock import SystemClock
from runctl.core.errors import Interrupted
from runctl.core.ids import new_run_id
from runctl.core.models import Instance
from runctl.core.tags import INTENT
from runctl.machines.intents import IntentState
from runctl.machines.machine import Machine, open_machine
from runctl.render.run_plan import run_plan_document, run_plan_lines
from runctl.runs.launch import Synced, launch
from runctl.runs.mounts.plan import Surroundings
from runctl.runs.plan import (
    ProjectPlan,
    RunPlan,
    TrainRequest,
    asks_of_machine,
    check_instance,
    plan_run,
)
from runctl.runs.resume import mount_for

if TYPE_CHECKING:
    from runctl.project.selection import Selection
    from runctl.project.sync import SyncResult
    from runctl.runs.store import RunRecord


class WatchWish(enum.Enum):
    """What a save does."""

    NOT = "nothing"
    SYNC = "it is synced"
    RESTART = "it is synced, and the run starts over"


@dataclass
class Training:
    """One ``train``."""

    cli: Cli
    request: TrainRequest
    project: ProjectPlan
    instance: Instance
    transport: str | None
    image_options: ImageOptions = BY_CONFIGURATION

    @cached_property
    def image(self) -> ImageOfTraining:
        """Its image."""
        return ImageOfTraining(
            self.cli,
            self.image_options,
            self.project.container,
            self.project.root.path,
            self.instance,
            self.machine,
        )

    @cached_property
    def machine(self) -> Machine:
        """The machine, reached."""
        choice = wanted_transport(self.cli, self.instance, self.transport)
        return open_machine(
            self.cli.provider(self.instance.provider), self.instance, choice, self.cli.progress
        )

    @cached_property
    def volumes(self) -> VolumesOfTraining:
        """Its volumes."""
        return VolumesOfTraining(self.cli, self.machine, self.transport)

    @property
    def selection(self) -> Selection | None:
        """The files to send, or ``None``."""
        return self.project.sent.selection

    def plan(self) -> RunPlan:
        """Everything that can be wrong is found here; nothing has been sent or started."""
        from runctl.project.git_state import git_state
        from runctl.project.root import project_name

        check_instance(self.instance)
        for warning in self.project.sent.warnings:
            self.cli.progress.warn(warning)
        if asks_of_machine(self.project.container):
            self.machine.agent.check(self.project.container)
        selection = self.selection
        around = self._look_around()
        plan = plan_run(
            self.request,
            self.project,
            run_id=new_run_id(),
            project_name=project_name(self.project.root.path),
            around=around,
            files=selection.found if selection is not None else (),
        )
        for warning in plan.mounts.warnings:
            self.cli.progress.warn(warning)
        if self.project.compose is not None and self.project.compose.variables.missing:
            names = ", ".join(self.project.compose.variables.missing)
            self.cli.progress.warn(
                f"{self.project.compose.file.name} uses {names}, set neither here nor in .env: it is empty there"
            )
        plan = replace(plan, git=git_state(self.project.root.path))
        return self.image.settle(self._with_dev_parts(plan), selection)

    def _look_around(self) -> Surroundings:
        around = self.volumes.look_around(self.project)
        wanted = tuple(one.volume for one in self.project.volume_wishes)
        extra = mount_for(self.request.resume, self.project.mount_requests, wanted, around)
        if extra is None:
            return around
        self.project = replace(self.project, mount_requests=(*self.project.mount_requests, extra))
        return self.volumes.look_around(self.project)

    def _with_dev_parts(self, plan: RunPlan) -> RunPlan:
        spec = plan.spec
        if spec.container is None or self.selection is None:
            return plan
        from runctl.runs.dev_mode import with_dev_parts

        script = None if spec.is_command else spec.script
        container = with_dev_parts(spec.container, self.project.root, script, self.selection.found)
        return replace(plan, spec=replace(spec, container=container))

    def show_only(self, plan: RunPlan) -> int:
        """``--dry-run``: the plan is the result."""
        self.cli.emit(
            run_plan_document(plan, self.selection),
            text=lambda: "\n".join(run_plan_lines(plan, self.selection)),
            ids=(),
        )
        return 0

    def carry_out(self, plan: RunPlan, *, wait: bool, watch: WatchWish = WatchWish.NOT) -> int:
        """The run has been taken up by the machine; with ``wait`` it has ended, and its code is returned; with
        ``watch`` it is started over with what is saved, until nobody wants that any more."""
        cli = self.cli
        cli.say("\n".join(run_plan_lines(plan, self.selection)))
        try:
            with self.volumes.attached(plan), self.image.ready(plan):
                record = launch(
                    plan,
                    self.machine,
                    cli.store,
                    sync=self._sync if self.selection is not None else None,
                    clock=SystemClock(),
                    region=self.machine.provider.region,
                    progress=cli.progress,
                )
        except KeyboardInterrupt:
            raise self._interrupted(plan) from None
        # The machine carries a run: a `create` that was cut short has nothing left to do.
        cli.intents.close(IntentState.DONE, self.instance.id, self.instance.tags.get(INTENT))
        if watch is not WatchWish.NOT:
            from runctl.cli.train.watch import Watched

            return Watched(self, plan, record, watch is WatchWish.RESTART).to_the_end()
        if not wait:
            self._started(record)
            return 0
        from runctl.cli.train.following import show_log

        if cli.settings.quiet:
            cli.write(record.id)
        return show_log(cli, self.machine, record, follow=True, document=True)

    def _started(self, record: RunRecord) -> None:
        cli = self.cli
        cli.emit(record.as_run(SystemClock().now()), text=lambda: record.id, ids=[record.id])
        words = (
            self.instance.provider
            if self.instance.provider == "local"
            else f"aws monitor {record.instance_id}"
        )
        command = "local monitor" if words == "local" else words
        cli.progress.note(f"{record.id} has started; follow it with: runctl {command} {record.id}")

    def _interrupted(self, plan: RunPlan) -> Interrupted:
        known = self.cli.store.find(plan.run_id)
        if known is None:
            return Interrupted(
                "stopped before anything was started; nothing runs", hint="run the same command again"
            )
        return Interrupted(
            f"{plan.run_id} may have started on {self.instance.id}, and goes on if it has",
            hint=f"runctl runs show {plan.run_id}, or end it: runctl runs stop {plan.run_id}",
        )

    def sync_again(self) -> SyncResult:
        """The project as it is now is on the machine. Raises what `runctl.project.sync.sync` raises."""
        from runctl.project.sync import sync

        return sync(
            self.project.root.path,
            self.machine.agent,
            self.instance.id,
            include_patterns=self.project.sent.include_patterns,
            limits=sync_limits(self.cli.config),
            progress=self.cli.progress,
        )

    def refreshed(self, plan: RunPlan) -> RunPlan:
        """The plan with what may have changed in the project since it was made."""
        from runctl.project.sent import sent_now

        sent = sent_now(self.project.sent, sync_limits(self.cli.config))
        self.project = replace(self.project, sent=sent)
        return self.image.settle(self._with_dev_parts(plan), self.selection)

    def _sync(self) -> Synced:
        return Synced(self.sync_again().digest)
