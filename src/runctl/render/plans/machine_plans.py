"""Plans as text for people: what a command is about to do, and what it will cost."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

from runctl.core.machine_models import Market
from runctl.core.money import hourly, monthly, usd
from runctl.core.text import listed, time_span
from runctl.machines.expected_costs import expected_costs, expected_nodes_costs
from runctl.machines.fallback import price_difference
from runctl.machines.node_volumes import NodeVolume, Sharing
from runctl.machines.nodes import Engine, NodeGroupPlan
from runctl.providers.abilities.groups import GroupNetwork, GroupPlan
from runctl.providers.abilities.nodes import NodesPlan
from runctl.providers.capacity import FallbackMode
from runctl.providers.instance_plans import CreatePlan
from runctl.providers.interface import Rate
from runctl.render.json import to_builtins

MOST_TYPES_NAMED = 4


def create_plan_text(
    plan: CreatePlan, ends: str = "", estimate: timedelta | None = None, count: str = "one instance"
) -> str:
    """What, market, zone and why, image, disks, prices and their source, what else comes into being.

    ``ends``: when it does, where not only the time to live says so. ``estimate``: how long it is expected to run.
    """
    fields: list[tuple[str, str]] = [
        ("machine", f"{types_text(plan)}, {plan.market.value}, {plan.region}"),
        ("zone", because(plan.zone or "left to the provider", plan.zone_reason)),
        *(("pools", text) for text in _pools(plan)),
        ("image", f"{because(plan.image, plan.image_reason)}, login user {plan.login_user}"),
    ]
    for mount in plan.volumes:
        fields.append(
            (
                "volume",
                f"{mount.volume} at {mount.mount_point}{_at_price(plan.volume_prices.get(mount.volume))}",
            )
        )
    if plan.data_volume_size_gib is not None:
        size = f"{plan.data_volume_size_gib} GiB at {plan.data_mount_point}"
        fields.append(
            ("data disk", f"{size}, ends with the instance{_at_price(plan.volume_prices.get('data'))}")
        )
    root = f"{plan.root_volume_size_gib} GiB" if plan.root_volume_size_gib else "the image's size"
    fields.append(("root disk", f"{root}, ends with the instance{_at_price(plan.volume_prices.get('root'))}"))
    for name, text in (
        ("key pair", plan.key_name),
        ("groups", ", ".join(plan.security_groups)),
        ("profile", plan.instance_profile),
        ("subnet", plan.subnet),
        ("project", plan.project),
        ("name", plan.name),
    ):
        if text:
            fields.append((name, text))
    fields += [("price", text) for text in _hourly(plan)]
    fields += _in_all(plan, estimate)
    fields += [("without spot", text) for text in _fallback(plan)]
    limits = limits_text(plan)
    if ends:
        fields.append(("ends", f"{ends}; in any case {limits}" if limits else ends))
    else:
        never = "when it is told to; --ttl and --budget set limits"
        fields.append(("ends", limits or never))
    if plan.unused_for:
        fields.append(
            ("unused", f"ends by itself when no run was started on it within {time_span(plan.unused_for)}")
        )
    fields += [("also makes", text) for text in plan.will_also_create]
    each = "" if count == "one instance" else ", each"
    return block(f"create {count} on {plan.provider}{each}:", fields)


def create_plan_document(plan: CreatePlan, estimate: timedelta | None = None) -> dict[str, Any]:
    """The plan for programs, with what it comes to."""
    return {**plan_document(plan), "costs": to_builtins(expected_costs(plan, estimate))}


def _in_all(plan: CreatePlan, estimate: timedelta | None) -> list[tuple[str, str]]:
    """What the machine costs with all that comes with it, what that comes to, and what keeps costing."""
    costs = expected_costs(plan, estimate)
    parts = []
    if costs.disks_per_month:
        parts.append(f"its disks ({monthly(costs.disks_per_month)})")
    if costs.volumes_per_month:
        parts.append(f"its volumes ({monthly(costs.volumes_per_month)})")
    if costs.address_per_hour:
        parts.append(f"a public address ({hourly(costs.address_per_hour)})")
    fields = []
    if costs.per_hour is not None and parts:
        fields.append(("in all", f"{hourly(costs.per_hour)} with {listed(parts)}"))
    if costs.expected is not None:
        amount, time = usd(costs.expected.usd), time_span(costs.expected.duration)
        said = (
            f"at most {amount} in the {time} that it runs"
            if costs.expected.at_most
            else f"{amount} for {time}"
        )
        fields.append(("expected", said))
    if costs.stopped_per_month:
        fields.append(("stopped", f"{monthly(costs.stopped_per_month)} while it is stopped"))
    kept = [mount.volume for mount in plan.volumes]
    if kept and costs.volumes_per_month:
        cost = f"{listed(kept)} {'keeps' if len(kept) == 1 else 'keep'} costing {monthly(costs.volumes_per_month)}"
        fields.append(("afterwards", f"{cost} until deleted; nothing else does"))
    else:
        fields.append(("afterwards", "nothing of the machine: its disks end with it"))
    return fields


def limits_text(plan: CreatePlan) -> str:
    """What ends the machine by itself; empty where nothing does."""
    parts = [f"by itself after {time_span(plan.ttl)}"] if plan.ttl else []
    if plan.budget is not None:
        paid = (
            f"after {time_span(plan.budget_time)}, which {usd(plan.budget)} pay for"
            if plan.budget_time
            else ""
        )
        parts.append(
            f"by itself {paid}" if paid else f"never by its budget of {usd(plan.budget)}: it costs nothing"
        )
    if plan.idle_timeout is not None:
        parts.append(f"by itself when nothing has used it for {time_span(plan.idle_timeout)}")
    return "; ".join(parts)


def group_plan_text(plan: GroupPlan, attempts: int, engine: Engine | None = None) -> str:
    """What the group rents, by which rights, when it ends, and what it cannot do."""
    machine = plan.machine
    other = "on-demand" if machine.market is Market.SPOT else "spot"
    fields = [
        (
            "group",
            f"{plan.name} (free), rents another machine when one is taken back or fails: {attempts} attempts at most",
        ),
        *_several(plan, engine),
        (
            "ends",
            "with the run: its machine deletes group and template, and ends with them"
            if plan.count == 1
            else "with the run: rank 0's machine deletes group and template, and all machines end with them",
        ),
        *([("cannot", f"change to {other}, or ask anybody")] if plan.on_demand_from is None else []),
        (
            "store",
            f"{plan.take_up.address}: project, program, checkpoints and log; the next machine knows no more",
        ),
        *([("role", f"{plan.role}, made for this run; it may:")] if plan.role else []),
        *(("", f"- {right}") for right in plan.rights),
    ]
    if plan.role:
        what = "it" if plan.network is None else "it, and the network,"
        fields.append(
            ("", f"the next runctl command that sees the run's end removes {what} (free until then)")
        )
    if plan.bid is not None:
        fields.append(
            (
                "bid",
                f"{hourly(plan.bid)}: while spot costs more there is no machine, and one that runs is taken back",
            )
        )
    if plan.ttl is not None:
        fields.append(
            ("ttl", f"after {time_span(plan.ttl)} the group has no machine any more, whatever the run does")
        )
    return block("leave the run to a group:", fields)


def _several(plan: GroupPlan, engine: Engine | None) -> list[tuple[str, str]]:
    """What a group of several machines is besides, and what all of them cost."""
    own = plan.network
    if own is None:
        return []
    zone = plan.machine.zone or "one zone"
    fields = [
        (
            "machines",
            f"{plan.count}, in {zone} ({plan.machine.zone_reason}); those that are there wait for the others",
        ),
        *([("engine", engine.value)] if engine is not None else []),
        ("reached", f"by each other, by their private addresses; {_entrances(own, plan.machine)}"),
        ("placement", f"{'cluster' if own.placement else 'none'} ({own.placement_reason})"),
    ]
    per_hour = expected_costs(plan.machine).per_hour
    if per_hour is not None:
        fields.append(("all of it", f"{usd(per_hour * plan.count)} an hour with disks and addresses"))
    return fields


def nodes_plan_text(plan: NodeGroupPlan, engine: Engine | None, estimate: timedelta | None = None) -> str:
    """How many, who reaches them, how close they are, how their data comes to each, and what all of it costs."""
    nodes, costs = plan.nodes, expected_nodes_costs(plan, estimate)
    what = (
        f"all {nodes.least}, or none"
        if nodes.least == nodes.most
        else f"as many as are available, at least {nodes.least}"
    )
    zone = nodes.machine.zone or "one zone"
    fields = [
        ("machines", f"{nodes_count(plan)} of one type, in {zone}: {what}"),
        *([("engine", engine.value)] if engine is not None else []),
        ("reached", f"by each other, by their private addresses; {_entrances(nodes, nodes.machine)}"),
        ("placement", f"{'cluster' if nodes.placement else 'none'} ({nodes.placement_reason})"),
    ]
    if plan.scores:
        best = sorted(plan.scores.items(), key=lambda item: (-item[1], item[0]))
        scores = ", ".join(f"{zone} {score}" for zone, score in best)
        fields.append(("chances", f"of {nodes.most} spot machines in one zone, out of 10: {scores}"))
    for each in plan.volumes:
        name = each.volume.name or each.volume.id
        fields.append(("data", f"{name} at {each.mount_point} of each: {_sharing(each)} ({each.reason})"))
    if costs.per_hour is not None:
        copies = f", {usd(costs.copies_per_hour)} of it for copies" if costs.copies_per_hour else ""
        at_most = "" if nodes.least == nodes.most else "at most "
        fields.append(("all of it", f"{at_most}{hourly(costs.per_hour)} with disks and addresses{copies}"))
    if costs.expected is not None:
        at_most = "at most " if costs.expected.at_most or nodes.least != nodes.most else ""
        fields.append(
            ("expected", f"{at_most}{usd(costs.expected.usd)} for {time_span(costs.expected.duration)}")
        )
    return block("run on all of them:", fields)


def nodes_count(plan: NodeGroupPlan) -> str:
    """``4`` or ``2 to 8``."""
    nodes = plan.nodes
    return str(nodes.most) if nodes.least == nodes.most else f"{nodes.least} to {nodes.most}"


def _entrances(plan: NodesPlan | GroupNetwork, machine: CreatePlan) -> str:
    if plan.entrances:
        return f"SSH is let in from {listed(plan.entrances)}, as by the default group"
    if machine.security_groups:
        return f"and by whom {listed(machine.security_groups)} lets in"
    return "nothing else is let in"


def _sharing(volume: NodeVolume) -> str:
    if volume.sharing is Sharing.SHARED:
        return "all machines have it, read-only"
    if volume.sharing is Sharing.ALONE:
        return "the machine has it"
    price = f", {monthly(volume.copy_price.usd)} each" if volume.copy_price is not None else ""
    if volume.sharing is Sharing.EMPTY:
        return (
            f"rank 0 has the volume itself, the others an empty one each{price}, deleted with their machines"
        )
    count = f"{volume.copies} {'copy' if volume.copies == 1 else 'copies'}"
    slow = "" if volume.copies == 1 else ", made one after the other before anything is rented"
    fee = f"; copying is billed {volume.copy_fee}" if volume.copy_fee else ""
    return f"rank 0 has the volume itself, the others {count}{price}{slow}, deleted with their machines{fee}"


def types_text(plan: CreatePlan) -> str:
    """The instance types that will do: ``g5.xlarge``, ``g5.xlarge or g4dn.xlarge``, or how many there are."""
    types = list(dict.fromkeys(offer.pool.instance_type for offer in plan.offers)) or [plan.instance_type]
    if len(types) <= MOST_TYPES_NAMED:
        return " or ".join([", ".join(types[:-1]), types[-1]] if types[1:] else types)
    return f"{', '.join(types[:MOST_TYPES_NAMED])} or one of {len(types) - MOST_TYPES_NAMED} more types"


def _pools(plan: CreatePlan) -> list[str]:
    """From how many pools the machine may come, and why not from others; nothing where EC2 has all of one type."""
    types = {offer.pool.instance_type for offer in plan.offers}
    if not plan.left_out and (len(plan.offers) < 2 or (len(types) == 1 and plan.market is Market.ON_DEMAND)):
        return []
    if not plan.left_out:
        return [f"{len(plan.offers)}, each a type in a zone"]
    reasons = Counter(item.reason for item in plan.left_out)
    left_out = "; ".join(f"{count} left out: {reason}" for reason, count in reasons.items())
    return [f"{len(plan.offers)} of {len(plan.offers) + len(plan.left_out)} ({left_out})"]


def _fallback(plan: CreatePlan) -> list[str]:
    """What happens where no spot machine can be had, with the price."""
    mode, after = plan.fallback.mode, plan.fallback.after
    if plan.market is not Market.SPOT or mode is FallbackMode.NONE:
        return []
    does = "asks whether to rent" if mode is FallbackMode.ASK else "rents"
    when = f"after {time_span(after)} without capacity, it " if after else "it "
    return [f"{when}{does} {price_difference(plan)}"]


def plan_document(plan: Any) -> dict[str, Any]:
    """The plan for programs; the token that would carry it out is left out."""
    document: dict[str, Any] = _without_tokens(to_builtins(plan))
    return document


def _without_tokens(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_tokens(entry)
            for key, entry in value.items()
            if key not in {"client_token", "token"}
        }
    return [_without_tokens(entry) for entry in value] if isinstance(value, list) else value


def _hourly(plan: CreatePlan) -> list[str]:
    if plan.price is None:
        return ["not known"]
    lines = [f"{hourly(plan.price.usd)} ({plan.price.source})"]
    other = plan.on_demand_price
    if plan.market is Market.SPOT and other is not None and other.usd > 0:
        saved = round(100 * (1 - plan.price.usd / other.usd))
        compared = f", {saved} % less" if saved > 0 else ""
        lines[0] += f"{compared}: on demand {usd(other.usd)}" if compared else f": on demand {usd(other.usd)}"
    return lines


def _at_price(price: Rate | None) -> str:
    return f", {monthly(price.usd)} ({price.source})" if price else ""


def because(what: str, reason: str) -> str:
    """What, and in brackets why."""
    return f"{what} ({reason})" if reason else what


def block(title: str, fields: list[tuple[str, str]]) -> str:
    """A title, and below it a line a field."""
    width = max(len(name) for name, _ in fields)
    return "\n".join([title, *(f"  {name.ljust(width)}  {text}" for name, text in fields)])
