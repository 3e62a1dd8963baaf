"""The use case ``launch``: ``create`` and ``train`` one after the other, and the machine given back at the end.

Everything that can be found wrong is found before the machine is rented. Once the run has started its machine ends
itself (`runctl.agent.after_run`); a machine on which it could not be started is given back here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial

from runctl._dataclasses import dataclass
from runctl.agent.checkpoint_spec import StoreSpec
from runctl.agent.deadline_spec import DeadlineSpec
from runctl.agent.end_reason import EndReason
from runctl.agent.object_store import is_address
from runctl.core.clock import SystemClock
from runctl.core.errors import InstanceEnded, Interrupted, RunctlError, Unsupported, add_fact
from runctl.core.ids import new_run_id
from runctl.core.machine_models import Instance, Volume
from runctl.core.run_models import SpotFallback
from runctl.costs.traffic import DataOut, data_out_of
from runctl.machines.expected_costs import estimate_warning
from runctl.machines.fallback import AskFallback, nobody_to_ask
from runctl.machines.instances import new_machine
from runctl.machines.machine import reach
from runctl.machines.node_volumes import NodeVolume, Sharing
from runctl.machines.nodes import NewNodes, NodeGroup, NodeGroupPlan, NodesWanted, new_nodes
from runctl.machines.renting import READY_TIMEOUT, NewMachine
from runctl.machines.session import Session
from runctl.providers.abilities.limits import OFF
from runctl.providers.instance_plans import CreatePlan, InstanceRequest
from runctl.providers.interface import Provider, require
from runctl.runs.deadlines.plan import DeadlinePlan, DeadlineRequest, plan_deadline, with_market
from runctl.runs.images.settled_image import BY_CONFIGURATION, ImageOptions
from runctl.runs.launch.deadline import check_nodes, check_on_demand, deadline_spec, settled_deadline
from runctl.runs.launch.launch_plan import (
    UNUSED_FOR,
    AfterRun,
    LaunchPlan,
    ResultsPlan,
    Safety,
    Storing,
    check_resume_path,
    end_warning,
    machine_to_be,
    mounts_to_be,
    plan_machine_end,
    plan_results,
    with_addresses,
    with_volumes,
    without_repeats,
)
from runctl.runs.launch.machine_image import MachineImage, settle_machine_image
from runctl.runs.nodes.starting import start_on_nodes
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.updates import fell_back, never_started
from runctl.runs.results import check_results_folder
from runctl.runs.stored.lent_store import settle_store
from runctl.runs.train.project_plan import TrainRequest, plan_project
from runctl.runs.train.resume_point import find_checkpoint
from runctl.runs.train.training import Training

ASKED = 3
ASKED_EVERY = 1.0
"""How often a machine is asked whether it has taken up the run, and the seconds between."""


@dataclass(frozen=True)
class LaunchRequest:
    """What the user asked for, configuration already merged in."""

    train: TrainRequest
    after: AfterRun
    resume_from: str | None = None
    """A run, or a path of the machine."""
    image_options: ImageOptions = BY_CONFIGURATION
    transport: str | None = None
    deadline: DeadlineRequest | None = None
    estimate: timedelta | None = None
    """How long the run takes: what the plan's cost is added up for."""
    nodes: NodesWanted | None = None
    """It runs on several machines; ``None``: on one."""

    @property
    def count(self) -> int:
        """On how many at most."""
        return 1 if self.nodes is None else self.nodes.most


