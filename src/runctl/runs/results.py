"""What a run wrote, brought to this computer when it has ended, and its machine given back after that."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryFile

from runctl._dataclasses import dataclass
from runctl.agent.after_run import UPLOADING, Stay
from runctl.agent.encoding import dumps
from runctl.agent.object_store import is_address
from runctl.agent.spec import EndRecord
from runctl.core.clock import SystemClock
from runctl.core.errors import (
    Conflict,
    CredentialsError,
    InstanceEnded,
    NotFound,
    RunctlError,
    Unreachable,
    add_fact,
)
from runctl.core.files import check_is_here
from runctl.core.machine_models import Instance
from runctl.core.run_models import Run
from runctl.machines.finding import find_instance
from runctl.machines.instances import ENDED_TIMEOUT
from runctl.machines.machine import Machine
from runctl.machines.session import Session
from runctl.providers.ended import what_became_of
from runctl.providers.interface import require
from runctl.providers.registry import this_computer
from runctl.runs.fetched import FOLDERS, LOGS, look_at, note_fetched, what_was_fetched
from runctl.runs.launch.launch_plan import DEFAULT_RESULTS, ResultsPlan, Safety
from runctl.runs.nodes.keeping import other_logs
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.shown_run import as_run
from runctl.runs.run_logs.reading import follow_run
from runctl.runs.stored.stored_results import fetch_from_store
from runctl.storage.copying import copy
from runctl.transport.files import MachineFiles

POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Results:
    """What a run wrote, as it is on this computer now."""

    run_id: str
    folder: Path
    """With ``output``, ``checkpoints`` and ``logs``."""
    files: int
    bytes: int
    sent_bytes: int
    """What had to go over; the rest was there."""
    skipped: tuple[str, ...] = ()
    """Neither files nor folders, and links that lead out of the folder."""
    changed: tuple[str, ...] = ()
    """Files that the script wrote to whenever they were copied."""
    complete: bool = True
    """The run had ended."""


@dataclass(frozen=True)
class GivenBack:
    """What became of a machine that was rented for a run."""

    instance: Instance
    stay: Stay | None
    """Why it goes on; ``None``: it is given back."""
    seconds: float
    """From its creation until now."""

    @property
    def cost(self) -> Decimal | None:
        """USD for the machine up to now, without its disks; ``None`` where no price is known."""
        if self.instance.price_per_hour is None:
            return None
        return self.instance.price_per_hour * Decimal(str(self.seconds)) / 3600


@dataclass(frozen=True)
class LaunchEnd:
    """How a launch ended that somebody has waited for."""

    run: Run
    results: Results | None
    """``None``: they stay where the run wrote them, or its machine has put them into an object store."""
    given_back: bool
    """The machine was rented for the run, and is billed no longer."""
    machine_seconds: float | None
    """From the machine's creation until now."""
    machine_cost: Decimal | None
    """USD for the machine up to now, without its disks."""


def launch_end(record: RunRecord, results: Results | None, ended: GivenBack | None) -> LaunchEnd:
    """All of it together; ``ended`` is ``None`` for a machine that was not rented for the run, or is kept."""
    return LaunchEnd(
        as_run(record, SystemClock().now()),
        results,
        given_back=ended is not None and ended.stay is None,
        machine_seconds=round(ended.seconds, 1) if ended is not None else None,
        machine_cost=ended.cost if ended is not None else None,
    )


