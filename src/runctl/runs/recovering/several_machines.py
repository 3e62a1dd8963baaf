"""A further attempt of a run on several machines: all start over from the newest checkpoint, on machines rented anew.

What follows is decided by the same function as for one machine, `runctl.runs.recovery.decide_next`.
"""

from __future__ import annotations

from dataclasses import replace

from runctl.core.clock import SystemClock
from runctl.core.errors import CapacityError, Conflict, Unsupported
from runctl.core.machine_models import Market
from runctl.core.text import counted
from runctl.machines.machine import reach
from runctl.machines.nodes import Engine, NodeGroup, NodesWanted, new_nodes
from runctl.machines.session import Session
from runctl.project.kept import kept_projects
from runctl.providers.capacity import Pool
from runctl.runs.nodes.giving_back import give_back_nodes
from runctl.runs.nodes.starting import (
    agents_start,
    known_node,
    new_secret,
    node_specs,
    ranked,
    send_kept,
    spec_on,
)
from runctl.runs.records.node_records import KnownNodes
from runctl.runs.records.run_record import RunRecord, as_known, planned
from runctl.runs.records.store import run_store
from runctl.runs.recovering.next_attempt import history, next_request, next_spec, rules_of
from runctl.runs.recovery import GiveUp, NextAttempt, Progress, decide_next
from runctl.runs.stored.recipe import Recipe, Recipes

PAUSE_SECONDS = 5.0
REFUSED_SECONDS = 60.0
"""After which capacity that was refused is asked for again."""


def recover_nodes(session: Session, record: RunRecord, *, once: bool) -> tuple[RunRecord | None, str]:
    """The run's next attempt, which all machines have taken up; or ``None``, and why there is none (empty: no machines
    are to be had now, and ``once``: they are not waited for).

    The machines of the attempt before are given back first. What was rented for an attempt that could not be started is
    given back, after Ctrl-C too. Raises what renting and starting raise.
    """
    recipe, clock = Recipes(session.database).get(record.id), SystemClock()
    began = record.past[0].created_at if record.past else record.created_at
    check_recoverable(record, recipe)
    give_back_nodes(session, record)
    spot = recipe.request is not None and recipe.request.market is Market.SPOT
    pool = str(Pool(record.instance_type or "", record.zone or ""))
    refused_at: float | None = None
    while True:
        elapsed = (clock.now() - began).total_seconds()
        asks = refused_at is None or clock.monotonic() - refused_at >= REFUSED_SECONDS
        step = decide_next(
            history(record), rules_of(recipe), Progress(elapsed, 0.0, (pool,) if spot and asks else ())
        )
        if isinstance(step, GiveUp):
            return None, step.why
        if isinstance(step, NextAttempt):
            try:
                return _start_over(session, record, recipe, step), ""
            except CapacityError as error:
                session.progress.update(f"no machines yet: {error.message}")
                refused_at = clock.monotonic()
        if once:
            return None, ""
        clock.sleep(PAUSE_SECONDS)


def check_recoverable(record: RunRecord, recipe: Recipe) -> None:
    """Raises `Unsupported` where the machines of a further attempt would not have what the first ones had."""
    if recipe.spec.store is None:
        raise Unsupported(
            f"{record.id} has its checkpoints on one machine, and all need them to go on",
            hint="start a new run with --checkpoint-s3 s3://bucket/prefix, which every machine reads from",
        )
    if recipe.request is None or recipe.nodes is None:
        raise Unsupported(
            f"what the machines of {record.id} were rented by is not known", hint="start a new run"
        )
    if recipe.spec.tree is None and not recipe.spec.is_command:
        raise Unsupported(
            f"{record.id} used the project that its machines had (--no-sync-code)", hint="start a new run"
        )


def _start_over(session: Session, record: RunRecord, recipe: Recipe, step: NextAttempt) -> RunRecord:
    request, least_most = recipe.request, recipe.nodes
    if request is None or least_most is None or record.nodes is None:
        raise Unsupported(
            f"what the machines of {record.id} were rented by is not known", hint="start a new run"
        )
    market = Market.SPOT if step.market == "spot" else Market.ON_DEMAND
    number = record.attempt + 1
    wanted = NodesWanted(least_most[0], least_most[1], Engine(record.nodes.engine))
    machine = replace(next_request(request, record, number, market, None), volumes=request.volumes)
    there = session.in_region(record.region)
    with new_nodes(there, record.provider, machine, wanted) as new:
        group = ranked(new.rent(), wanted, new.plan.volumes)
        try:
            return _start(there, record, recipe, group)
        except BaseException as error:
            told = new.after_failure(error)
            if told is error:
                raise
            raise told from error


def _start(session: Session, record: RunRecord, recipe: Recipe, group: NodeGroup) -> RunRecord:
    store = run_store(session)
    if record.nodes is None or store.get(record.id).attempt != record.attempt:
        raise Conflict(f"{record.id} goes on as another attempt already", code="has-ended")
    spec = next_spec(recipe, record, ends_itself=True)
    known = recipe.spec.node
    specs = [
        spec_on(spec, node)
        for node in node_specs(
            [node.address for node in group.nodes],
            record.nodes.engine,
            record.id,
            spec.attempt,
            least=record.nodes.least,
            options=known.options if known is not None else (),
            secret=new_secret(),
        )
    ]
    machines = [reach(session, node.instance, recipe.transport) for node in group.nodes]
    session.progress.step(f"sending the project to {counted(len(machines), 'machine')}")
    send_kept(session, machines, spec, kept_projects())
    now = SystemClock().now()
    following = planned(specs[0], group.head.instance, now, record.region, name=record.name, git=record.git)
    nodes = tuple(known_node(node) for node in group.nodes)
    following = replace(
        following,
        results=record.results,
        past=(*record.past, as_known(record)),
        nodes=KnownNodes(record.nodes.engine, group.token, record.nodes.least, nodes),
    )
    Recipes(session.database).put(replace(recipe, spec=specs[0]))
    return agents_start(session, following, list(zip([each.agent for each in machines], specs, strict=True)))
