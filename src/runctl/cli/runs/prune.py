"""``runs prune``: what ended runs keep on machines and on this computer."""

from __future__ import annotations

import sys
from collections import defaultdict
from datetime import timedelta

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.completion import complete_instances
from runctl.cli.framework.values import DURATION
from runctl.cli.machines.resolve import find_instance, provider_of, wanted_transport
from runctl.core.amounts import counted, size
from runctl.core.clock import SystemClock
from runctl.core.errors import RunctlError
from runctl.core.ids import InstanceId, RunId
from runctl.core.models import InstanceState
from runctl.runs.pruning import HERE, Kept, MachineRun, Prunable, prunable
from runctl.transport.agent import AgentClient


@click.command(
    cls=Command,
    name="prune",
    examples=[
        ("runctl runs prune --dry-run", "what would go"),
        ("runctl runs prune --older-than 7d --records", "and the runs are forgotten, too"),
    ],
)
@click.option(
    "--older-than",
    type=DURATION,
    default="30d",
    show_default=True,
    metavar="TIME",
    help="Only runs that ended so long ago.",
)
@click.option(
    "--instance", metavar="ID|NAME", shell_complete=complete_instances, help="Only what this instance keeps."
)
@click.option(
    "--include-checkpoints",
    is_flag=True,
    help="Checkpoints and output on a machine's own disk, too; those on a volume stay in any case.",
)
@click.option("--records", is_flag=True, help="Forget the runs themselves: runs list shows them no more.")
@click.option("--dry-run", is_flag=True, help="Show what would go, and stop.")
@click.pass_obj
def prune_command(
    cli: Cli,
    *,
    older_than: timedelta,
    instance: str | None,
    include_checkpoints: bool,
    records: bool,
    dry_run: bool,
) -> None:
    """Remove what ended runs keep on machines and on this computer.

    Logs, environments and copies of the project go; checkpoints and output stay, and so does every run that goes on
    or that this computer did not start. The list is shown first.
    """
    only = None if instance is None else find_instance(cli, provider_of(cli, instance), instance).id
    known = cli.store.list(instance=only)
    agents, kept = _ask_machines(
        cli, {(item.provider, item.region, item.instance_id) for item in known if item.has_ended}
    )
    found = prunable(
        known,
        () if only is not None else cli.logs.runs(),
        kept,
        before=SystemClock().now() - older_than,
        results=include_checkpoints,
        record=records,
    )
    if found and not dry_run:
        cli.say(_table(found, wide=True))
        total = size(sum(item.size_bytes for item in found))
        cli.confirm(f"Remove this ({counted(len({item.run_id for item in found}), 'run')}, {total})?")
        _remove(cli, agents, found)
    cli.emit(
        found,
        text=lambda: (
            (_table(found) if dry_run else f"removed {size(sum(item.size_bytes for item in found))}")
            if found
            else "nothing that is old enough is kept"
        ),
        ids=sorted({item.run_id for item in found}),
    )


def _ask_machines(
    cli: Cli, machines: set[tuple[str, str | None, InstanceId]]
) -> tuple[dict[InstanceId, AgentClient], dict[InstanceId, list[MachineRun]]]:
    """What those machines keep that run now; one that cannot be asked is told of."""
    agents: dict[InstanceId, AgentClient] = {}
    kept: dict[InstanceId, list[MachineRun]] = {}
    for provider, region, identifier in sorted(machines, key=str):
        there = cli.in_region(region)
        try:
            instance = there.provider(provider).instance(identifier)
            if instance.state is not InstanceState.RUNNING:
                continue
            cli.progress.step(f"asking {identifier} what it keeps")
            agent = there.provider(provider).agent(
                instance, wanted_transport(there, instance, None), there.progress
            )
            kept[identifier] = [MachineRun(**item) for item in agent.kept_runs()]
            agents[identifier] = agent
        except RunctlError as error:
            if error.code not in {"instance-not-found", "not-found"}:
                cli.progress.warn(f"{identifier} cannot be asked what it keeps: {error.message}")
    return agents, kept


def _remove(cli: Cli, agents: dict[InstanceId, AgentClient], found: tuple[Prunable, ...]) -> None:
    on_machines: dict[InstanceId, dict[str, bool]] = defaultdict(dict)
    for item in found:
        if item.kept in {Kept.WORK, Kept.RESULTS}:
            runs = on_machines[InstanceId(item.where)]
            runs[item.run_id] = runs.get(item.run_id, False) or item.kept is Kept.RESULTS
    for identifier, runs in on_machines.items():
        cli.progress.step(f"removing from {identifier}")
        for results in (False, True):
            names = [run_id for run_id, includes_results in runs.items() if includes_results is results]
            if names:
                agents[identifier].prune(names, results=results)
    for item in found:
        if item.kept is Kept.LOG:
            cli.logs.remove(item.run_id)
        elif item.kept is Kept.RECORD:
            cli.store.forget(RunId(item.run_id))


def _table(found: tuple[Prunable, ...], *, wide: bool = False) -> str:
    from runctl.render.tables import Column, fit, screen_of

    return fit(
        [
            Column("RUN", [item.run_id for item in found]),
            Column("WHAT", [item.kept.value for item in found]),
            Column("WHERE", ["this computer" if item.where == HERE else item.where for item in found]),
            Column(
                "SIZE", [size(item.size_bytes) if item.size_bytes else None for item in found], right=True
            ),
            Column(
                "ENDED",
                [item.ended_at.date().isoformat() if item.ended_at else None for item in found],
                rank=1,
            ),
        ],
        screen_of(sys.stderr if wide else sys.stdout),
    )
