"""``checkpoint pull`` and ``push``: a checkpoint comes here, or goes where a run can resume from it."""

from __future__ import annotations

from pathlib import Path

import click

from runctl.cli.checkpoints.common import locations_of, name_option, source_argument
from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.machines.resolve import transport_option
from runctl.core.errors import Interrupted, UsageError
from runctl.core.run_models import Checkpoint
from runctl.core.text import counted, size
from runctl.costs.traffic import DataOut
from runctl.render.json import to_builtins
from runctl.render.traffic import data_out_text
from runctl.runs.checkpoints.control import Located, Moved, check_pull, choose, pull, push
from runctl.runs.checkpoints.locations import data_out


@click.command(
    cls=Command,
    name="pull",
    examples=[
        ("runctl checkpoint pull latest ./best", "the newest checkpoint of the newest run"),
        ("runctl checkpoint pull base ./best --name best.pt", "the one that the script calls best.pt"),
    ],
)
@source_argument()
@click.argument("target", metavar="FOLDER", type=click.Path(path_type=Path))
@name_option("Use this checkpoint in place of the newest complete one.")
@click.option(
    "--replace",
    is_flag=True,
    help="Replace whatever is in FOLDER; never the folder you are in, your home, a git repository, or SOURCE.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be fetched, and stop.")
@transport_option(None)
@click.pass_obj
def pull_command(
    cli: Cli,
    *,
    source: str,
    target: Path,
    name: str | None,
    replace: bool,
    dry_run: bool,
    transport: str | None,
) -> None:
    """Fetch a checkpoint into a local folder.

    SOURCE is a run (its id, its name or latest), a local folder, INSTANCE:PATH, or s3://BUCKET/PREFIX/RUN. Every file
    is verified by its SHA-256, and FOLDER appears once all of them are there. The same command continues where it
    stopped. The files are as the script saved them, so that push can put them back.
    """
    from runctl.checkpoints.arriving import check_target, target_of

    locations = locations_of(cli, source, transport)
    check_target(target_of(target), replace=replace)
    located, passed_over = choose(locations, name, cli.progress)
    check_pull(located, target, replace=replace)
    _tell(cli, passed_over)
    if dry_run:
        out = data_out(cli.session, located.location, located.checkpoint.size_bytes, locations.record)
        _emit_plan(cli, located.checkpoint, located.location.label, str(target), out)
        return
    try:
        done = pull(located, target, replace=replace, progress=cli.progress)
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted: {target} is as it was", hint="run the same command again to continue"
        ) from None
    _emit(cli, done)


@click.command(
    cls=Command,
    name="push",
    examples=[
        ("runctl checkpoint push ./best base", "the run goes on from it the next time"),
    ],
)
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@source_argument("target", "TARGET")
@name_option("Use this checkpoint in place of the newest complete one in FOLDER.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and stop.")
@transport_option(None)
@click.pass_obj
def push_command(
    cli: Cli, *, folder: Path, target: str, name: str | None, dry_run: bool, transport: str | None
) -> None:
    """Put a checkpoint where a run can resume from it.

    TARGET is a run that has ended (its id, its name or latest), INSTANCE:PATH, or s3://BUCKET/PREFIX/RUN. The
    checkpoint is verified first; once all of it has arrived it is the newest of the run, and the next attempt resumes
    from it.
    """
    from runctl.runs.checkpoints.control import choose_to_push
    from runctl.runs.checkpoints.locations import folder_here

    source = folder_here(cli.session, str(folder))
    located, passed_over = choose_to_push(source, name, cli.progress)
    _tell(cli, passed_over)
    locations = locations_of(cli, target, transport, changes=True)
    if locations.record is None and ":" not in target:
        raise UsageError(
            f"{target} is a folder here",
            hint="push takes a run, INSTANCE:PATH or an address in an object store",
        )
    if dry_run:
        where = ", ".join(location.label for location in locations.found)
        _emit_plan(cli, located.checkpoint, source.label, where)
        return
    try:
        done = [push(source, located.checkpoint, location, cli.progress) for location in locations.found]
    except KeyboardInterrupt:
        raise Interrupted(
            "interrupted: the run's newest checkpoint is the one that it was",
            hint="run the same command again to continue",
        ) from None
    _emit(cli, done[-1])


def _tell(cli: Cli, passed_over: tuple[Located, ...]) -> None:
    for each in passed_over:
        cli.progress.warn(f"{each.checkpoint.name} is newer, and not complete: {each.checkpoint.problem}")


def _emit_plan(
    cli: Cli, checkpoint: Checkpoint, source: str, target: str, out: DataOut | None = None
) -> None:
    plan = Moved(
        checkpoint.name, checkpoint.step, source, target, len(checkpoint.files), checkpoint.size_bytes, 0, 0
    )
    cost = f"; it costs {data_out_text(out)}" if out is not None and out.usd_per_gib else ""
    cli.emit(
        {**to_builtins(plan), "data_out": to_builtins(out)},
        text=lambda: f"would copy {_summary(plan)} from {source} to {target}{cost}",
        ids=[checkpoint.name],
    )


def _emit(cli: Cli, done: Moved) -> None:
    cli.emit(
        done,
        text=lambda: (
            f"{_summary(done)}, at {done.target}"
            f" ({counted(done.sent_files, 'file')} sent, {size(done.sent_bytes)})"
        ),
        ids=[done.target],
    )


def _summary(moved: Moved) -> str:
    step = "" if moved.step is None else f" (step {moved.step:,})"
    return f"{moved.name}{step}: {counted(moved.files, 'file')}, {size(moved.size_bytes)}"
