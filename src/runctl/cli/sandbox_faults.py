"""``sandbox interrupt | rebalance | kill | capacity | faults``: what goes wrong in a cloud, on request."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.values import DURATION
from runctl.cli.sandbox import running_sandbox, sandbox_library
from runctl.core.clock import rfc3339
from runctl.render.tables import details

if TYPE_CHECKING:
    from runctl.sandbox.control import Faults

MARKETS = ("spot", "on-demand")


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
    """Lose instances without notice.

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
    """Say how many instances there can be in a zone.

    N is the most that there can be at once, `none` lets nobody launch there, `restore` takes the limit away. Instances
    that are there stay. Launches above it are refused as EC2 refuses them: InsufficientInstanceCapacity.

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
@click.option("--clear", is_flag=True, help="Let all go well again. Notices that were given stay given.")
@click.pass_obj
def faults(cli: Cli, clear: bool) -> None:
    """Show what is to go wrong, or let all go well again."""
    found = _faults()
    if clear:
        found.clear()
    _emit(cli, found)


def _faults() -> Faults:
    library = sandbox_library()
    found: Faults = library.Faults(running_sandbox(library))
    return found


def _emit(cli: Cli, faults: Faults) -> None:
    current = faults.current()
    cli.emit(current, text=lambda: _text(current))


def _text(current: dict[str, Any]) -> str:
    rows: dict[str, str] = {}
    for limit in current["capacity"]:
        parts = (limit["zone"] or "all zones", limit["instance_type"], limit["market"])
        rows[f"capacity of {' '.join(part for part in parts if part)}"] = str(limit["count"] or "none")
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
    for name, value in current["other"].items():
        rows[name.replace("_", " ")] = str(value)
    return details(rows) if rows else "nothing is to go wrong"
