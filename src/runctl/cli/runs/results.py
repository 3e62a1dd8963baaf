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
    """Fetch what a run wrote to this computer.

    Its output, checkpoints and log go to FOLDER/RUN (default: what --results named, else the folder results). Every
    file is verified by its checksum, and files that are here already are not sent again. A machine that was rented
    for the run and waits for this ends itself afterwards. From a run that is still going comes what it has written so
    far. If the machine has ended, the results come from the object store that it has put them into, or are found where
    they were brought to before. From a run on several machines come rank 0's output and checkpoints, and the logs of
    all; then all machines are given back.
    """
    from runctl.agent.object_store import is_address
    from runctl.cli.train.launched import bring_home, end_rental
    from runctl.cli.train.launched_nodes import give_machines_back
    from runctl.core.errors import NotFound, RunctlError
    from runctl.core.text import counted, size
    from runctl.runs.asking import machine_of, refresh
    from runctl.runs.launch.launch_plan import DEFAULT_RESULTS
    from runctl.runs.nodes.keeping import keep_logs
    from runctl.runs.results import results_without_machine
    from runctl.runs.unattended.state import goes_on

    (record,) = refresh(cli.session, [cli.store.get(run_id)])
    named = None if record.results is None or is_address(record.results) else record.results
    try:
        machine = machine_of(cli.session, record)
    except RunctlError as error:
        if (
            isinstance(error, NotFound)
            and record.nodes is not None
            and record.has_ended
            and not goes_on(record)
        ):
            # The other machines may still wait for somebody.
            keep_logs(cli.session, record)
            give_machines_back(cli, record)
        kept = results_without_machine(cli.session, record, folder, error)
        cli.say(f"results: {kept.folder} ({counted(kept.files, 'file')}, {size(kept.bytes)})")
        cli.emit(kept, text=lambda: str(kept.folder), ids=[str(kept.folder)])
        if goes_on(record):
            cli.progress.note(
                f"{record.id} goes on: this is what it had written when attempt {record.attempt} ended"
            )
        return
    results = bring_home(cli, machine, record, str(folder or named or DEFAULT_RESULTS))
    if results is None:
        return
    cli.emit(results, text=lambda: str(results.folder), ids=[str(results.folder)])
    several = record.nodes is not None
    if not results.complete or goes_on(record) or (several and not record.has_ended):
        cli.progress.note(f"{record.id} goes on: this is what it has written up to now")
    elif several:
        give_machines_back(cli, record)
    else:
        end_rental(cli, machine, record)
