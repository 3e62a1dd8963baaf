"""What ``--resume-from`` names, found before anything is rented or started."""

from __future__ import annotations

import os

from runctl.checkpoints.resume import ResumeFrom, from_path, from_run, is_path
from runctl.core.errors import Conflict, NotFound
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance
from runctl.machines.session import Session
from runctl.providers.registry import is_this_computer
from runctl.runs.fetched import fetched_folder
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import run_store


def find_checkpoint(session: Session, text: str, instance: Instance | None = None) -> ResumeFrom:
    """A run, or a path of the machine; without ``instance``, of one that is to be rented.

    Raises `NotFound`, `Conflict`, `UsageError`.
    """
    is_here = instance is not None and is_this_computer(instance.provider)
    if is_path(text):
        found = from_path(text)
        # In a folder that this user may not look into there is nothing either; pathlib raises for one.
        if is_here and not found.is_in_store and not os.path.exists(found.path):  # noqa: PTH110
            raise NotFound(f"--resume-from {text}: there is nothing", code="no-such-file")
        return found
    record = run_store(session).get(text)
    try:
        return from_run(
            record.id,
            saved_volume=record.saved_volume,
            saved_folder=record.saved_folder,
            checkpoint_dir=record.checkpoint_dir,
            saved_on=record.instance_id,
            store=record.store,
            instance_id=instance.id if instance is not None else InstanceId(""),
        )
    except Conflict as error:
        return _from_what_was_brought(record, error, is_here=is_here)


def _from_what_was_brought(record: RunRecord, error: Conflict, *, is_here: bool) -> ResumeFrom:
    """What the run has saved, where its results were brought to this computer and the new run is here. Raises
    ``error``, which says where they are, for a run elsewhere."""
    folder = fetched_folder(record)
    checkpoints = folder / "checkpoints" if folder is not None else None
    if checkpoints is None or not checkpoints.is_dir():
        raise error
    if is_here:
        return from_path(str(checkpoints))
    error.hint = (
        f"{checkpoints} has it: copy that to the machine (runctl cp), or onto a volume that the run is to have, and"
        " give its path there to --resume-from"
    )
    raise error