@contextmanager
def launching(
    session: Session, provider: str, request: LaunchRequest, machine: InstanceRequest
) -> Iterator[Launch]:
    """For the time in which a machine is planned and rented, and the run started on it: see `Launch`.

    The same request takes up a machine that an earlier call has rented and not used. Raises what `plan_project`,
    `Renting.plan` and `Training.plan` raise, and `Unsupported` where a machine cannot end itself.
    """
    train, own = request.train, session.provider(provider)
    if request.nodes is not None:
        check_nodes(own, train, machine, moves=request.deadline is not None)
    _check_machine_end(own, request.after)
    train = replace(train, keeping=settle_store(own, train.keeping))
    settled_image = settle_machine_image(session, own, train, machine, request.image_options)
    train, machine, project = settled_image.train, settled_image.machine, settled_image.project
    if project.container is not None:
        require(own.containers)
    resume = train.resume
    if request.resume_from is not None:
        resume = find_checkpoint(session, request.resume_from)
        train = replace(train, resume=resume)
    machine = with_volumes(machine, project.mount_requests, resume)
    machine = with_addresses(machine, request.after, train.keeping.store(), train.env)
    volumes = volumes_of(own, machine)
    machine = replace(
        machine,
        unused_for=None if request.after.keep else UNUSED_FOR,
        idle_timeout=machine.idle_timeout or OFF,
    )
    train = replace(train, idle_timeout=machine.idle_timeout, estimate=request.estimate)
    spec = deadline_spec(session, provider, request.deadline)
    if spec is not None:
        train = replace(train, deadline=spec)
        machine = with_market(machine, spec, SystemClock().now())
    run_id = new_run_id()
    if request.nodes is not None:
        machine = replace(machine, attempt=f"{run_id}/1")
    with _renting(session, provider, without_repeats(machine, volumes), request.nodes) as rented:
        planned, new = settled_image.explained(rented.machine), rented.new
        instance = machine_to_be(planned, SystemClock().now())
        facts = mounts_to_be(planned, instance, volumes, shared=rented.shared)
        check_resume_path(resume, facts)
        training = Training(
            session, train, project, instance, request.transport, request.image_options, run_id=run_id
        )
        training.named_zone = machine.zone or machine.subnet
        run = training.plan_before_renting(facts)
        results = plan_results(request.after, run.mounts.saves, train.cwd, rented=True)
        check_results_folder(results)
        end = plan_machine_end(request.after, results, variables_of(own))
        estimate = request.estimate if spec is None else None
        for warning in (
            end_warning(request.after, end, planned.longest),
            estimate_warning(planned, estimate, train.timeout),
        ):
            if warning is not None:
                session.progress.warn(warning)
        if spec is not None:
            on_demand = partial(check_on_demand, session, provider, new)
            spec = settled_deadline(session, provider, spec, planned, on_demand, rented.count)
        training.request = replace(train, machine_end=end, results=results.target, deadline=spec)
        run = replace(run, spec=replace(run.spec, machine_end=end, deadline=spec), results=results.target)
        by_deadline = rented.deadline(spec)
        storing = storing_of(own, planned, results, run.spec.store)
        plan = LaunchPlan(
            planned,
            run,
            results,
            by_deadline,
            request.estimate,
            storing,
            data_out=home_of(own, planned, results),
            wanted=request.nodes,
            nodes=rented.nodes,
        )
        yield Launch(training, plan, new, request.nodes, settled_image.image)


@dataclass(frozen=True)
class _Rented:
    """What is rented for a run: one machine, or several."""

    machine: CreatePlan
    """Each of them."""
    new: NewMachine | NewNodes
    nodes: NodeGroupPlan | None = None

    def deadline(self, spec: DeadlineSpec | None) -> DeadlinePlan | None:
        """What the deadline means for them."""
        return None if spec is None else plan_deadline(spec, self.machine, SystemClock().now(), self.count)

    @property
    def count(self) -> int:
        """How many there are at most."""
        return self.nodes.nodes.most if self.nodes is not None else 1

    @property
    def shared(self) -> Sequence[NodeVolume]:
        """Volumes that every machine has, besides those of the plan."""
        found = self.nodes.volumes if self.nodes is not None else ()
        return [each for each in found if each.sharing is Sharing.SHARED]


@contextmanager
def _renting(
    session: Session, provider: str, machine: InstanceRequest, nodes: NodesWanted | None
) -> Iterator[_Rented]:
    if nodes is None:
        with new_machine(session, provider, machine) as new:
            yield _Rented(new.plan, new)
        return
    with new_nodes(session, provider, machine, nodes) as several:
        yield _Rented(several.plan.nodes.machine, several, several.plan)


