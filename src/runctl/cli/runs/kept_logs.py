"""Logs whose machine is gone, and logs that would go with their machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from runctl.agent.spec import EndReason
from runctl.cli.context import Cli
from runctl.cli.machines.resolve import wanted_transport
from runctl.cli.train.following import LogSink, adopt
from runctl.core.amounts import size
from runctl.core.errors import NotFound, RunctlError
from runctl.core.models import Instance, InstanceState
from runctl.machines.machine import Machine, open_machine
from runctl.render.progress import LogOutput, finish
from runctl.runs.end_reason import exit_code, sentence
from runctl.runs.logs.sources import FETCHED_BYTES, KeptLog, fetch_log, find_kept_log, is_complete
from runctl.runs.refresh import with_end
from runctl.runs.store import RunRecord
from runctl.transport.agent import AgentClient


def show_kept_log(cli: Cli, record: RunRecord, why: RunctlError, *, tail: int | None) -> int:
    """Print what is kept of a run's log, and say what is missing; the exit code that ``--wait`` promises.

    Raises ``why`` (the machine's own error) where nothing is kept, with where else the log may be.
    """
    there = cli.in_region(record.region)
    provider = there.provider(record.provider)

    def agent_on(instance: Instance) -> AgentClient:
        return provider.agent(instance, wanted_transport(there, instance, None), cli.progress)

    kept = find_kept_log(
        record,
        cli.logs,
        provider=provider,
        agent_on=agent_on,
        progress=cli.progress,
    )
    finish(cli.progress)
    if kept.end is not None and record.end_reason != kept.end.reason.value:
        record = with_end(record, kept.end)
        cli.store.put(record)
    spans = cli.logs.spans(record.id, record.attempt)
    if not spans:
        raise NotFound(
            f"{why.message}; nothing of its log was followed here",
            hint=kept.elsewhere or "the log was on the machine's own disk, and went with it",
            code="log-gone",
        )
    came = f"from {kept.from_volume}" if kept.from_volume else "what was followed here"
    cli.progress.note(f"{why.message}; this is its log, {came}")
    with LogOutput(cli.progress, sys.stdout) as output:
        _print(cli, output, record, tail)
    more = f"; {kept.elsewhere}" if kept.elsewhere else ""
    if kept.holes:
        cli.progress.warn(f"not all of the log is here: {_holes(kept)}{more}")
    elif kept.end is None:
        cli.progress.warn(f"the log ends here at byte {spans[-1].stop}; whether more came is not known{more}")
    if kept.end is None:
        return 1 if record.has_ended else 0
    cli.say(sentence(record.id, kept.end))
    return exit_code(kept.end)


def fetch_logs(cli: Cli, instances: Sequence[Instance]) -> None:
    """What these machines have of their runs' logs, and this computer has not, is here; what is not is said.

    A machine is asked where this computer knows a run on it whose log is not all here.
    """
    for instance in instances:
        if instance.provider == "local":
            continue
        known = cli.store.list(instance=instance.id)
        records = [
            one
            for one in known
            if one.end_reason != EndReason.NOT_STARTED.value and not is_complete(one, cli.logs)
        ]
        if not records:
            continue
        if instance.state is not InstanceState.RUNNING:
            lost = [one.id for one in records if not cli.logs.spans(one.id, one.attempt)]
            if lost:
                cli.progress.warn(
                    f"{instance.id} is {instance.state.value}: logs that were never fetched go with it:"
                    f" {', '.join(lost)}"
                )
            continue
        provider = cli.provider(instance.provider)
        try:
            choice = wanted_transport(cli, instance, None)
            machine = open_machine(provider, instance, choice, cli.progress)
            _fetch_logs(cli, machine)
        except RunctlError as error:
            cli.progress.warn(
                f"the logs of {', '.join(one.id for one in records)} could not be fetched, and go with"
                f" {instance.id}: {error.message}"
            )


def _fetch_logs(cli: Cli, machine: Machine) -> None:
    for status in machine.agent.attempts():
        if status.log_bytes > FETCHED_BYTES:
            cli.progress.warn(
                f"of the log of {status.run_id} only the last {size(FETCHED_BYTES)} are fetched"
            )
        known = cli.store.find(status.run_id)
        if known is None or (known.attempt <= status.attempt and not known.has_ended):
            cli.store.put(adopt(cli, machine, status))
        fetched = fetch_log(machine, status, cli.logs, cli.progress.warn)
        if fetched:
            cli.progress.note(
                f"fetched the log of {status.run_id} ({size(fetched)}): runctl runs logs {status.run_id}"
            )


def _print(cli: Cli, output: LogOutput, record: RunRecord, tail: int | None) -> None:
    pieces = list(cli.logs.read(record.id, record.attempt)) if tail is not None else None
    if pieces is not None:
        last = b"".join(data for _, data in pieces)
        rows = last.splitlines(keepends=True)
        shown = b"".join(rows[max(0, len(rows) - (tail or 0)) :]) if tail else b""
        stop = pieces[-1][0] + len(pieces[-1][1])
        sink = LogSink(cli, output, stop - len(shown), document=False)
        sink.write(shown)
        sink.finish()
        return
    before = 0
    sink = LogSink(cli, output, 0, document=False)
    for offset, data in cli.logs.read(record.id, record.attempt):
        if offset != before:
            sink.finish()
            cli.progress.warn(f"bytes {before} to {offset} of the log are missing here")
            sink = LogSink(cli, output, offset, document=False)
        sink.write(data)
        before = offset + len(data)
    sink.finish()


def _holes(kept: KeptLog) -> str:
    return ", ".join(f"bytes {hole.start} to {hole.stop} are missing" for hole in kept.holes)
