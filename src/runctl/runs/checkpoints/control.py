"""What is done with checkpoints, wherever they are: listed, verified, fetched, put back and pruned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.agent.checkpoints.choosing import is_note
from runctl.checkpoints.arriving import (
    arriving_folder,
    check_outside,
    check_target,
    keep_only,
    put_in_place,
    target_of,
)
from runctl.checkpoints.interface import CheckpointLocation, identity
from runctl.checkpoints.prefix import StoredCheckpoints
from runctl.checkpoints.pruning import Decision, decide, may_be_other
from runctl.core.errors import Conflict, NotFound, RunctlError
from runctl.core.progress import SILENT, Progress
from runctl.core.run_models import Checkpoint, CheckpointState
from runctl.runs.checkpoints.locations import Locations
from runctl.runs.checkpoints.machine_folder import MachineFolder, broken


@dataclass(frozen=True)
class Located:
    """A checkpoint, and the place that has it."""

    location: CheckpointLocation
    checkpoint: Checkpoint


@dataclass(frozen=True)
class Moved:
    """What ``pull`` and ``push`` have done."""

    name: str
    step: int | None
    source: str
    target: str
    """The file or folder of the checkpoint where it is now, or the store's address."""
    files: int
    size_bytes: int
    sent_files: int
    """The others were there."""
    sent_bytes: int


def list_checkpoints(locations: Locations, progress: Progress = SILENT) -> tuple[Located, ...]:
    """All that the places have, each place's newest first. Raises where none of the places answers."""
    found: list[Located] = []
    failures: list[RunctlError] = []
    for location in locations.found:
        try:
            found += [Located(location, checkpoint) for checkpoint in location.checkpoints(progress)]
        except RunctlError as error:
            failures.append(error)
            if len(failures) < len(locations.found):
                progress.warn(f"{location.label}: {error.message}")
    if len(failures) == len(locations.found):
        raise failures[0]
    return tuple(found)


def choose(
    locations: Locations, name: str | None = None, progress: Progress = SILENT
) -> tuple[Located, tuple[Located, ...]]:
    """The newest whole checkpoint, or the newest of that name; with those that were passed over as broken.

    Raises `NotFound` (code ``no-checkpoint``), `Conflict` (code ``broken-checkpoint``) for a named one that is broken.
    """
    everything = list_checkpoints(locations, progress)
    matching = [each for each in everything if _is_called(each.checkpoint, name)]
    return _newest(locations, matching, name, anything=bool(everything))


def _newest(
    locations: Locations, matching: Sequence[Located], name: str | None = None, *, anything: bool = False
) -> tuple[Located, tuple[Located, ...]]:
    if not matching:
        raise _nothing(locations, name, anything=anything)
    newest: list[Located] = []
    passed_over: list[Located] = []
    for location in locations.found:
        for each in matching:
            if each.location is location and each.checkpoint.state is not CheckpointState.BROKEN:
                newest.append(each)
                break
            passed_over += [each] if each.location is location else []
    if not newest:
        first = matching[0].checkpoint
        raise broken(first.name, first.problem)
    return max(newest, key=lambda each: each.checkpoint.saved_at), tuple(passed_over)


def choose_to_push(
    source: MachineFolder, name: str | None = None, progress: Progress = SILENT
) -> tuple[Located, tuple[Located, ...]]:
    """As `choose`, from a folder here that may have other files besides, such as a project's.

    Raises `Conflict` (code ``maybe-no-checkpoint``) where nobody has said which of several it is, and none is known to
    be a checkpoint by its kind.
    """
    locations = Locations(source.label, (source,))
    if name is not None:
        return choose(locations, name, progress)
    found = list_checkpoints(locations, progress)
    known = [each for each in found if not may_be_other(each.checkpoint)]
    if not known and len(found) > 1:
        raise Conflict(
            f"{source.label} has several files, and none is known to be a checkpoint by its kind",
            hint=f"name the one to push, such as --name {found[0].checkpoint.name}",
            code="maybe-no-checkpoint",
        )
    return _newest(locations, known or found)


def _nothing(locations: Locations, name: str | None, *, anything: bool) -> NotFound:
    hint = f"runctl checkpoint list {locations.reference}" if anything else ""
    for location in locations.found:
        below = location.runs_below() if isinstance(location, StoredCheckpoints) and not anything else []
        if below:
            hint = "name a run's own folder: " + ", ".join(below[:5]) + (", ..." if below[5:] else "")
    asked = f"no checkpoint {name}" if name else "no checkpoint"
    return NotFound(f"{locations.reference} has {asked}", hint=hint, code="no-checkpoint")


def _is_called(checkpoint: Checkpoint, name: str | None) -> bool:
    """By its own name, or by that of a file that was saved together with it."""
    if name is None or checkpoint.name == name:
        return True
    return not is_note(name) and any(file.path == name for file in checkpoint.files)


