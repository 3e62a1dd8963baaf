"""``checkpoint list``, ``show`` and ``verify``: nothing is changed by these."""

from __future__ import annotations

import sys

import click

from runctl.cli.checkpoints.common import locations_of, name_option, source_argument
from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.machines.resolve import transport_option
from runctl.core.clock import SystemClock
from runctl.core.errors import RunctlError
from runctl.core.run_models import CheckpointState
from runctl.core.text import counted, size
from runctl.runs.checkpoints.control import choose, list_checkpoints, verify


@click.command(
    cls=Command,
    name="list",
    examples=[
        ("runctl checkpoint list latest", "what the newest run has saved, and where it is"),
        ("runctl checkpoint list gpu-box:/mnt/data/runs", "a folder of an instance"),
    ],
)
@source_argument()
@transport_option(None)
@click.pass_obj
def list_command(cli: Cli, source: str, transport: str | None) -> None:
    """List the checkpoints of a run, a folder or an instance's folder, newest first.

    SOURCE is a run (its id, its name or latest), a local folder, INSTANCE:PATH, or s3://BUCKET/PREFIX/RUN. A
    checkpoint is complete when its format says that it was written completely; verify reads all of it.
    """
    from runctl.render.checkpoints import checkpoints_table
    from runctl.render.tables import screen_of

    locations = locations_of(cli, source, transport)
    found = [each.checkpoint for each in list_checkpoints(locations, cli.progress)]
    cli.emit(
        found,
        text=lambda: checkpoints_table(found, SystemClock().now(), screen_of(sys.stdout)) or "no checkpoints",
        ids=[each.name for each in found],
    )


@click.command(
    cls=Command,
    name="show",
    examples=[("runctl checkpoint show latest --name step-300.pt", "one that is not the newest")],
)
@source_argument()
@name_option("Use this checkpoint in place of the newest complete one.")
@transport_option(None)
@click.pass_obj
def show_command(cli: Cli, source: str, name: str | None, transport: str | None) -> None:
    """Show one checkpoint: its files and their SHA-256.

    SOURCE is a run (its id, its name or latest), a local folder, INSTANCE:PATH, or s3://BUCKET/PREFIX/RUN. In a
    folder the files are read for their checksums.
    """
    from runctl.render.checkpoints import checkpoint_details

    locations = locations_of(cli, source, transport)
    located, _ = choose(locations, name, cli.progress)
    checkpoint = located.location.described(located.checkpoint, cli.progress)
    cli.emit(
        checkpoint, text=lambda: checkpoint_details(checkpoint, SystemClock().now()), ids=[checkpoint.name]
    )


@click.command(
    cls=Command,
    name="verify",
    examples=[("runctl checkpoint verify latest --newest", "what the run would go on from")],
)
@source_argument()
@name_option("Only this one.")
@click.option("--newest", is_flag=True, help="Only the newest of each folder.")
@transport_option(None)
@click.pass_obj
def verify_command(cli: Cli, source: str, name: str | None, newest: bool, transport: str | None) -> None:
    """Read checkpoints completely, and check them against their formats and checksums.

    SOURCE is a run (its id, its name or latest), a local folder, INSTANCE:PATH, or s3://BUCKET/PREFIX/RUN. Exit code
    1 when any of them is broken. Files without a checksum of their own (safetensors, older PyTorch files) can only be
    checked against their format.
    """
    from runctl.render.checkpoints import checkpoints_table
    from runctl.render.tables import screen_of

    locations = locations_of(cli, source, transport)
    found = verify(locations, name, newest=newest, progress=cli.progress)
    broken = [each for each in found if each.state is CheckpointState.BROKEN]
    cli.emit(
        found,
        text=lambda: checkpoints_table(found, SystemClock().now(), screen_of(sys.stdout)),
        ids=[each.name for each in found if each.state is not CheckpointState.BROKEN],
    )
    if broken:
        raise RunctlError(
            f"{counted(len(broken), 'checkpoint')} of {len(found)} cannot be resumed from",
            hint="runctl checkpoint prune removes them once a newer one is complete",
            code="broken-checkpoint",
        )
    total = size(sum(each.size_bytes for each in found))
    cli.progress.note(f"{counted(len(found), 'checkpoint')}, {total}: all is as it was written")