def storing_of(
    provider: Provider, plan: CreatePlan, results: ResultsPlan, store: StoreSpec | None
) -> Storing | None:
    """What is put into the provider's own object store, and what it costs there."""
    addresses = [results.where] if results.safety is Safety.STORE and results.where else []
    if store is not None and is_address(store.url) and not store.endpoint:
        addresses.append(store.url)
    if not addresses or isinstance(provider.prices, Unsupported):
        return None
    prices = provider.prices.storage(plan.region)
    return None if prices is None else Storing(tuple(dict.fromkeys(addresses)), prices)


def home_of(provider: Provider, plan: CreatePlan, results: ResultsPlan) -> DataOut | None:
    """What it costs to bring results to this computer."""
    if results.safety is not Safety.FOLDER or isinstance(provider.prices, Unsupported):
        return None
    rate = provider.prices.data_out(plan.region)
    return None if rate is None else data_out_of(rate)


def launch_on(session: Session, instance: Instance, request: LaunchRequest) -> Launch:
    """The same on a machine that is there: nothing is rented, and nothing given back. Raises what `Training.plan`
    raises."""
    train = request.train
    if request.resume_from is not None:
        train = replace(train, resume=find_checkpoint(session, request.resume_from, instance))
    results = plan_results(request.after, None, train.cwd, rented=False)
    check_results_folder(results)
    train = replace(train, results=results.target)
    training = Training(
        session, train, plan_project(train), instance, request.transport, request.image_options
    )
    return Launch(training, LaunchPlan(None, training.plan(), results))


