"""``runs prune``: what ended runs keep on machines and on this computer."""

from __future__ import annotations

import sys
from datetime import timedelta

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.completion import complete_instances
from runctl.cli.framework.values import DURATION
from runctl.cli.machines.resolve import find_instance, provider_of
from runctl.core.clock import SystemClock
from runctl.core.text import counted, size
from runctl.runs.pruning import HERE, Prunable, Pruning


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
    help="Only runs that ended at least this long ago.",
)
@click.option(
    "--instance", metavar="ID|NAME", shell_complete=complete_instances, help="Only what this instance keeps."
)
@click.option(
    "--include-checkpoints",
    is_flag=True,
    help="Also remove checkpoints and output on a machine's own disk; those on a volume always stay.",
)
@click.option("--records", is_flag=True, help="Forget the runs themselves: runs list no longer shows them.")
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and stop.")
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

    Logs, environments and copies of the project go; checkpoints and output stay, and so does every run that is still
    going or that this computer did not start. The list is shown first.
    """
    only = None if instance is None else find_instance(cli, provider_of(cli, instance), instance).id
    pruning = Pruning(cli.session)
    found = pruning.find(
        before=SystemClock().now() - older_than,
        instance=only,
        results=include_checkpoints,
        records=records,
    )
    if found and not dry_run:
        cli.say(_table(found, wide=True))
        total = size(sum(item.size_bytes for item in found))
        cli.confirm(f"Remove this ({counted(len({item.run_id for item in found}), 'run')}, {total})?")
        pruning.remove(found)
    cli.emit(
        found,
        text=lambda: (
            (_table(found) if dry_run else f"removed {size(sum(item.size_bytes for item in found))}")
            if found
            else "nothing that is old enough is kept"
        ),
        ids=sorted({item.run_id for item in found}),
    )


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