def fetch_results(session: Session, machine: Machine, record: RunRecord, folder: Path) -> Results:
    """The run's output, checkpoints and log are in ``folder/RUN``, each file checked by its checksum.

    Of a run on several machines these are rank 0's, and the logs of all. What is there already is not sent again.

    Raises what `runctl.storage.copying.copy` and `follow_run` raise.
    """
    check_is_here(folder)
    target = _run_folder(folder.absolute(), record.id)
    here = MachineFiles(session.provider(this_computer()).agent(find_instance(session, this_computer())))
    there = MachineFiles(machine.agent)
    files = total = sent = 0
    skipped: list[str] = []
    changed: list[str] = []
    for name, path in zip(FOLDERS, (record.output_dir, record.checkpoint_dir), strict=True):
        if path is None:
            continue
        try:
            done = copy(there, path, here, str(target / name), progress=session.progress)
        except NotFound:
            # A run that was never set up has none.
            continue
        files, total, sent = files + done.files, total + done.bytes, sent + done.sent_bytes
        skipped += [f"{name}/{entry}" for entry in done.skipped]
        changed += [f"{name}/{entry}" for entry in done.changed]
    log, end = _fetch_log(session, machine, record, target / LOGS)
    logs = 1
    if record.nodes is not None:
        others, more = other_logs(session, record, target / LOGS)
        logs, log = logs + others, log + more
    if end is not None and not changed:
        note_fetched(session, record, target)
    return Results(
        record.id,
        target,
        files + logs,
        total + log,
        sent + log,
        tuple(skipped),
        tuple(changed),
        complete=end is not None,
    )


def stored_results(session: Session, record: RunRecord, folder: Path) -> Results | None:
    """As `fetch_results`, of a run whose machine has ended: what that has put into an object store before; ``None``
    where there is nothing."""
    if record.results is None or not is_address(record.results):
        return None
    check_is_here(folder)
    target = _run_folder(folder.absolute(), record.id)
    done = fetch_from_store(session, record, target)
    if done is None:
        return None
    files, total, sent = done
    if look_at(record, target).is_whole:
        note_fetched(session, record, target)
    return Results(record.id, target, files, total, sent)


def results_without_machine(
    session: Session, record: RunRecord, folder: Path | None, error: RunctlError
) -> Results:
    """As `fetch_results`, of a run whose machine cannot be asked any more: what that has put into an object store, else
    what was brought to this computer before, copied to ``folder/RUN`` where it is elsewhere.

    ``error`` says why the machine cannot be asked. It is raised where nothing is whole, with what is known of it.
    """
    try:
        # A machine that only stands still, or is silent, can put them there yet.
        if isinstance(error, NotFound | InstanceEnded):
            stored = stored_results(session, record, Path(folder or DEFAULT_RESULTS))
            if stored is not None:
                return stored
    except (NotFound, CredentialsError, Unreachable) as unread:
        error = unread
    found = [look_at(record, place) for place in _places(record, folder)] if record.has_ended else []
    whole = next((each for each in found if each.is_whole), None)
    if whole is None:
        partly = next((each for each in found if each.is_there), None)
        if partly is not None:
            add_fact(error, partly.problem)
        elif record.fetched is not None:
            moved = f"where the folder was moved to, runctl runs results {record.id} FOLDER finds it"
            add_fact(error, what_was_fetched(record.fetched), moved)
        raise error
    target, sent = whole.folder, 0
    if folder is not None and _own_folder(folder, record.id) != whole.folder:
        target = _run_folder(folder.expanduser().absolute(), record.id)
        here = MachineFiles(session.provider(this_computer()).agent(find_instance(session, this_computer())))
        for name in (*FOLDERS, LOGS):
            if (whole.folder / name).is_dir():
                source = str(whole.folder / name)
                sent += copy(here, source, here, str(target / name), progress=session.progress).sent_bytes
    note_fetched(session, record, target)
    # The end record goes along, and counts nowhere.
    return Results(record.id, target, whole.files, whole.bytes, min(sent, whole.bytes))


def _places(record: RunRecord, folder: Path | None) -> list[Path]:
    """Where its results may be on this computer, what the user names first."""
    places = [_own_folder(folder, record.id)] if folder is not None else []
    if record.fetched is not None:
        places.append(Path(record.fetched.folder))
    if record.results is not None and not is_address(record.results):
        places.append(_own_folder(Path(record.results), record.id))
    return list(dict.fromkeys(places))