@dataclass
class Launch:
    """A run that is planned, and started when `start` is called."""

    training: Training
    plan: LaunchPlan
    new: NewMachine | NewNodes | None = None
    """The machines that are rented for it; ``None``: one is there."""
    nodes: NodesWanted | None = None
    """How many of them, and by which engine; ``None``: it has one."""
    image: MachineImage | None = None
    """What the machine is to be a container of; ``None``: it is none, or one of the provider's choice."""

    def start(
        self, ready_timeout: timedelta = READY_TIMEOUT, ask_fallback: AskFallback = nobody_to_ask
    ) -> RunRecord:
        """The machine is rented and has taken up the run; ``ask_fallback`` as in `NewMachine.rent`.

        Where that cannot be done the machine is given back, after Ctrl-C too, and the error that comes out says so.
        Raises what `NewMachine.rent` and `Training.start` raise, and `Interrupted`.
        """
        if self.new is None:
            return self.training.start(self.plan.run)
        if self.image is not None:
            self.image.publish(self.training.session)
        if isinstance(self.new, NewNodes):
            return self._start_on_several(self.new, ready_timeout, ask_fallback)
        try:
            self.training.rented_by = self.new.request
            self.training.instance = self.new.rent(wait=ready_timeout, ask_fallback=ask_fallback)
            self.training.fallback = self._fallback(self.new.request, self.training.instance)
            # As it was planned, with what the machine says now that it can be asked.
            return self.training.start(self.training.plan())
        except BaseException as error:
            told = self._after_failure(self.new, error)
            if told is error:
                raise
            raise told from error

    def show(self, ready_timeout: timedelta = READY_TIMEOUT) -> None:
        """In a preview: the machines are rented, and what the run does on them is told.

        Raises `Unsupported` for a run on a machine that is there: no call is made for it.
        """
        if self.new is None:
            raise Unsupported("a run on a machine that is there makes no calls: its agent does everything")
        if isinstance(self.new, NewNodes):
            machines = [node.instance for node in self.new.rent(wait=ready_timeout).nodes]
        else:
            machines = [self.new.rent(wait=ready_timeout)]
        shown = require(self.training.session.provider(machines[0].provider).preview)
        for instance in machines:
            shown.comment(
                f"To {instance.id} goes the project, and runctl's agent there starts {self.training.project.script}."
            )
        if self.plan.run.spec.machine_end is not None and not self.plan.run.spec.machine_end.keep:
            shown.comment("Each of these machines shuts down after the run, which ends it.")

    def _start_on_several(
        self, new: NewNodes, ready_timeout: timedelta, ask_fallback: AskFallback
    ) -> RunRecord:
        """As `start`; where the run cannot be started on all machines, all are given back."""
        group = new.rent(wait=ready_timeout, ask_fallback=ask_fallback)
        try:
            self.training.rented_by = new.whole
            self.training.instance = group.head.instance
            self.training.fallback = self._fallback(new.request, group.head.instance)
            return self._start_engine(group)
        except BaseException as error:
            told = new.after_failure(error)
            if told is error:
                raise
            raise told from error

    def _start_engine(self, group: NodeGroup) -> RunRecord:
        """One run on all of them, by the plan's engine."""
        wanted, plan = self.nodes, self.plan.nodes
        if wanted is None or plan is None:
            raise ValueError("only several machines have an engine")
        self.training.nodes = (wanted.least, wanted.most)
        return start_on_nodes(self.training, group, plan.volumes, wanted)

    def _fallback(self, request: InstanceRequest, instance: Instance) -> SpotFallback | None:
        """Beside the price that the plan had."""
        price = self.plan.machine.price if self.plan.machine is not None else None
        return fell_back(request.market, instance, price.usd if price is not None else None)

    def _after_failure(self, new: NewMachine, error: BaseException) -> BaseException:
        """The machine is given back unless the run may be continuing on it; the error says which."""
        instance = new.instance
        interrupted = isinstance(error, (KeyboardInterrupt, Interrupted))
        if instance is None and interrupted:
            instance = new.find()
        if instance is None:
            return error
        if self._is_used(new, instance):
            return error
        if interrupted:
            self.training.session.progress.warn(f"interrupted: giving {instance.id} back first")
        rentals = self.training.session.rentals(instance.provider)
        facts, hint = rentals.give_back_surely(instance.id)
        known = self.training.store.find(self.training.run_id)
        if known is not None and not known.has_ended:
            now = known.by_its_clock(SystemClock().now())
            self.training.store.put(never_started(known, now, "its machine was given back before it started"))
        if interrupted:
            return Interrupted(f"interrupted before the run was started; {facts}", hint=hint)
        if isinstance(error, InstanceEnded) and error.interrupted:
            hint = "; ".join(part for part in (hint, "the same command rents another machine") if part)
        add_fact(error, facts, hint)
        return error

    def _is_used(self, new: NewMachine, instance: Instance) -> bool:
        """Whether the run was started after all, or an earlier call's run continues on it."""
        known = self.training.store.find(self.training.run_id)
        may_have_started = known is not None and known.end_reason is not EndReason.NOT_STARTED
        if not may_have_started and new.existing is None:
            return False
        for _ in range(ASKED):
            try:
                runs = reach(self.training.session, instance, self.training.transport).agent.attempts()
            except (RunctlError, KeyboardInterrupt):
                SystemClock().sleep(ASKED_EVERY)
            else:
                return any(run.end is None or run.run_id == self.training.run_id for run in runs)
        return True


def _check_machine_end(provider: Provider, after: AfterRun) -> None:
    """Raises `Unsupported` where nobody would end the machine."""
    if not require(provider.renting).ends_on_shutdown and not (after.keep or after.follows):
        raise Unsupported(
            f"a machine of {provider.name} cannot end itself after the run",
            hint="--wait gives it back at the end, --keep leaves it",
        )


def variables_of(provider: Provider) -> Mapping[str, str]:
    """What leads programs on a machine to the provider's services."""
    return {} if isinstance(provider.filling, Unsupported) else provider.filling.machine_variables()


def volumes_of(provider: Provider, request: InstanceRequest) -> dict[str, Volume]:
    """The volumes of the request by the names that it uses, and by id. Raises `NotFound`, `Unsupported`."""
    found: dict[str, Volume] = {}
    for mount in request.volumes:
        volume = require(provider.volumes).find(mount.volume)
        found[mount.volume] = found[str(volume.id)] = volume
    return found
