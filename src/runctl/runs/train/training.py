"""The use case ``train``: from a request to a finished plan, and from that to a run that has started."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

from runctl._dataclasses import dataclass
from runctl.agent.end_reason import EndReason
from runctl.agent.spec import ContainerSpec, RunSpec
from runctl.checkpoints.keeping import AUTO
from runctl.core.clock import SystemClock
from runctl.core.errors import Interrupted, Unsupported
from runctl.core.ids import RunId, new_run_id
from runctl.core.machine_models import Instance, Market, Volume
from runctl.core.run_models import SpotFallback
from runctl.core.tags import INTENT
from runctl.machines.intents import IntentState
from runctl.machines.machine import Machine, reach
from runctl.machines.pool_record import Lifetime
from runctl.machines.replicas import same_data
from runctl.machines.session import Session
from runctl.project.root import project_name
from runctl.providers.instance_plans import InstanceRequest
from runctl.providers.interface import require
from runctl.providers.registry import is_this_computer
from runctl.runs.images.run_image import RunImage
from runctl.runs.images.settled_image import BY_CONFIGURATION, ImageOptions
from runctl.runs.mounts.attachments import volumes_attached
from runctl.runs.mounts.facts import find_holder, gather_mount_facts
from runctl.runs.mounts.plan import MountFacts, MountPlan
from runctl.runs.mounts.volume_conflicts import Holder
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import RunStore, run_store
from runctl.runs.relocation import Relocation, VolumeInUse, plan_relocations, refill_of
from runctl.runs.stored.keeping import keeping
from runctl.runs.stored.lent_store import settle_store
from runctl.runs.stored.recipe import Recipe, kept_volumes
from runctl.runs.stored.stored_run import RunFacts
from runctl.runs.train.plan import (
    RunPlan,
    check_instance,
    needs_check,
    plan_run,
    plan_run_mounts,
    resume_path,
)
from runctl.runs.train.project_plan import ProjectPlan, TrainRequest
from runctl.runs.train.spot_risk import check_risk, is_unsaved, risk_text
from runctl.runs.train.start import launch
from runctl.transport.agent import AgentClient

if TYPE_CHECKING:
    from runctl.project.sync import SyncResult


@dataclass
class Training:
    """One training on one instance: `plan` it, `start` it, and, as the project changes, `start_over`."""

    session: Session
    request: TrainRequest
    project: ProjectPlan
    """Of the request; `start_over` brings it up to date."""
    instance: Instance
    transport: str | None = None
    image_options: ImageOptions = BY_CONFIGURATION
    run_id: RunId = field(default_factory=new_run_id)
    rented_by: InstanceRequest | None = None
    """What the machine was rented by for the run; ``None``: it was there."""
    nodes: tuple[int, int] | None = None
    """How many machines the run has at least and at most; ``None``: one."""
    named_zone: str | None = None
    """Where the user wants its machines."""
    fallback: SpotFallback | None = None
    """It was to be a spot machine."""
    _told: set[str] = field(default_factory=set)
    """What was warned of already."""
    _syncing: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        own = self.session.provider(self.instance.provider)
        self.request = replace(self.request, keeping=settle_store(own, self.request.keeping))

    @cached_property
    def machine(self) -> Machine:
        """The machine, reached when it is first asked."""
        return reach(self.session, self.instance, self.transport)

    @cached_property
    def store(self) -> RunStore:
        """The runs that this computer remembers."""
        return run_store(self.session)

    def plan(self) -> RunPlan:
        """The finished plan. Everything that can be wrong is found here; nothing has been sent or started."""
        check_instance(self.instance)
        if self.project.container is not None:
            require(self.session.provider(self.instance.provider).containers)
        if needs_check(self.project.container):
            self.machine.agent.check(self.project.container)
        plan = self._planned(self._mount_facts(), self._image)
        if plan.spot_risk is not None and not self.request.keeping.without and self.rented_by is None:
            # The machine is there, and paid for: whoever rented it may know better.
            self._warn(f"nothing that this run saves outlives its spot machine: {risk_text(plan.spot_risk)}")
        return plan

    def plan_before_renting(self, facts: MountFacts) -> RunPlan:
        """As `plan`, for a machine that is not rented yet: it is asked nothing, and ``facts`` are what it will have.

        Raises `UsageError` (code ``no-checkpoints``) besides.
        """
        plan = self._planned(facts, self._image_on(None))
        if plan.spot_risk is not None and not self.request.keeping.without:
            has_volumes = not isinstance(self.session.provider(facts.instance.provider).volumes, Unsupported)
            check_risk(plan.spot_risk, has_volumes=has_volumes)
        return plan

    def needs_login(self, plan: RunPlan) -> bool:
        """Whether a machine gets the run's image only with a login that it is entrusted with."""
        return self._image_on(None).needs_login(plan.spec)

    def role_pulls(self, plan: RunPlan) -> str:
        """The image that a machine pulls by its own role; empty: none."""
        return self._image_on(None).provider_reference(plan.spec)

    def published(self, plan: RunPlan) -> RunPlan:
        """The plan with the image that `role_pulls` names in the registry, and by its digest. Raises what building
        raises."""
        image = self._image_on(None)
        reference = image.provider_reference(plan.spec)
        container = plan.spec.container
        if not reference or container is None:
            return plan
        image.publish(plan)
        return replace(
            plan, spec=replace(plan.spec, container=replace(container, image=image.pinned(reference)))
        )

    @property
    def _request(self) -> TrainRequest:
        """With the variables that lead the machine to the provider's own store, where checkpoints go there."""
        store = self.request.keeping.store()
        filling = self.session.provider(self.instance.provider).filling
        if store is None or store.url.startswith("/") or store.endpoint or isinstance(filling, Unsupported):
            return self.request
        return replace(self.request, env={**filling.machine_variables(), **self.request.env})

    def _planned(self, facts: MountFacts, image_of_run: RunImage) -> RunPlan:
        from runctl.project.git import git_state

        request, project = self._request, self.project
        for warning in project.sent.warnings:
            self._warn(warning)
        self._warn_of_taken_name()
        selection = project.sent.selection
        mounts = plan_run_mounts(request, project, facts, selection.found if selection is not None else ())
        for warning in mounts.warnings:
            self._warn(warning)
        if project.compose is not None and project.compose.variables.missing:
            names = ", ".join(project.compose.variables.missing)
            self._warn(
                f"{project.compose.file.name} uses {names}, set neither here nor in .env: it is empty there"
            )
        path = resume_path(request.resume, mounts, facts)
        image = image_of_run.settle(selection, None if project.is_command else project.script)
        return plan_run(
            request,
            project,
            facts.instance,
            mounts,
            run_id=self.run_id,
            resume_from=path,
            project_name=project_name(project.root.path),
            container=image.container if image is not None else None,
            image=image.shown if image is not None else None,
            git=git_state(project.root.path),
            lifetime=self._lifetime(facts.instance, mounts, image.container if image is not None else None),
            relocation=self._relocation(mounts),
        )

    def _relocation(self, mounts: MountPlan) -> Relocation | None:
        """How the run's volumes follow it, where somebody recovers it."""
        if not self.request.recovery.auto_resume:
            return None
        provider = self.session.provider(self.instance.provider)
        snapshots, filling = provider.snapshots, provider.filling

        volumes = [(each.volume, each.spec.read_only) for each in mounts.mounts if each.volume is not None]
        known = require(provider.volumes).list() if volumes else ()

        def in_use(volume: Volume, *, read_only: bool) -> VolumeInUse:
            refill = (
                None if isinstance(filling, Unsupported) else refill_of(volume, filling.volume_mibps(volume))
            )
            return VolumeInUse(volume, read_only, refill, same_data(volume, known))

        soonest, *_ = plan_relocations(
            [in_use(volume, read_only=read_only) for volume, read_only in volumes],
            named_zone=self.named_zone,
            no_snapshots=snapshots.message if isinstance(snapshots, Unsupported) else "",
        )
        return soonest

    def _lifetime(
        self, instance: Instance, mounts: MountPlan, container: ContainerSpec | None
    ) -> Lifetime | None:
        """What was seen of such machines, where the run depends on it."""
        keeping = self.request.keeping
        unsaved = is_unsaved(instance.market, keeping.store(), container, mounts.saves)
        if instance.market is not Market.SPOT or not (unsaved or keeping.every == AUTO):
            return None
        return self.session.pool_record(instance.provider).lifetime(
            instance.instance_type, instance.zone, SystemClock().now()
        )

    def start(self, plan: RunPlan) -> RunRecord:
        """The run has been taken up by its machine. Raises what `launch` raises, and `Interrupted` for Ctrl-C."""
        try:
            if self.project.container is not None and not needs_check(self.project.container):
                # A machine without Docker is found out about before anything is attached, sent or built.
                self.machine.agent.check(self.project.container)
            with self.prepared(plan):
                record = self._launch(plan)
        except KeyboardInterrupt:
            raise self._interrupted(plan) from None
        # The machine carries a run: a `create` that was cut short has nothing left to do.
        self.session.intents.close(IntentState.DONE, self.instance.id, self.instance.tags.get(INTENT))
        return record

    @contextmanager
    def prepared(self, plan: RunPlan) -> Iterator[None]:
        """For the time in which the run is started: its volumes are attached, and what its image needs is there."""
        with self._volumes_attached(plan), self._image.ready(plan):
            yield

    def synced(self, spec: RunSpec) -> RunSpec:
        """The spec with the project's digest; the project is on the machine as it is now, where it is to be sent."""
        return spec if self.project.sent.selection is None else replace(spec, tree=self.sync().digest)

    def sync(self) -> SyncResult:
        """The project as it is now is on the machine. Raises what `runctl.project.sync.sync` raises."""
        from runctl.project.sync import sync

        # A save may come while the run starts over: one sync at a time.
        with self._syncing:
            return sync(
                self.project.root.path,
                self.machine.agent,
                self.instance.id,
                include_patterns=self.project.sent.include_patterns,
                limits=self.request.limits,
                progress=self.session.progress,
            )

    def start_over(self, plan: RunPlan, attempt: int) -> tuple[RunPlan, RunRecord]:
        """The run of ``plan`` has another attempt, with the project as it is now; with the plan of that attempt.

        What the machine has attached and mounted is as it was for the attempt before.
        """
        from runctl.project.sent import sent_now

        project = replace(self.project, sent=sent_now(self.project.sent, self.request.limits))
        self.project = project
        image = self._image.settle(project.sent.selection, None if project.is_command else project.script)
        following = plan_run(
            self._request,
            project,
            plan.instance,
            plan.mounts,
            run_id=plan.run_id,
            attempt=attempt,
            resume_from=plan.spec.resume_from,
            project_name=plan.spec.project,
            container=image.container if image is not None else None,
            image=image.shown if image is not None else None,
            git=plan.git,
        )
        return following, self._launch(following)

    @cached_property
    def _image(self) -> RunImage:
        return self._image_on(self.machine)

    def _image_on(self, machine: Machine | None) -> RunImage:
        return RunImage(
            self.session,
            self.image_options,
            self.project.container,
            self.project.root.path,
            self.instance,
            machine,
            self.project.container_reason,
        )

    def _launch(self, plan: RunPlan) -> RunRecord:
        return launch(
            plan,
            self.machine,
            self.store,
            sync=(lambda: self.sync().digest) if self.project.sent.selection is not None else None,
            keep=self.keeping(plan),
            clock=SystemClock(),
            region=self.machine.provider.region,
            fallback=self.fallback,
            progress=self.session.progress,
        )

    def keeping(self, plan: RunPlan) -> Callable[[RunSpec], AbstractContextManager[None]]:
        """What a further attempt needs is kept while the first one starts. This computer is no machine that could be
        replaced by another one, and a run that only builds an image has nothing to go on from."""
        build = plan.spec.container.build if plan.spec.container is not None else None
        if is_this_computer(self.instance.provider) or (build is not None and build.only):
            return lambda _: nullcontext()
        recipe = Recipe(
            spec=plan.spec,
            provider=self.instance.provider,
            region=self.machine.provider.region,
            transport=self.transport,
            volumes=kept_volumes(plan.mounts),
            rules=self.request.recovery.rules,
            auto_resume=self.request.recovery.auto_resume,
        )
        if self.rented_by is not None and self.nodes is None:
            recipe = recipe.rented_by(self.rented_by)
        elif self.rented_by is not None:
            recipe = replace(recipe, request=replace(self.rented_by, token=None), nodes=self.nodes)
        facts = RunFacts(plan.name, plan.git, plan.results)
        return partial(keeping, self.session, recipe, facts, self.machine, self.project.root.path)

    def _warn(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self.session.progress.warn(text)

    def _warn_of_taken_name(self) -> None:
        taken = self.store.list(name=self.request.name, limit=1) if self.request.name else ()
        for record in taken:
            self._warn(f"{record.id} is called {self.request.name}, too: use ids to tell the two runs apart")

    def _mount_facts(self) -> MountFacts:
        if is_this_computer(self.instance.provider):
            return MountFacts(self.instance)
        resume = self.request.resume
        return gather_mount_facts(
            self.project.mount_requests,
            besides=(str(resume.volume_id),) if resume is not None and resume.volume_id is not None else (),
            instance=self.instance,
            agent=self.machine.agent,
            provider=self.machine.provider,
            store=self.store,
            agent_on=self._agent_on,
            progress=self.session.progress,
        )

    def _volumes_attached(self, plan: RunPlan) -> AbstractContextManager[None]:
        def may_have_started() -> bool:
            known = self.store.find(plan.run_id)
            return known is not None and known.end_reason is not EndReason.NOT_STARTED

        return volumes_attached(
            plan.mounts,
            self.instance,
            provider=self.machine.provider,
            agent_on=self._agent_on,
            find_holder=self._find_holder,
            may_have_started=may_have_started,
            progress=self.session.progress,
        )

    def _agent_on(self, instance: Instance) -> AgentClient:
        if instance.id == self.instance.id:
            return self.machine.agent
        return reach(self.session, instance, self.transport).agent

    def _find_holder(self, volume: Volume) -> Holder:
        return find_holder(volume, self.machine.provider, self.store, self._agent_on, self.session.progress)

    def _interrupted(self, plan: RunPlan) -> Interrupted:
        known = self.store.find(plan.run_id)
        if known is None:
            return Interrupted(
                "stopped before anything was started; nothing runs", hint="run the same command again"
            )
        return Interrupted(
            f"{plan.run_id} may have started on {self.instance.id}, and goes on if it has",
            hint=f"runctl runs show {plan.run_id}, or end it: runctl runs stop {plan.run_id}",
        )
