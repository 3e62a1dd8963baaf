"""A further attempt of a run on several machines: all start over from the newest checkpoint, on machines rented anew.

What follows is decided by the same function as for one machine, `runctl.runs.recovery.decide_next`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from runctl.agent.deadline import Why
from runctl.agent.spec import RunSpec
from runctl.core.errors import CapacityError, RunctlError, Unreachable, Unsupported, passes_by_itself
from runctl.core.ids import VolumeId
from runctl.core.machine_models import Market
from runctl.core.money import usd
from runctl.core.tags import ATTEMPT, INTENT
from runctl.core.text import counted
from runctl.machines.intents import IntentState
from runctl.machines.machine import reach
from runctl.machines.nodes import Engine, NodeGroup, NodesWanted, give_back, new_nodes
from runctl.project.kept import kept_projects
from runctl.providers.capacity import Pool
from runctl.runs.images.run_image import logged_in
from runctl.runs.nodes.asking import ask_nodes
from runctl.runs.nodes.giving_back import give_back_nodes
from runctl.runs.nodes.starting import agents_start, known_node, new_secret, node_specs, send_kept, spec_on
from runctl.runs.records.node_records import KnownNodes
from runctl.runs.records.run_record import RunRecord
from runctl.runs.recovering.moving import (
    END_PATIENCE,
    POLL_SECONDS,
    deadline_of,
    elapsed_of,
    leave_machine,
    progress_of,
)
from runctl.runs.recovering.next_attempt import history, next_request, next_spec, rules_of
from runctl.runs.recovering.outcome import StoreAway
from runctl.runs.recovering.pools import PAUSE_SECONDS, may_ask_again
from runctl.runs.recovering.run import HasEndedError, RecoveredRun
from runctl.runs.recovery import GiveUp, NextAttempt, decide_next
from runctl.runs.stored.recipe import Recipe
from runctl.runs.stored.stored_run import put_nodes


def recover_nodes(run: RecoveredRun, *, once: bool) -> tuple[RunRecord | None, str]:
    """The run's next attempt, which all machines have taken up; or ``None``, and why there is none (empty: no
    machines are available now, and ``once``: they are not waited for).

    The machines of the attempt before are given back first. What was rented for an attempt that could not be started is
    given back, after Ctrl-C too. Raises what renting and starting raise.
    """
    run.begin_search()
    record, recipe, clock = run.record, run.recipe, run.clock
    check_recoverable(record, recipe)
    give_back_nodes(run.session, record)
    if run.lease is not None:
        # Without it, another computer may be about to start the run on them.
        _give_back_strays(run)
    rules, attempts = rules_of(recipe), history(record)
    spot = recipe.request is not None and recipe.request.market is Market.SPOT
    spot = spot or record.deadline is not None
    pool = str(Pool(record.instance_type or "", record.zone or ""))
    refused: dict[Market, float] = {}

    def may_be_asked(market: Market) -> bool:
        return market not in refused or may_ask_again(refused[market], clock)

    while True:
        elapsed = elapsed_of(run)
        deadline = deadline_of(record, elapsed, run)
        pools = (pool,) if spot and may_be_asked(Market.SPOT) and not run.spot_is_put_off else ()
        progress = progress_of(record, deadline, elapsed, pools, on_demand=may_be_asked(Market.ON_DEMAND))
        step = decide_next(attempts, replace(rules, deadline=deadline), progress)
        if isinstance(step, GiveUp):
            return None, step.why
        if isinstance(step, NextAttempt):
            market = Market(step.market)
            try:
                with _rented(run, market) as (group, number):
                    return _start(run, group, number), ""
            except HasEndedError as error:
                return None, error.message
            except CapacityError as error:
                run.session.progress.update(f"no machines yet: {error.message}")
                refused[market] = clock.monotonic()
                run.note_rented(error)
                if market is Market.SPOT:
                    # Whether that calls for on-demand, for waiting or for giving up is decided there.
                    continue
        if once:
            return None, ""
        clock.sleep(PAUSE_SECONDS)


def move_nodes(run: RecoveredRun, market: Market, reason: Why) -> RunRecord:
    """The next attempt has been taken up by machines that were ready before the run has left those it was on.

    Raises `HasEndedError` where the run has ended by itself meanwhile, `CapacityError`, and what renting, leaving and
    starting raise.
    """
    with _rented(run, market) as (group, number):
        run.check_wanted()
        left = _left(run, market, reason)
        run.note_left(left)
        give_back_nodes(run.session, left, wait=False)
        return _start(run, group, number)


def _left(run: RecoveredRun, market: Market, reason: Why) -> RunRecord:
    """The attempt has ended on all machines: rank 0, which is asked, tells the others."""
    leave_machine(run, market, reason)
    until = run.clock.monotonic() + END_PATIENCE
    while not (record := ask_nodes(run.session, run.record)).has_ended:
        if run.clock.monotonic() >= until:
            raise Unreachable(
                f"{record.id} was asked to leave its machines and has not ended on all of them",
                hint=f"runctl runs show {record.id}",
            )
        run.clock.sleep(POLL_SECONDS)
    return record


def _give_back_strays(run: RecoveredRun) -> None:
    """What another computer has rented for an attempt of the run that it could not start, and has not given back."""
    own = {intent.token for intent in run.session.intents.unfinished()}
    known = {machine for each in run.record.past for machine in each.machines} | set(run.record.machines)
    strays = [
        each
        for each in run.provider.instances()
        if each.tags.get(ATTEMPT, "").partition("/")[0] == run.record.id
        and not each.state.is_over
        and each.id not in known
        and each.tags.get(INTENT) not in own
    ]
    for token in sorted({each.tags[INTENT] for each in strays if INTENT in each.tags}):
        run.session.progress.note(f"giving back what another computer has rented for {run.record.id}")
        give_back(run.session, run.record.provider, token)


def check_recoverable(record: RunRecord, recipe: Recipe) -> None:
    """Raises `Unsupported` where the machines of a further attempt would not have what the first ones had, and what
    `KeptProjects.check` raises."""
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
    container = recipe.spec.container
    if container is not None and container.build is not None and container.build.secrets:
        raise Unsupported(
            f"the image of {record.id} is built with secrets, which are not kept", hint="start a new run"
        )
    if recipe.spec.tree is not None:
        kept_projects().check(recipe.spec.tree)


@contextmanager
def _rented(run: RecoveredRun, market: Market) -> Iterator[tuple[NodeGroup, int]]:
    """Machines that are ready, and the number of the attempt for which they are rented; they are given back where the
    block fails. Raises `HasEndedError` for a budget that is used up, and what `NewNodes.rent` raises."""
    record, request, least_most = run.record, run.recipe.request, run.recipe.nodes
    if request is None or least_most is None or record.nodes is None:
        raise Unsupported(
            f"what the machines of {record.id} were rented by is not known", hint="start a new run"
        )
    run.check_wanted()
    number = run.next_attempt
    wanted = NodesWanted(least_most[0], least_most[1], Engine(record.nodes.engine))
    machine = replace(next_request(request, record, number, market, None), volumes=request.volumes)
    if machine.budget is not None and machine.budget <= 0:
        raise HasEndedError(f"has used up its budget of {usd(request.budget or machine.budget)}")
    with new_nodes(run.session, record.provider, machine, wanted) as new:
        group = new.rent()
        try:
            yield group, number
        except BaseException as error:
            told = new.after_failure(error)
            if told is error:
                raise
            raise told from error
        for node in group.nodes:
            run.session.intents.close(IntentState.DONE, node.instance.id, group.token)


def _start(run: RecoveredRun, group: NodeGroup, number: int) -> RunRecord:
    before, recipe, session = run.record, run.recipe, run.session
    if before.nodes is None:
        raise ValueError(f"{before.id} has one machine")
    spec = replace(next_spec(recipe, before, ends_itself=True), attempt=number)
    known = recipe.spec.node
    told = node_specs(
        [node.address for node in group.nodes],
        before.nodes.engine,
        before.id,
        number,
        least=before.nodes.least,
        options=known.options if known is not None else (),
        secret=new_secret(),
    )
    specs = [
        with_own_volumes(spec_on(spec, each), node.volumes)
        for each, node in zip(told, group.nodes, strict=True)
    ]
    machines = [reach(session, node.instance, recipe.transport) for node in group.nodes]
    session.progress.step(f"sending the project to {counted(len(machines), 'machine')}")
    send_kept(session, machines, spec, kept_projects())
    nodes = KnownNodes(
        before.nodes.engine, group.token, before.nodes.least, tuple(known_node(node) for node in group.nodes)
    )
    with ExitStack() as stack:
        for machine in machines:
            stack.enter_context(logged_in(session, machine, spec))
        with _store_answers():
            if run.at is not None and run.lease is not None:
                # Before the attempt has its number: whoever finds that finds all of its machines.
                put_nodes(run.at, number, nodes)
            run.begin(specs[0], is_new=True)
            following = run.written_down(specs[0], group.head.instance, nodes)
            try:
                run.tell(specs[0], group.head.instance)
            except BaseException:
                # Its machines are given back: whoever finds them gone would take it for lost on them.
                run.take_back(following, recipe)
                raise
        agents = [each.agent for each in machines]
        return agents_start(session, following, list(zip(agents, specs, strict=True)))


@contextmanager
def _store_answers() -> Iterator[None]:
    """For what only asks the run's store. Raises `StoreAway` where it may answer a moment later."""
    try:
        yield
    except RunctlError as error:
        if not passes_by_itself(error):
            raise
        raise StoreAway(error.message, hint=error.hint, code=error.code) from error


def with_own_volumes(spec: RunSpec, volumes: Mapping[str, VolumeId]) -> RunSpec:
    """The spec for a machine that has these in the place of the run's own volumes, by their ids. Pure."""
    mounts = tuple(
        replace(each, volume_id=str(volumes.get(each.volume_id or "", each.volume_id or "")) or None)
        for each in spec.mounts
    )
    return replace(spec, mounts=mounts)