def verify(
    locations: Locations, name: str | None = None, *, newest: bool = False, progress: Progress = SILENT
) -> tuple[Checkpoint, ...]:
    """All checkpoints, those of one name, or the newest of each place, after every byte of them was read."""
    found = list_checkpoints(locations, progress)
    verified: list[Checkpoint] = []
    for location in locations.found:
        own = [each.checkpoint for each in found if each.location is location]
        wanted = [each for each in own if _is_called(each, name)]
        verified += location.verify(wanted[:1] if newest else wanted, progress)
    if not verified:
        raise _nothing(locations, name, anything=bool(found))
    return tuple(verified)


def check_pull(located: Located, target: Path, *, replace: bool = False) -> None:
    """The checkpoint may be put at ``target``. Raises `Conflict` (codes ``exists``, ``not-replaceable``)."""
    target = target_of(target)
    check_target(target, replace=replace)
    if isinstance(located.location, MachineFolder) and located.location.is_here:
        check_outside(target, located.location.folder)


def pull(located: Located, target: Path, *, replace: bool = False, progress: Progress = SILENT) -> Moved:
    """The checkpoint is in the folder ``target``, every file compared with its checksum; all of it, or nothing.

    Its files are there as they are in the folder that it comes from. The same call goes on where one before it broke
    off. Raises `Conflict` (code ``broken-checkpoint``) and what `check_pull` raises.
    """
    checkpoint = located.checkpoint
    target = target_of(target)
    check_pull(located, target, replace=replace)
    folder = arriving_folder(target)
    folder.mkdir(parents=True, exist_ok=True)
    sent = located.location.fetch(checkpoint, folder, progress)
    keep_only(folder, {file.path for file in checkpoint.files})
    put_in_place(folder, target)
    return Moved(
        name=checkpoint.name,
        step=checkpoint.step,
        source=located.location.label,
        target=str(target / checkpoint.name),
        files=len(checkpoint.files),
        size_bytes=checkpoint.size_bytes,
        sent_files=sent.files,
        sent_bytes=sent.bytes,
    )


def push(
    source: MachineFolder,
    checkpoint: Checkpoint,
    target: CheckpointLocation,
    progress: Progress = SILENT,
) -> Moved:
    """The checkpoint of ``source``, a folder here, read to its end, is the newest of ``target``.

    Raises `Conflict` (codes ``broken-checkpoint``, ``run-goes-on``).
    """
    (verified,) = source.verify([checkpoint], progress)
    if verified.state is CheckpointState.BROKEN:
        raise broken(verified.name, verified.problem)
    sent = target.accept(verified, source.folder, progress)
    return Moved(
        name=verified.name,
        step=verified.step,
        source=source.label,
        target=f"{target.label.rstrip('/')}/{verified.name}",
        files=len(verified.files),
        size_bytes=verified.size_bytes,
        sent_files=sent.files,
        sent_bytes=sent.bytes,
    )


@dataclass(frozen=True)
class PrunePlan:
    """What `prune` keeps and removes in one place."""

    location: CheckpointLocation
    keep_last: int
    keep_best: tuple[str, ...]
    decisions: tuple[Decision, ...]

    @property
    def removed(self) -> tuple[Checkpoint, ...]:
        """What goes."""
        return tuple(each.checkpoint for each in self.decisions if not each.keep)


def plan_prune(
    locations: Locations, *, keep_last: int, keep_best: Sequence[str] = (), progress: Progress = SILENT
) -> tuple[PrunePlan, ...]:
    """What would go of each place; see `runctl.checkpoints.pruning.decide`."""
    found = list_checkpoints(locations, progress)
    plans = []
    for location in locations.found:
        own = [each.checkpoint for each in found if each.location is location]
        if own:
            decisions = _decisions(location, own, keep_last, keep_best)
            plans.append(PrunePlan(location, keep_last, tuple(keep_best), decisions))
    return tuple(plans)


def _decisions(
    location: CheckpointLocation, found: Sequence[Checkpoint], keep_last: int, keep_best: Sequence[str]
) -> tuple[Decision, ...]:
    others = {identity(each) for each in found if location.is_shared and may_be_other(each)}
    return decide(
        found, keep_last=keep_last, keep_best=keep_best, in_use=location.in_use(found), others=others
    )


def prune(plan: PrunePlan, progress: Progress = SILENT) -> tuple[Checkpoint, ...]:
    """What the plan removes is gone, and returned; what has come into use meanwhile, or would be the newest, stays."""
    now = plan.location.checkpoints(progress)
    decisions = _decisions(plan.location, now, plan.keep_last, plan.keep_best)
    planned = {identity(each) for each in plan.removed}
    gone = [each.checkpoint for each in decisions if not each.keep and identity(each.checkpoint) in planned]
    plan.location.remove(gone, progress)
    return tuple(gone)
