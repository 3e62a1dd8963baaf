"""``sandbox interrupt | rebalance | kill | capacity | quota | store | replay | faults``: what is to go wrong."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.values import DURATION, WholeNumber, trace_means_option
from runctl.cli.sandbox import running_sandbox
from runctl.core.clock import rfc3339
from runctl.core.errors import UsageError
from runctl.core.text import counted
from runctl.render.tables import details
from runctl.sandbox.fault_client import Faults
from runctl.sandbox.store_trouble import StoreTrouble

if TYPE_CHECKING:
    from runctl.simulation.traces import Means

MARKETS = ("spot", "on-demand")
QUOTA_KINDS = ("standard", "g", "p")


class Vcpus(click.ParamType["int | None"]):
    """A number, or ``restore``, which is ``None``."""

    name = "vcpus"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        """How many vCPUs."""
        if isinstance(value, int) or value == "restore":
            return None if value == "restore" else int(value)
        if value.isascii() and value.isdigit():
            return int(value)
        return self.fail(f"{value!r} is not a number of vCPUs or 'restore'", param, ctx)


class StoreState(click.ParamType["StoreTrouble"]):
    """KiB a second, ``away``, or ``restore``."""

    name = "state"

    def convert(
        self, value: str | StoreTrouble, param: click.Parameter | None, ctx: click.Context | None
    ) -> StoreTrouble:
        """How S3 is to do."""
        if isinstance(value, StoreTrouble):
            return value
        if value in {"away", "restore"}:
            return StoreTrouble(away=value == "away")
        if value.isascii() and value.isdigit() and int(value):
            return StoreTrouble(bytes_per_second=float(int(value) << 10))
        return self.fail(f"{value!r} is not a number of KiB a second, 'away' or 'restore'", param, ctx)


ZONE_LETTERS = "abcdef"


class Capacity(click.ParamType["int | None"]):
    """``none``, a number, or ``restore``, which is ``None``: no limit."""

    name = "capacity"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        """How many instances there can be."""
        if isinstance(value, int):
            return value
        if value == "none":
            return 0
        if value == "restore":
            return None
        if value.isascii() and value.isdigit():
            return int(value)
        return self.fail(f"{value!r} is not a number of instances, 'none' or 'restore'", param, ctx)


@click.command(cls=Command)
@click.argument("instances", nargs=-1, required=True, metavar="INSTANCE...")
@click.option(
    "--notice",
    type=DURATION,
    default="2m",
    show_default=True,
    help="How long after the notice the instance is taken back; EC2 gives two minutes.",
)
@click.pass_obj
def interrupt(cli: Cli, instances: tuple[str, ...], notice: timedelta) -> None:
    """Give spot instances their notice, then take them back.

    The instance metadata says so at once, as on EC2. A second notice does not move the end.
    """
    faults, ends = _faults(), []
    for instance in instances:
        instance_id, end = faults.interrupt(instance, notice.total_seconds())
        ends.append({"instance_id": instance_id, "ends_at": rfc3339(end)})
    cli.emit(
        ends,
        text=lambda: "\n".join(f"{item['instance_id']} is taken back at {item['ends_at']}" for item in ends),
        ids=[item["instance_id"] for item in ends],
    )


@click.command(cls=Command)
@click.argument("instances", nargs=-1, required=True, metavar="INSTANCE...")
@click.pass_obj
def rebalance(cli: Cli, instances: tuple[str, ...]) -> None:
    """Give spot instances a rebalance recommendation.

    It says that an interruption has become likely. The instances stay.
    """
    faults = _faults()
    ids = [faults.rebalance(instance) for instance in instances]
    cli.emit(
        ids, text=lambda: "\n".join(f"{instance_id} has the recommendation" for instance_id in ids), ids=ids
    )


@click.command(cls=Command)
@click.argument("instances", nargs=-1, required=True, metavar="INSTANCE...")
@click.pass_obj
def kill(cli: Cli, instances: tuple[str, ...]) -> None:
    """Kill instances without notice.

    Their host fails: nothing on them can save anything. EC2 says that they are terminated.
    """
    faults = _faults()
    ids = [faults.kill_instance(instance) for instance in instances]
    cli.emit(ids, text=lambda: "\n".join(f"{instance_id} is lost" for instance_id in ids), ids=ids)


@click.command(cls=Command)
@click.argument("where", metavar="ZONE[/TYPE]|all")
@click.argument("count", type=Capacity(), metavar="N|none|restore")
@click.option("--market", type=click.Choice(MARKETS), help="Of this market only.  [default: both]")
@click.pass_obj
def capacity(cli: Cli, where: str, count: int | None, market: str | None) -> None:
    """Set how many instances there can be in a zone.

    N is the most that there can be at once, `none` lets nobody launch there, `restore` removes the limit. Running
    instances stay. Launches above it are refused as EC2 refuses them: InsufficientInstanceCapacity.

    \b
    runctl sandbox capacity us-east-1a none --market spot
    runctl sandbox capacity us-east-1b/g5.xlarge 1
    runctl sandbox capacity all restore
    """
    zone, _, kind = where.partition("/")
    faults = _faults()
    if where == "all" and count is None and market is None:
        for limit in faults.current()["capacity"]:
            faults.capacity(
                None, zone=limit["zone"], instance_type=limit["instance_type"], market=limit["market"]
            )
    else:
        faults.capacity(
            count, zone=None if zone == "all" else zone, instance_type=kind or None, market=market
        )
    _emit(cli, faults)


@click.command(cls=Command)
@click.argument("kind", type=click.Choice(QUOTA_KINDS), metavar="standard|g|p")
@click.argument("vcpus", type=Vcpus(), metavar="N|restore")
@click.option("--market", type=click.Choice(MARKETS), help="Of this market only.  [default: both]")
@click.pass_obj
def quota(cli: Cli, kind: str, vcpus: int | None, market: str | None) -> None:
    """Set how many vCPUs the account may run at once.

    Kinds are EC2's: g and p have NVIDIA GPUs, standard has no accelerator. Launches above it are refused as
    EC2 refuses them: VcpuLimitExceeded, and for spot MaxSpotInstanceCountExceeded.

    \b
    runctl sandbox quota g 0 --market spot
    runctl sandbox quota standard restore
    """
    faults = _faults()
    faults.quota(kind, vcpus, market=market)
    _emit(cli, faults)


@click.command(cls=Command)
@click.argument("state", type=StoreState(), metavar="KIB|away|restore")
@click.pass_obj
def store(cli: Cli, state: StoreTrouble) -> None:
    """Set how S3 behaves: slow, or away.

    KIB is its throughput in KiB/s, for all clients together. While it is away it answers every request with
    ServiceUnavailable.

    \b
    runctl sandbox store 200
    runctl sandbox store away
    runctl sandbox store restore
    """
    faults = _faults()
    faults.store(away=state.away, bytes_per_second=state.bytes_per_second)
    _emit(cli, faults)


@click.command(cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="TRACE...", type=click.Path(path_type=Path))
@click.option(
    "--pool",
    "pools",
    multiple=True,
    metavar="ZONE[/TYPE]",
    help="Where each trace is played, in turn.  [default: the region's zones from a on]",
)
@click.option(
    "--speed",
    type=WholeNumber(1),
    default="1000",
    show_default=True,
    help="How many times faster than recorded.",
)
@trace_means_option
@click.option(
    "--notice",
    type=DURATION,
    default="2m",
    show_default=True,
    help="How long after their notice instances are taken back, by your clock.",
)
@click.pass_obj
def replay(
    cli: Cli,
    files: tuple[Path, ...],
    pools: tuple[str, ...],
    speed: int,
    trace_means: Means,
    notice: timedelta,
) -> None:
    """Play traces of spot capacity: launches are refused, instances interrupted.

    While a pool of a trace has no capacity, spot instances are refused there; those that run get their notice when it
    is lost. It ends with the traces, or with Ctrl-C, and removes its limits.

    \b
    runctl sandbox replay zone-a.json zone-b.json --speed 5000 --notice 10s
    """
    from runctl.simulation.traces import changes, read_traces

    traces = read_traces(files, trace_means)
    found = _faults()
    region = running_sandbox().region
    zones_and_types = pools or tuple(f"{region}{letter}" for letter in ZONE_LETTERS[: len(traces)])
    if len(zones_and_types) != len(traces):
        raise UsageError(
            f"{counted(len(traces), 'trace')} and {counted(len(zones_and_types), '--pool')}",
            hint="give one for each",
        )
    where = [(zone, kind or None) for zone, _, kind in (each.partition("/") for each in zones_and_types)]
    for zone, kind in where:
        found.capacity(None, zone=zone, instance_type=kind, market="spot")
    began = time.monotonic()
    try:
        for change in changes(traces):
            time.sleep(max(0.0, began + change.at / speed - time.monotonic()))
            zone, kind = where[change.pool]
            found.capacity(None if change.available else 0, zone=zone, instance_type=kind, market="spot")
            ended = (
                []
                if change.available
                else found.interrupt_pool(notice.total_seconds(), zone=zone, instance_type=kind)
            )
            row = {
                "hours": round(change.at / 3600, 3),
                "pool": zones_and_types[change.pool],
                "available": change.available,
                "interrupted": ended,
            }
            cli.write(json.dumps(row) if cli.settings.json else _replayed(row))
            sys.stdout.flush()
    finally:
        for zone, kind in where:
            found.capacity(None, zone=zone, instance_type=kind, market="spot")


def _replayed(row: Mapping[str, Any]) -> str:
    what = "has capacity" if row["available"] else "has no capacity"
    ended = f"; {', '.join(row['interrupted'])} interrupted" if row["interrupted"] else ""
    return f"{row['hours']:9.2f} h  {row['pool']} {what}{ended}"


@click.command(cls=Command)
@click.option("--clear", is_flag=True, help="Clear them all. Notices that were given stay given.")
@click.pass_obj
def faults(cli: Cli, clear: bool) -> None:
    """Show the faults that are set, or clear them."""
    found = _faults()
    if clear:
        found.clear()
    _emit(cli, found)


def _faults() -> Faults:
    return Faults(running_sandbox())


def _emit(cli: Cli, faults: Faults) -> None:
    current = faults.current()
    cli.emit(current, text=lambda: _text(current))


def _text(current: dict[str, Any]) -> str:
    rows: dict[str, str] = {}
    for limit in current["capacity"]:
        parts = (limit["zone"] or "all zones", limit["instance_type"], limit["market"])
        rows[f"capacity of {' '.join(part for part in parts if part)}"] = str(limit["count"] or "none")
    for quota in current["quotas"]:
        rows[f"quota of {quota['kind']} {quota['market']}"] = counted(quota["vcpus"], "vCPU")
    for notice in current["notices"]:
        rows[notice["instance_id"]] = f"is taken back at {notice['time']}"
    for instance_id in current["rebalance"]:
        rows.setdefault(instance_id, "has a rebalance recommendation")
    for action, times in current["throttled"].items():
        rows[action] = f"is throttled {times} times"
    for action in current["denied"]:
        rows[action] = "is denied"
    for instance_id in current["ssm_offline"]:
        rows[f"Systems Manager's agent on {instance_id}"] = "does not answer"
    if (store := current["store"]) is not None:
        rows["S3"] = (
            "is away" if store["away"] else f"moves {store['bytes_per_second'] / 1024:.0f} KiB a second"
        )
    for name, value in current["other"].items():
        rows[name.replace("_", " ")] = str(value)
    return details(rows) if rows else "no faults are set"
