"""``cp``: files to and from an instance, or out of a run's folders."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import click

from runctl._dataclasses import dataclass
from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.machines.resolve import find_instance, provider_of, transport_option, wanted_transport
from runctl.core.errors import Interrupted, NotFound, RunctlError, UsageError
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance
from runctl.core.names import LATEST
from runctl.core.text import counted, size
from runctl.providers.registry import this_computer
from runctl.render.left_out import left_out
from runctl.runs.records.run_record import RunRecord
from runctl.transport.files import MachineFiles

_REMOTE = re.compile(r"(?P<name>[^/:]+):(?P<path>.*)", re.DOTALL)
RUN_FOLDERS = ("checkpoints", "output")


@dataclass(frozen=True)
class CopySide:
    """One side of a copy."""

    files: MachineFiles
    path: str
    label: str
    """As it is shown."""


@click.command(
    cls=Command,
    examples=[
        ("runctl cp latest:checkpoints ./checkpoints", "what the newest run has saved"),
        ("runctl cp ./data gpu-box:/mnt/data", "a folder onto an instance's volume"),
        ("runctl cp run-7kq2m9xd4t:output/metrics.csv .", "one file of a run's results"),
    ],
)
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET")
@transport_option(None)
@click.pass_obj
def cp(cli: Cli, source: str, target: str, transport: str | None) -> None:
    """Copy files to or from an instance, or out of a run's folders.

    SOURCE and TARGET are each a local path, INSTANCE:PATH, or RUN:checkpoints and RUN:output with what is below them;
    one of the two is local. Runs and instances are named by id or name. A folder becomes TARGET; a file goes into
    TARGET if that is a folder. Of a run whose machine has ended comes what was brought to this computer before. Every
    file is verified by its checksum and appears once it is complete; the same command continues where it stopped, and
    sends only what is missing.
    """
    from runctl.storage.copying import copy

    sides = [_REMOTE.fullmatch(text) for text in (source, target)]
    if all(sides) or not any(sides):
        where = "on machines" if all(sides) else "here"
        raise UsageError(
            f"{source} and {target} are both {where}",
            hint="one side is INSTANCE:PATH or RUN:PATH, the other is here",
        )
    origin, destination = (
        _here(cli, text)
        if match is None
        else _there(cli, match["name"], match["path"], transport, is_source=text is source)
        for text, match in zip((source, target), sides, strict=True)
    )
    try:
        done = copy(origin.files, origin.path, destination.files, destination.path, progress=cli.progress)
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted: files that are whole are at {destination.label}",
            hint="run the same command again to continue",
        ) from None
    for sentence in left_out(done.skipped, done.changed):
        cli.progress.warn(sentence)
    cli.emit(
        done,
        text=lambda: (
            f"{counted(done.files, 'file')}, {size(done.bytes)}, at {destination.label}"
            f" ({counted(done.sent_files, 'file')} sent, {size(done.sent_bytes)})"
        ),
        ids=[done.target],
    )


def _here(cli: Cli, path: str) -> CopySide:
    agent = cli.provider(this_computer()).agent(_this_computer(cli), progress=cli.progress)
    absolute = str(Path(path).expanduser().absolute())
    return CopySide(MachineFiles(agent), absolute + ("/" if path.endswith("/") else ""), path)


def _this_computer(cli: Cli) -> Instance:
    return find_instance(cli, this_computer())


def _there(cli: Cli, name: str, path: str, transport: str | None, *, is_source: bool) -> CopySide:
    """A run's folder, else an instance's path. Raises `UsageError`, `NotFound`."""
    record = _run_called(cli, name)
    if record is not None:
        return _of_run(cli, record, name, path, transport, is_source=is_source)
    provider, reference = provider_of(cli, name), InstanceId(name)
    if not path:
        raise UsageError(f"{name}: names no path", hint=f"such as {name}:/mnt/data")
    instance = find_instance(cli, provider, reference)
    choice = wanted_transport(cli, instance, transport)
    agent = cli.provider(provider).agent(instance, choice, progress=cli.progress)
    return CopySide(MachineFiles(agent), path, f"{name}:{path}")


def _of_run(
    cli: Cli, record: RunRecord, name: str, path: str, transport: str | None, *, is_source: bool
) -> CopySide:
    """Its folder on its machine. What is read from a run whose machine is gone may have been brought here before."""
    from runctl.runs.asking import machine_of
    from runctl.runs.fetched import fetched_folder

    _check_in_run(record.id, path)
    try:
        machine = machine_of(cli.session, record, transport)
    except RunctlError as error:
        copied = fetched_folder(record) if is_source else None
        if copied is None:
            raise
        cli.progress.note(f"{error.message}: this is what was brought to {copied}")
        return _here(cli, f"{copied}/{path}")
    where = _in_run(record.id, path, str(record.checkpoint_dir or ""), str(record.output_dir or ""))
    return CopySide(MachineFiles(machine.agent), where, f"{name}:{path}")


def _run_called(cli: Cli, name: str) -> RunRecord | None:
    """The run of that id or name; ``None`` where the name may be an instance's. Raises `NotFound`, `UsageError`."""
    if name == LATEST or name.startswith("run-") or cli.store.list(name=name, limit=1):
        return cli.store.get(name)
    return None


def _check_in_run(run_id: str, path: str) -> None:
    """Raises `UsageError`."""
    if path.partition("/")[0] not in RUN_FOLDERS or ".." in PurePosixPath(path).parts:
        raise UsageError(
            f"a run has {' and '.join(RUN_FOLDERS)}, not {path!r}", hint=f"such as {run_id}:checkpoints"
        )


def _in_run(run_id: str, path: str, checkpoints: str, output: str) -> str:
    """The path on the machine of ``checkpoints/...`` or ``output/...``. Pure. Raises `NotFound`."""
    first, _, rest = path.partition("/")
    folder = checkpoints if first == "checkpoints" else output
    if not folder:
        raise NotFound(f"{run_id} has no {first} yet", hint=f"runctl runs show {run_id}", code="no-such-file")
    return f"{folder}/{rest}" if rest else folder
