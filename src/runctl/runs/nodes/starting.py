"""One run is started on several machines: planned for each, sent to all, and taken up by all or by none."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

from runctl._dataclasses import dataclass
from runctl.agent.after_run import MachineEnd
from runctl.agent.node_spec import NodeSpec, ports_of
from runctl.agent.spec import RunSpec
from runctl.core.clock import SystemClock
from runctl.core.errors import RunctlError
from runctl.core.ids import VolumeId
from runctl.core.tags import NAME
from runctl.core.text import counted
from runctl.machines.intents import IntentState
from runctl.machines.machine import Machine
from runctl.machines.node_volumes import NodeVolume
from runctl.machines.nodes import Node, NodeGroup, NodesWanted
from runctl.machines.session import Session
from runctl.project.kept import KeptProjects
from runctl.runs.nodes.asking import combined, told_by
from runctl.runs.records.node_records import KnownNode, KnownNodes
from runctl.runs.records.run_record import RunRecord, as_known
from runctl.runs.records.store import run_store
from runctl.runs.records.updates import never_started, planned
from runctl.runs.stored.recipe import Recipes
from runctl.runs.stored.stored_run import prefix_of, put_nodes
from runctl.runs.train.plan import RunPlan
from runctl.runs.train.start import notice_by
from runctl.runs.train.training import Training
from runctl.transport.agent import AgentClient

AT_ONCE = 16


@dataclass(frozen=True)
class Started:
    """A machine, what is to run on it, and who sees to that."""

    node: Node
    training: Training
    plan: RunPlan


def node_specs(
    addresses: Sequence[str],
    engine: str,
    run_id: str,
    attempt: int,
    *,
    least: int,
    options: tuple[str, ...],
    secret: str,
) -> list[NodeSpec]:
    """What each machine is told of all of them, by rank. Pure."""
    group_port, engine_port = ports_of(run_id, attempt)
    return [
        NodeSpec(
            rank,
            tuple(addresses),
            engine,
            secret,
            group_port=group_port,
            engine_port=engine_port,
            least=min(least, len(addresses)),
            options=options,
        )
        for rank in range(len(addresses))
    ]


def new_secret() -> str:
    """Of one attempt."""
    return secrets.token_hex(16)


def spec_on(spec: RunSpec, node: NodeSpec) -> RunSpec:
    """What one machine is to run: what the run saves is brought home from rank 0 alone. Pure."""
    return replace(spec, node=node, machine_end=spec.machine_end and end_on(spec.machine_end, node.rank))


def end_on(end: MachineEnd, rank: int) -> MachineEnd:
    """When a machine of several ends itself: but for rank 0's, only their logs may be wanted of them. Pure."""
    return end if rank == 0 else replace(end, results_url=None, results_env={})


def start_on_nodes(
    training: Training, group: NodeGroup, volumes: Sequence[NodeVolume], wanted: NodesWanted
) -> RunRecord:
    """All machines have taken up the run. Raises what `Training.plan` and starting it raise; where one machine does not
    take it up, the record says that it never started."""
    session, store = training.session, training.store
    originals = {each.volume.id: each.volume.tags.get("Name") for each in volumes}
    trainings = [_for_node(training, node, originals) for node in group.nodes]
    with ThreadPoolExecutor(min(AT_ONCE, len(trainings))) as pool:
        plans = list(pool.map(Training.plan, trainings))
    started = [
        Started(node, each, plan) for node, each, plan in zip(group.nodes, trainings, plans, strict=True)
    ]
    head = started[0]
    specs = node_specs(
        [node.address for node in group.nodes],
        wanted.engine.value,
        head.plan.spec.run_id,
        head.plan.spec.attempt,
        least=wanted.least,
        options=wanted.options,
        secret=new_secret(),
    )
    with ExitStack() as stack:
        for each in started:
            stack.enter_context(each.training.prepared(each.plan))
        session.progress.step(f"sending the project to {counted(len(started), 'machine')}")
        with ThreadPoolExecutor(min(AT_ONCE, len(started))) as pool:
            ready = list(
                pool.map(
                    lambda pair: spec_on(pair[0].training.synced(pair[0].plan.spec), pair[1]),
                    zip(started, specs, strict=True),
                )
            )
        record = _planned(training, head.plan, ready[0])
        nodes = tuple(known_node(node) for node in group.nodes)
        record = replace(
            record, nodes=KnownNodes(wanted.engine.value, group.token, min(wanted.least, len(nodes)), nodes)
        )
        stack.enter_context(training.keeping(head.plan)(ready[0]))
        _store_nodes(session, record)
        agents = [each.training.machine.agent for each in started]
        record = agents_start(session, record, list(zip(agents, ready, strict=True)))
    for node in group.nodes:
        session.intents.close(IntentState.DONE, node.instance.id, group.token)
    store.put(record)
    return record


