"""The use case ``launch --unattended``: everything that a machine needs is put at the run's address in the store, and a
group is made that rents the machine, and the next one after an interruption. Then nobody has to be there.

A call that is cut short at any point is finished by the same command: its intent has the token, the token is the run,
and everything is named after the run. Nothing is rented before the last step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import cached_property, partial

from runctl._dataclasses import dataclass
from runctl.agent.checkpoint_spec import StoreSpec
from runctl.agent.deadline_spec import DeadlineSpec
from runctl.agent.node_spec import NodeSpec, wanted_nodes
from runctl.agent.package import build
from runctl.agent.spec import RunSpec
from runctl.core.blank_volumes import formats_unasked
from runctl.core.clock import SystemClock
from runctl.core.errors import Interrupted
from runctl.core.files import cache_folder
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Volume
from runctl.core.run_models import GroupPhase, RunPhase, UnattendedRun
from runctl.core.text import time_span
from runctl.machines.creation import Creation
from runctl.machines.intents import IntentState, Kind
from runctl.machines.session import Session
from runctl.project.kept import kept_projects
from runctl.project.manifest import HashCache, build_manifest
from runctl.project.root import project_name
from runctl.providers.abilities.groups import GroupPlan, GroupRequest, Groups, TakeUp
from runctl.providers.abilities.limits import OFF
from runctl.providers.instance_plans import CreatePlan, InstanceRequest
from runctl.providers.interface import Provider, require
from runctl.runs.deadlines.plan import (
    check_deadline,
    on_demand_request,
    plan_deadline,
    unattended,
    unattended_request,
)
from runctl.runs.deadlines.standing import learned_from
from runctl.runs.launch.deadline import RUNS_MEASURED, deadline_spec, settled_deadline
from runctl.runs.launch.launch_plan import (
    LaunchPlan,
    ResultsPlan,
    Safety,
    check_resume_path,
    machine_to_be,
    mounts_to_be,
    plan_machine_end,
    with_addresses,
    with_volumes,
    without_repeats,
)
from runctl.runs.launch.launching import LaunchRequest, storing_of, variables_of, volumes_of
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import run_store
from runctl.runs.records.updates import planned
from runctl.runs.stored.recipe import Recipe, kept_volumes
from runctl.runs.stored.stored_run import RunFacts, check_conditional_writes, prefix_of, store_run
from runctl.runs.train.project_plan import ProjectPlan, plan_project
from runctl.runs.train.resume_point import find_checkpoint
from runctl.runs.train.training import Training
from runctl.runs.unattended.request import (
    check_nodes,
    check_request,
    check_settled,
    checked_store,
    identity_of,
    results_address,
    run_of,
    shared_by,
)
from runctl.storage.attaching import may_be_written


@contextmanager
def launching_unattended(
    session: Session, provider: str, request: LaunchRequest, machine: InstanceRequest
) -> Iterator[UnattendedLaunch]:
    """For the time in which a run's group is planned and made: see `UnattendedLaunch`.

    The same request takes up what an earlier call has begun and not finished. Raises what `plan_project`,
    `Groups.plan` and `Training.plan` raise, and `Unsupported`, `UsageError` for what needs somebody who watches.
    """
    train, own = request.train, session.provider(provider)
    groups, store = require(own.groups), _checked(own, request, machine)
    project = plan_project(train)
    resume = train.resume
    if request.resume_from is not None:
        resume = find_checkpoint(session, request.resume_from)
        train = replace(train, resume=resume)
    machine = with_volumes(machine, project.mount_requests, resume)
    machine = machine if request.nodes is None else shared_by(machine, request.count)
    volumes = volumes_of(own, machine)
    deadline, on_demand_from = deadline_spec(session, provider, request.deadline), None
    if deadline is not None:
        deadline = unattended(_with_estimate(session, deadline, project))
        check_deadline(deadline, SystemClock().now())
        machine, on_demand_from = unattended_request(machine, deadline, SystemClock().now())
    # A run that does nothing ends; a machine that ended itself would be replaced.
    train = replace(train, idle_timeout=machine.idle_timeout)
    machine = replace(without_repeats(machine, volumes), idle_timeout=OFF)
    with session.creating(own, Kind.GROUP, identity_of(machine, train, store, request.nodes)) as creation:
        known = run_store(session).find(run_of(creation.token))
        if known is not None and known.has_ended:
            # What an earlier call has begun was stopped, or is lost: the command means a new run.
            creation.renew(IntentState.GONE)
        run_id = run_of(creation.token)
        results = results_address(request.after, store)
        writes = (f"{store.url}/{run_id}", *([f"{results}/{run_id}"] if results is not None else []))
        plan = groups.plan(
            GroupRequest(
                replace(machine, token=creation.token, writes=(*machine.writes, *writes)),
                TakeUp(store.url, run_id, agent_sha256()),
                reads=(resume.path,) if resume is not None and resume.is_in_store else (),
                on_demand_from=on_demand_from,
                count=request.count,
            ),
            session.progress,
        )
        session.ledger_record(provider).review(plan.machine, request.count)
        for warning in plan.machine.warnings:
            session.progress.warn(warning)
        by_deadline = None
        if deadline is not None:
            deadline = _settled(session, provider, deadline, plan.machine, machine)
            train = replace(train, deadline=deadline)
            by_deadline = plan_deadline(deadline, plan.machine, SystemClock().now())
        instance = machine_to_be(plan.machine, SystemClock().now())
        facts = mounts_to_be(plan.machine, instance, volumes)
        check_resume_path(resume, facts)
        training = Training(
            session, train, project, instance, request.transport, request.image_options, run_id=run_id
        )
        run = training.plan_before_renting(facts)
        where = ResultsPlan(Safety.STORE, results) if results is not None else ResultsPlan(Safety.NOWHERE)
        end = replace(plan_machine_end(request.after, where, variables_of(own)), group=plan.end)
        # Its group starts the next attempt, and no computer.
        recovery = replace(run.recovery, auto_resume=False)
        spec = replace(run.spec, machine_end=end, node=_nodes_of(request))
        run = replace(run, spec=spec, results=results, recovery=recovery)
        pulls = training.role_pulls(run) if plan.role else ""
        check_settled(run.spec, needs_login=not pulls and training.needs_login(run))
        if pulls:
            plan = replace(plan, pulls=pulls, rights=(*plan.rights, f"pull {pulls}"))
        storing = storing_of(own, plan.machine, where, run.spec.store)
        yield UnattendedLaunch(
            training,
            LaunchPlan(plan.machine, run, where, by_deadline, request.estimate, storing, plan, request.nodes),
            plan,
            groups,
            creation,
            # Whoever goes on with the run when its group is gone rents a machine that may write there as well.
            with_addresses(machine, request.after, store, train.env),
            volumes,
        )


def _checked(own: Provider, request: LaunchRequest, machine: InstanceRequest) -> StoreSpec:
    """Where everything lies that the next machine needs. Raises `UsageError`, `Unsupported`."""
    store = checked_store(request.train)
    check_request(request.train, request.after, machine)
    if request.nodes is not None:
        require(own.nodes)
        check_nodes(request.nodes, moves=request.deadline is not None)
    return store


def _settled(
    session: Session, provider: str, spec: DeadlineSpec, plan: CreatePlan, machine: InstanceRequest
) -> DeadlineSpec:
    """As `settled_deadline`, of one machine."""
    on_demand = partial(session.rentals(provider).plan, on_demand_request(machine))
    return settled_deadline(session, provider, spec, plan, on_demand)


def _nodes_of(request: LaunchRequest) -> NodeSpec | None:
    """What its machines, once they have met, are told of each other; ``None``: there is one."""
    wanted = request.nodes
    return None if wanted is None else wanted_nodes(wanted.engine.value, wanted.most, wanted.options)


def _with_estimate(session: Session, deadline: DeadlineSpec, project: ProjectPlan) -> DeadlineSpec:
    """Without an estimate, what the progress of an earlier run says that did the same."""
    if deadline.estimate_seconds is not None:
        return deadline
    earlier = run_store(session).list(limit=RUNS_MEASURED)
    found = learned_from(earlier, project_name(project.root.path), project.script, project.args)
    if found is None:
        return deadline
    run_id, seconds = found
    session.progress.note(
        f"by its progress, {run_id} takes {time_span(timedelta(seconds=seconds))} for the same: that is the estimate"
    )
    return replace(deadline, estimate_seconds=seconds)


@dataclass
class UnattendedLaunch:
    """A run that is planned, and left to its group when `start` is called."""

    training: Training
    plan: LaunchPlan
    group: GroupPlan
    groups: Groups
    creation: Creation
    request: InstanceRequest
    """What each machine is rented by."""
    volumes: Mapping[str, Volume]
    """Those of the request, by id and by name."""

    @property
    def session(self) -> Session:
        """Whose run it is."""
        return self.training.session

    @cached_property
    def provider(self) -> Provider:
        """Whose group it is."""
        return self.session.provider(self.plan.run.instance.provider)

    def start(self) -> RunRecord:
        """The group rents the run's machine: from here on nobody has to be there.

        Raises what the store and `Groups.create` raise, and `Interrupted`, which says how to go on and how to undo it.
        """
        run_id, store = self.plan.run.run_id, self.training.store
        self.creation.begin()
        if store.find(run_id) is None:
            store.put(self._record(self.plan.run.spec))
        try:
            if self.creation.existing is None:
                # A group that exists was made when all was there, and its machines know the program by its checksum.
                with kept_projects().holding():
                    self._store_run()
            # The group's machines mount them, and nobody is there to say so.
            for mount in self.request.volumes:
                if not mount.read_only:
                    may_be_written(require(self.provider.volumes), self.volumes[mount.volume])
            created = self.groups.create(self.group, self.session.progress)
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted: {run_id} is not left to its group yet",
                hint=f"the same command continues with it; runctl runs stop {run_id} removes what there is",
            ) from None
        self.creation.note_id(created.id)
        phase = GroupPhase.RENTING if created.rents and not created.machines else GroupPhase.HAS_MACHINE
        record = replace(store.get(run_id), unattended=UnattendedRun(created.id, phase, created.suspended))
        store.put(record)
        return record

    def _record(self, spec: RunSpec) -> RunRecord:
        plan = self.plan.run
        record = planned(
            spec,
            replace(plan.instance, id=InstanceId("")),
            SystemClock().now(),
            self.provider.region,
            account=self.provider.scope().rented_in,
            name=plan.name,
            git=plan.git,
        )
        return replace(
            record,
            state=RunPhase.PENDING,
            instance_type=None,
            instance_name=None,
            results=plan.results,
            unattended=UnattendedRun(self.group.name, GroupPhase.PLANNED),
        )

    def _store_run(self) -> None:
        """Everything that a machine needs is in the store."""
        progress, plan = self.session.progress, self.training.published(self.plan.run)
        spec = replace(plan.spec, tree=self._kept_tree())
        recipe = Recipe(
            spec=spec,
            provider=self.provider.name,
            region=self.provider.region,
            transport=self.training.transport,
            volumes=tuple(
                replace(each, blank=formats_unasked(self.volumes[each.volume_id]))
                for each in kept_volumes(plan.mounts)
            ),
            rules=plan.recovery.rules,
            registry=self.group.pulls.partition("/")[0],
            nodes=(self.group.count, self.group.count) if self.group.count > 1 else None,
        ).rented_by(self.request)
        at = prefix_of(self.session, recipe)
        assert at is not None  # noqa: S101 - the plan has looked
        progress.step(f"putting what {plan.run_id} needs into {at}")
        check_conditional_writes(at)
        store_run(at, recipe, RunFacts(plan.name, plan.git, plan.results), attempt=0)

    def _kept_tree(self) -> str | None:
        """The digest of the project's tree, which is kept here until it is in the store."""
        selection, root = self.training.project.sent.selection, self.training.project.root.path
        if selection is None:
            return None
        self.session.progress.step("reading the project")
        hashes = HashCache.load(cache_folder() / "hashes" / f"{project_name(root)}.json")
        try:
            manifest = build_manifest(selection, hashes)
        finally:
            hashes.save()
        kept = kept_projects().keep(root, manifest)
        self._warn_of_changes(kept.changed)
        for path in kept.gone[:3]:
            self.session.progress.warn(f"{path} is gone: the run does not have it")
        return kept.digest

    def _warn_of_changes(self, changed: Sequence[str]) -> None:
        for path in changed[:3]:
            self.session.progress.warn(f"{path} changes: the run has it as it is now")


def agent_sha256() -> str:
    """Of the program that the store gets and a machine starts."""
    return hashlib.sha256(build(cache_folder() / "agent").read_bytes()).hexdigest()
