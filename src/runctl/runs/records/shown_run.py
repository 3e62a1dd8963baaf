"""A run as the JSON contract shows it, made of its record. Pure."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from pathlib import PurePosixPath

from runctl.agent.checkpoint_spec import CheckpointStatus
from runctl.agent.end_reason import RETRIED
from runctl.core.run_models import (
    Run,
    RunAttempt,
)
from runctl.runs.deadlines.standing import shown_deadline, shown_progress
from runctl.runs.records.agent_models import (
    as_hand_off,
    as_newest,
    machine_after_run,
    moment,
)
from runctl.runs.records.run_record import KnownAttempt, RunRecord, as_known

_IN_ANOTHER_FORM = frozenset(
    {"attempts", "cost", "elapsed_seconds", "end_reason", "hand_off", "machine_end", "checkpoint", "progress"}
    | {"deadline", "engine", "nodes"}
)
"""What a `Run` has in another form than its record."""


def as_run(record: RunRecord, now: datetime) -> Run:
    """As the JSON contract shows it."""
    shared = {
        field.name: getattr(record, field.name) for field in fields(Run) if field.name not in _IN_ANOTHER_FORM
    }
    shared["engine"] = None if record.nodes is None else record.nodes.engine
    shared["nodes"] = () if record.nodes is None else tuple(each.as_run_node() for each in record.nodes.nodes)
    shared["attempts"] = attempts_of(record)
    shared["checkpoint"] = None if record.checkpoint is None else as_newest(record.checkpoint)
    ended = record.has_ended
    shared["progress"] = shown_progress(record.progress, record.by_its_clock(now), ended=ended)
    shared["deadline"] = shown_deadline(
        record,
        (*record.past, as_known(record)),
        now,
        is_over=ended and record.end_reason not in RETRIED,
    )
    shared["hand_off"] = None if record.hand_off is None else as_hand_off(record.hand_off)
    shared["machine_end"] = machine_after_run(record.machine_end) if record.machine_end else None
    reason = record.end_reason.value if record.end_reason is not None else None
    elapsed = round(record.seconds_since(record.started_at, now), 1) if record.started_at else None
    return Run(**shared, end_reason=reason, cost=record.cost(now), elapsed_seconds=elapsed)


def attempts_of(record: RunRecord) -> tuple[RunAttempt, ...]:
    """All attempts, as the JSON contract shows them."""
    attempts = (*record.past, as_known(record))
    shown = []
    for index, given in enumerate(attempts):
        # Of those that did not come to their script, nothing can be gone on from.
        following = next((each for each in attempts[index + 1 :] if each.started_at is not None), None)
        then = attempts[index + 1].created_at if index + 1 < len(attempts) else None
        newest, resumed = _newest_of(given, following, then), given.resumed
        began, lost = given.started_at or _by_checkpoint(given, newest), None
        if following is not None and given.ended_at is not None:
            since = moment(following.resumed.saved_at) if following.resumed else began
            # Without a checkpoint of its own, the next attempt goes on from where this one did.
            since = max(filter(None, (since, began)), default=None)
            lost = round(max((given.ended_at - since).total_seconds(), 0.0), 1) if began and since else 0.0
        shown.append(
            RunAttempt(
                attempt=given.attempt,
                instance_id=given.instance_id,
                instance_type=given.instance_type,
                market=given.market,
                zone=given.zone,
                price_per_hour=given.price_per_hour,
                created_at=given.created_at,
                started_at=given.started_at,
                ended_at=given.ended_at,
                end_reason=given.end_reason.value if given.end_reason is not None else None,
                message=given.message,
                resumed_from=PurePosixPath(resumed.path).name if resumed else None,
                resumed_step=resumed.step if resumed else None,
                checkpoint=PurePosixPath(newest.path).name if newest and newest.path else None,
                step=newest.step if newest else None,
                lost_seconds=lost,
                fallback=given.fallback,
            )
        )
    return tuple(shown)


def _newest_of(
    given: KnownAttempt, following: KnownAttempt | None, then: datetime | None
) -> CheckpointStatus | None:
    """The newest checkpoint that an attempt has saved: one that died unannounced may have saved one more than anybody
    had asked about, and the next attempt went on from that. ``then``: when the next one was created."""
    known, found = given.checkpoint, following.resumed if following is not None else None
    saved_at = moment(found.saved_at) if found is not None else None
    if saved_at is None or saved_at < (given.started_at or given.created_at):
        return known
    if given.started_at is None and (then is None or saved_at >= then):
        # It is another's, which began after this one.
        return known
    return found if known is None or (known.saved_at or 0.0) < saved_at.timestamp() else known


def _by_checkpoint(given: KnownAttempt, newest: CheckpointStatus | None) -> datetime | None:
    """Since when an attempt was there of which nobody had asked whether it had begun, where what it saved says that it
    had."""
    saved_at = moment(newest.saved_at) if newest is not None else None
    return given.created_at if saved_at is not None and saved_at >= given.created_at else None
