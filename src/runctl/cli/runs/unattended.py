"""The log of a run that nobody watches, from one machine after the other."""

from __future__ import annotations

from runctl.cli.context import Cli
from runctl.cli.runs.show_log import show_kept_log, show_log
from runctl.core.clock import SystemClock
from runctl.core.errors import Conflict, Interrupted, MachineError, NotFound, RunctlError, Unreachable
from runctl.runs.control import machine_of, refresh_group
from runctl.runs.records import RunRecord
from runctl.runs.unattended.state import goes_on, group_text, needs_refresh

ASK_EVERY = 3.0
"""Seconds between two questions for the next machine."""


def follow_to_the_end(cli: Cli, record: RunRecord, *, tail: int | None) -> int:
    """Every attempt's log is shown as it is written, until the run has ended for good; the exit code of its end."""
    shown, code, told = 0, 0, ""
    try:
        while True:
            record = refresh_group(cli.session, record) if needs_refresh(record) else record
            if record.attempt > shown and record.instance_id:
                try:
                    code = show_log(cli, machine_of(cli.session, record), record, follow=True, tail=tail)
                except RunctlError as error:
                    if record.end_reason is not None and not goes_on(record):
                        return show_kept_log(cli, record, error, tail=tail)
                    if not _is_under_way(error):
                        raise
                else:
                    shown, tail, record = record.attempt, None, cli.store.get(record.id)
                    continue
            if record.end_reason is not None and not goes_on(record):
                return code
            if needs_refresh(record) and told != group_text(record):
                told = group_text(record)
                cli.progress.note(f"{record.id} {told}")
            cli.progress.step(f"waiting for the next machine of {record.id}")
            SystemClock().sleep(ASK_EVERY)
    except KeyboardInterrupt:
        raise Interrupted(
            f"stopped watching; {record.id} goes on without",
            hint=f"runctl runs logs {record.id} --follow takes it up again, runctl runs stop {record.id} ends it",
        ) from None


def _is_under_way(error: RunctlError) -> bool:
    """The machine is going, or another one is coming and has nothing of the attempt yet."""
    return isinstance(error, NotFound | Conflict | Unreachable) or (
        isinstance(error, MachineError) and error.code == "no-such-run"
    )
