"""``runs results``: what a run wrote, brought to this computer."""

from __future__ import annotations

from pathlib import Path

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.completion import complete_runs
from runctl.cli.framework.values import RUN


@click.command(
    cls=Command,
    name="results",
    examples=[
        ("runctl runs results latest", "of the newest run, to the folder that its launch named"),
        ("runctl runs results run-7kq2m9xd4t ./out", "to ./out/run-7kq2m9xd4t"),
    ],
)
@click.argument("run_id", metavar="RUN", type=RUN, shell_complete=complete_runs)
@click.argument("folder", metavar="[FOLDER]", type=click.Path(path_type=Path), required=False)
@click.pass_obj
def results_command(cli: Cli, run_id: str, folder: Path | None) -> None:
    """Bring what a run wrote to this computer.

    Its output, checkpoints and log come to FOLDER/RUN (default: what --results named, else the folder results); every
    file is checked by its checksum, and what is there already is not sent again. A machine that was rented for the run
    and waits for this ends itself afterwards. Of a run that goes on comes what it has written up to now.
    """
    from runctl.cli.train.launched import bring_home, end_rental
    from runctl.runs.control import machine_of, refresh
    from runctl.runs.launch_plan import DEFAULT_RESULTS, is_address

    (record,) = refresh(cli.session, [cli.store.get(run_id)])
    machine = machine_of(cli.session, record)
    named = None if record.results is None or is_address(record.results) else record.results
    results = bring_home(cli, machine, record, str(folder or named or DEFAULT_RESULTS))
    if results is None:
        return
    cli.emit(results, text=lambda: str(results.folder), ids=[str(results.folder)])
    if not results.complete:
        cli.progress.note(f"{record.id} goes on: this is what it has written up to now")
    else:
        end_rental(cli, machine, record)
