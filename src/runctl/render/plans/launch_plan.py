"""A `LaunchPlan` for a person and for programs: the machine with its price, the run, and what becomes of both."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from runctl.core.money import usd
from runctl.core.text import listed
from runctl.costs.traffic import DataOut
from runctl.machines.expected_costs import expected_nodes_costs
from runctl.machines.nodes import Engine, NodeGroupPlan
from runctl.render.deadlines import deadline_lines
from runctl.render.json import to_builtins
from runctl.render.plans.machine_plans import (
    create_plan_document,
    create_plan_text,
    group_plan_text,
    nodes_count,
    nodes_plan_text,
)
from runctl.render.plans.run_plan import run_plan_document, run_plan_lines
from runctl.render.run_table import machine_end_text
from runctl.render.traffic import data_out_text
from runctl.runs.launch.launch_plan import LaunchPlan, ResultsPlan, Safety, Storing
from runctl.runs.records.agent_models import machine_after_run


def launch_plan_text(plan: LaunchPlan) -> str:
    """The machine as ``create`` shows it, with its end; the run as ``train`` does, with its results."""
    results = f"{'results':<9}{_results(plan.results)}"
    if plan.machine is None:
        return "\n".join([*run_plan_lines(plan.run), results])
    deadline = deadline_lines(plan.deadline) if plan.deadline is not None else []
    run = run_plan_lines(plan.run, price=False)
    # With a deadline the estimate is about spot and on-demand machines together; its own lines say that.
    estimate = _estimate(plan) if plan.deadline is None else None
    if plan.group is not None:
        attempts = plan.run.recovery.rules.max_attempts
        count = "one instance" if plan.group.count == 1 else f"{plan.group.count} instances"
        machine = create_plan_text(plan.machine, "with its group", estimate, count)
        machine += "\n" + group_plan_text(plan.group, attempts, plan.engine)
        return "\n".join([machine, *run, *deadline, results, *_storing(plan.storing), *_home(plan.data_out)])
    end, price = plan.run.spec.machine_end, plan.machine.price
    hourly = price.usd if price is not None else None
    ends = machine_end_text(end, hourly, plan.machine.longest) if end is not None else ""
    if plan.nodes is not None:
        count = f"{nodes_count(plan.nodes)} instances"
        machine = create_plan_text(plan.machine, ends, None, count)
        machine += "\n" + nodes_plan_text(plan.nodes, plan.engine, estimate)
    else:
        machine = create_plan_text(plan.machine, ends, estimate)
    return "\n".join([machine, *run, *deadline, results, *_storing(plan.storing), *_home(plan.data_out)])


def _estimate(plan: LaunchPlan) -> timedelta | None:
    """What the run is expected to take, of what its limit leaves it."""
    limit = plan.run.spec.timeout_seconds
    if plan.estimate is None or limit is None:
        return plan.estimate
    return min(plan.estimate, timedelta(seconds=limit))


def launch_plan_document(plan: LaunchPlan) -> dict[str, Any]:
    """The same for programs. Of a machine that is not rented yet ``run.instance`` is null; ``machine`` describes it."""
    run, end = run_plan_document(plan.run), plan.run.spec.machine_end
    if plan.machine is not None:
        run["instance"] = None
    document: dict[str, Any] = {
        "machine": create_plan_document(plan.machine, _estimate(plan)) if plan.machine is not None else None,
        "run": run,
        "results": to_builtins(plan.results),
        "machine_end": to_builtins(machine_after_run(end)) if end is not None else None,
        "deadline": to_builtins(plan.deadline) if plan.deadline is not None else None,
        "storing": to_builtins(plan.storing),
        "data_out": to_builtins(plan.data_out),
    }
    if plan.nodes is not None:
        document["nodes"] = nodes_plan_document(plan.nodes, plan.engine, _estimate(plan))
    if plan.group is not None:
        group = plan.group
        document["group"] = {
            "name": group.name,
            "types": group.types,
            "bid": group.bid,
            "role": group.role,
            "rights": group.rights,
            "ttl_seconds": group.ttl.total_seconds() if group.ttl is not None else None,
            "store": group.take_up.address,
            "machines": group.count,
            "engine": plan.engine.value if plan.engine is not None else None,
            "network": to_builtins(group.network),
        }
    return document


def nodes_plan_document(
    plan: NodeGroupPlan, engine: Engine | None, estimate: timedelta | None
) -> dict[str, Any]:
    """Several machines for programs; each is as ``machine`` says."""
    nodes = plan.nodes
    return {
        "least": nodes.least,
        "most": nodes.most,
        "engine": engine.value if engine is not None else None,
        "network": nodes.network,
        "entrances": list(nodes.entrances),
        "placement": nodes.placement,
        "placement_reason": nodes.placement_reason,
        "scores": dict(plan.scores),
        "volumes": [
            {
                "volume_id": each.volume.id,
                "mount_point": each.mount_point,
                "sharing": each.sharing.value,
                "reason": each.reason,
                "copies": each.copies,
                "copy_price": to_builtins(each.copy_price),
                "copy_fee": each.copy_fee,
            }
            for each in plan.volumes
        ],
        "costs": to_builtins(expected_nodes_costs(plan, estimate)),
    }


def _storing(storing: Storing | None) -> list[str]:
    if storing is None:
        return []
    where, prices = listed(storing.addresses), storing.prices
    gib, writes = usd(prices.gib_month.first.usd), usd(prices.writes.usd)
    cost = f"{gib} a GiB-month for what it puts into {where}, until you delete it"
    return [f"{'stores':<9}{cost}; {writes} for 1,000 objects written ({prices.gib_month.source})"]


def _home(out: DataOut | None) -> list[str]:
    return [] if out is None or not out.usd_per_gib else [f"{'data out':<9}{data_out_text(out)}"]


def _results(results: ResultsPlan) -> str:
    match results.safety:
        case Safety.FOLDER:
            return f"output, checkpoints and log are brought to {results.where}"
        case Safety.STORE:
            return f"output, checkpoints and log are put into {results.where} by the machine"
        case Safety.VOLUME:
            return f"output, checkpoints and log stay on {results.where}"
        case Safety.MACHINE:
            return "output, checkpoints and log stay on the machine"
        case Safety.NOWHERE:
            return "output and checkpoints end with the machine (--no-results)"