def _store_nodes(session: Session, record: RunRecord) -> None:
    """Other computers can recover the run, as they know its machines; where that fails the run starts all the same."""
    recipe = Recipes(session.database).find(record.id)
    if recipe is None or record.nodes is None:
        return
    try:
        at = prefix_of(session, recipe)
        if at is not None:
            put_nodes(at, record.attempt, record.nodes)
    except RunctlError as error:
        session.progress.warn(f"{record.id} can be recovered by this computer only: {error.message}")


def agents_start(
    session: Session, record: RunRecord, machines: Sequence[tuple[AgentClient, RunSpec]]
) -> RunRecord:
    """Every agent has taken up the attempt, by rank; the record is kept before the first is told."""
    store, progress = run_store(session), session.progress
    notice = notice_by(record.market, session.provider(record.provider).announces_interruptions)
    store.put(record)
    progress.step(f"starting {record.id} on {counted(len(machines), 'machine')}")
    with ThreadPoolExecutor(min(AT_ONCE, len(machines))) as pool:
        waiting = [pool.submit(agent.start, replace(spec, notice_by=notice)) for agent, spec in machines]
    try:
        statuses = [each.result() for each in waiting]
    except RunctlError as error:
        # Those that have it wait for the others: whoever rented the machines gives them back.
        store.put(never_started(record, SystemClock().now(), error.message))
        raise
    assert record.nodes is not None  # noqa: S101 - the caller has put them there
    known = [told_by(node, status) for node, status in zip(record.nodes.nodes, statuses, strict=True)]
    nodes = replace(record.nodes, nodes=tuple(known))
    record = combined(record, nodes, statuses[0], SystemClock().now())
    store.put(record)
    return record


def known_node(node: Node) -> KnownNode:
    """As it is remembered before it has said anything. Pure."""
    return KnownNode(node.rank, node.instance.id, node.address, node.instance.tags.get(NAME))


def send_kept(session: Session, machines: Sequence[Machine], spec: RunSpec, projects: KeptProjects) -> None:
    """The project that is kept here is on every machine. Raises what sending raises."""
    if spec.tree is None:
        return
    tree = spec.tree

    def send(machine: Machine) -> None:
        projects.send(tree, spec.project, machine.agent, machine.instance.id, session.progress)

    with ThreadPoolExecutor(min(AT_ONCE, len(machines))) as pool:
        for done in [pool.submit(send, machine) for machine in machines]:
            done.result()


def _planned(training: Training, plan: RunPlan, spec: RunSpec) -> RunRecord:
    now = SystemClock().now()
    record = planned(
        spec,
        plan.instance,
        now,
        training.machine.provider.region,
        account=training.machine.provider.scope().rented_in,
        name=plan.name,
        git=plan.git,
        fallback=training.fallback,
    )
    known = training.store.find(plan.run_id)
    past = (*known.past, as_known(known)) if known is not None and known.attempt < spec.attempt else ()
    return replace(record, results=plan.results, past=past)


def _for_node(training: Training, node: Node, names: Mapping[VolumeId, str | None]) -> Training:
    """The same training on one of the machines, with the volumes that this one has in the place of the plan's."""
    if node.rank == 0:
        return training
    own = {str(volume): str(node.volumes[volume]) for volume in names if volume in node.volumes}
    own |= {
        name: str(node.volumes[volume]) for volume, name in names.items() if name and volume in node.volumes
    }
    requests = tuple(
        replace(each, source=own.get(each.source, each.source)) for each in training.project.mount_requests
    )
    return replace(
        training,
        instance=node.instance,
        project=replace(training.project, mount_requests=requests),
        _syncing=threading.Lock(),
    )