def _own_folder(folder: Path, run_id: str) -> Path:
    return folder.expanduser().absolute() / run_id


def give_back(
    session: Session,
    machine: Machine,
    record: RunRecord,
    *,
    only_read: bool = False,
    wait: timedelta | None = ENDED_TIMEOUT,
) -> GivenBack:
    """The machine of an ended run knows that nothing is wanted from it any more, and is given back unless something
    keeps it; with ``wait``, it has ended and its volumes are free.

    ``only_read``: it sees to its results itself, and that is waited for.

    Raises `Unreachable` when the machine does not answer, though its provider says that it runs.
    """
    rentals = session.rentals(machine.instance.provider)
    stay = None
    try:
        stay = machine.agent.fetched(record.id, record.attempt, only_read=only_read)
        if stay is not None and stay.why == UPLOADING:
            session.progress.step(f"waiting for the results to be in {record.results}")
        while stay is not None and stay.why == UPLOADING:
            SystemClock().sleep(POLL_SECONDS)
            stay = machine.agent.fetched(record.id, record.attempt, only_read=only_read)
    except RunctlError:
        # It ends itself as soon as nothing keeps it, be it in the middle of an answer.
        if what_became_of(machine.provider, machine.instance.id) is None:
            raise
    if stay is None and record.unattended is not None and not record.unattended.is_removed:
        # Its group would replace a machine that is given back.
        require(machine.provider.groups).end(record.id, session.progress)
    elif stay is None:
        with suppress(NotFound):
            rentals.give_back(machine.instance.id)
            if wait is not None:
                rentals.wait_ended(machine.instance.id, wait)
    now = SystemClock().now()
    return GivenBack(machine.instance, stay, max(0.0, (now - machine.instance.created_at).total_seconds()))


def check_results_folder(results: ResultsPlan) -> None:
    """A folder of this computer that results are to be brought to can be made and written to; nothing is left there.

    Raises `Conflict` (code ``results-folder``).
    """
    if results.safety is not Safety.FOLDER:
        return
    folder = Path(str(results.where))
    created: list[Path] = []
    try:
        for path in reversed([folder, *folder.parents]):
            if not path.exists():
                path.mkdir()
                created.append(path)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Conflict(
            f"results cannot be brought to {folder}: {error.strerror}",
            hint="--results FOLDER names another folder",
            code="results-folder",
        ) from error
    finally:
        for path in reversed(created):
            with suppress(OSError):
                path.rmdir()


def _run_folder(folder: Path, run_id: str) -> Path:
    """The run's own folder. One that is made for results is left out of git, and so of what the next run sends."""
    try:
        new = not folder.exists()
        target = folder / run_id
        target.mkdir(parents=True, exist_ok=True)
        if new:
            (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise Conflict(
            f"results cannot be brought to {folder}: {error.strerror}",
            hint=f"runctl runs results {run_id} FOLDER brings them elsewhere",
            code="results-folder",
        ) from error
    return target


def _fetch_log(
    session: Session, machine: Machine, record: RunRecord, folder: Path
) -> tuple[int, EndRecord | None]:
    """The attempt's log, and how it ended, are in the folder; with the log's length in bytes."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{record.attempt}.log"
    partial = path.with_name(f".{path.name}.part")

    def write(data: bytes) -> None:
        file.write(data)

    with _removed_unless_renamed(partial), partial.open("wb") as file:
        followed = follow_run(session, machine, record, write, to_the_end=record.has_ended)
        file.flush()
        os.fsync(file.fileno())
        if followed.intact is False:
            session.progress.warn(f"the log of {record.id} does not have the checksum that its machine wrote")
        partial.replace(path)
    if followed.end is not None:
        end = folder / f"{record.attempt}.end.json"
        end.write_text(dumps(followed.end) + "\n", encoding="utf-8")
    return followed.offset, followed.end


@contextmanager
def _removed_unless_renamed(path: Path) -> Iterator[None]:
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
