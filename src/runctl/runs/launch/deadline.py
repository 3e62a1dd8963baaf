"""What a deadline needs of a launch: what earlier runs have shown, the prices and lives of its machines, and machines
on demand that may be rented."""

from __future__ import annotations

from collections.abc import Callable

from runctl.agent.deadline import Policy
from runctl.agent.deadline_spec import DeadlineSpec
from runctl.core.clock import SystemClock
from runctl.core.errors import CapacityError, Unsupported, UsageError, add_fact
from runctl.core.machine_models import Market
from runctl.machines.nodes import NewNodes
from runctl.machines.renting import NewMachine
from runctl.machines.session import Session
from runctl.providers.capacity import Pool
from runctl.providers.instance_plans import CreatePlan, InstanceRequest
from runctl.providers.interface import Provider, require
from runctl.runs.deadlines.plan import DeadlineRequest, check_deadline, first_spec, on_demand_request, settled
from runctl.runs.deadlines.standing import restarts
from runctl.runs.records.run_record import as_known
from runctl.runs.records.store import run_store
from runctl.runs.train.project_plan import TrainRequest

RUNS_MEASURED = 10
"""How many of the last runs say how long a restart takes."""


def deadline_spec(session: Session, provider: str, wanted: DeadlineRequest | None) -> DeadlineSpec | None:
    """What is wanted, with what earlier runs on the provider's machines have shown of restarts.

    Raises `UsageError` for what cannot be kept.
    """
    if wanted is None:
        return None
    records = [
        record for record in run_store(session).list(limit=RUNS_MEASURED) if record.provider == provider
    ]
    spec = first_spec(wanted, [each for record in records for each in restarts((as_known(record),))])
    check_deadline(spec, SystemClock().now())
    return spec


def settled_deadline(
    session: Session,
    provider: str,
    spec: DeadlineSpec,
    plan: CreatePlan,
    check_on_demand: Callable[[], object],
    count: int = 1,
) -> DeadlineSpec:
    """With the prices and the lifetimes of the machine's pools: of ``count`` machines one is lost as many times sooner.

    Raises what ``check_on_demand`` raises where the account may not have the on-demand machines that the deadline may
    need.
    """
    if plan.market is Market.SPOT and spec.policy != Policy.SPOT.value:
        try:
            check_on_demand()
        except CapacityError as error:
            add_fact(
                error,
                "and the deadline may need an on-demand machine",
                "--policy spot does not look at the deadline",
            )
            raise
    record, now = session.pool_record(provider), SystemClock().now()
    pools = [offer.pool for offer in plan.offers] or [Pool(plan.instance_type, plan.zone or "")]
    lives = [record.lifetime(pool.instance_type, pool.zone, now).mean for pool in pools]
    return settled(spec, plan, min(lives) / count)


def check_on_demand(session: Session, provider: str, new: NewMachine | NewNodes) -> None:
    """Raises what `Renting.plan` raises where the account may not have the same on demand."""
    if isinstance(new, NewNodes):
        new.check(Market.ON_DEMAND)
    else:
        session.rentals(provider).plan(on_demand_request(new.request))


def check_nodes(provider: Provider, train: TrainRequest, machine: InstanceRequest, *, moves: bool) -> None:
    """A run may be on several machines; ``moves``: and be moved to others in time. Raises `UsageError`,
    `Unsupported`."""
    require(provider.nodes)
    if not moves:
        return
    if train.keeping.store() is None:
        raise UsageError(
            "--deadline on several machines needs an object store: the machines that the run moves to go on from there",
            hint="--checkpoint-s3 s3://bucket/prefix",
        )
    if machine.volumes:
        raise Unsupported(
            "--deadline on several machines has the next ones ready before the run leaves those it is on, and its"
            " volumes are on these",
            hint="leave out the volumes, or the deadline",
        )
