"""Runs and attempts as text for people."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from runctl.agent.after_run import MachineEnd
from runctl.agent.checkpoint_spec import CheckpointStatus
from runctl.agent.end_reason import RETRIED, EndReason
from runctl.agent.object_store import is_address
from runctl.agent.spec import AttemptStatus
from runctl.core.machine_models import Market
from runctl.core.money import hourly, usd
from runctl.core.names import project_of
from runctl.core.run_models import (
    FetchedResults,
    GitState,
    GroupPhase,
    MachineAfterRun,
    NewestCheckpoint,
    Run,
    RunAttempt,
    RunNode,
    UnattendedRun,
)
from runctl.core.text import counted, size, time_span
from runctl.render.deadlines import deadline_fields, progress_columns, progress_text
from runctl.render.tables import PLAIN, WIDE, Column, Screen, details, fit, table

_FILES_SHOWN = 10
_REASON_SHOWN = 120
"""Characters of why an attempt ended."""


def runs_table(runs: Sequence[Run], *, screen: Screen = PLAIN) -> str:
    """One line a run."""
    return fit(
        [
            Column("ID", [run.id for run in runs]),
            Column("NAME", [run.name for run in runs], 1, cut=True),
            Column("STATE", [state_text(run) for run in runs], is_state=True),
            Column("SCRIPT", [command_line(run) for run in runs], 2, cut=True),
            Column("PROJECT", [project_of(run.project) for run in runs], 4),
            Column("INSTANCE", [_instance(run) for run in runs], 5 if screen.width else WIDE),
            Column(
                "STARTED (UTC)",
                [f"{run.started_at:%Y-%m-%d %H:%M}" if run.started_at else None for run in runs],
                6 if screen.width else WIDE,
            ),
            Column("TIME", [_elapsed(run) for run in runs], 3, right=True),
            *progress_columns(runs),
            Column("COST", [None if run.cost is None else usd(run.cost) for run in runs], 3, right=True),
        ],
        screen,
    )


def state_text(run: Run) -> str:
    """The state; of a run that has ended its reason, with the code of a script that failed."""
    group = run.unattended
    if group is not None and group.phase is GroupPhase.RENTING:
        return f"{run.end_reason or run.state.value}, no machine yet"
    if run.end_reason is None:
        return _with_alarm(run.state.value, run.checkpoint)
    return f"{run.end_reason} {run.exit_code}" if run.exit_code else run.end_reason


def _with_alarm(state: str, newest: NewestCheckpoint | CheckpointStatus | None) -> str:
    if newest is None or not (newest.late_seconds or newest.trouble):
        return state
    return f"{state}, checkpoint {'late' if newest.late_seconds else 'not published'}"


def _newest(run: Run) -> str | None:
    """The newest checkpoint, whether it is in the store, and whether it is late."""
    newest = run.checkpoint
    if newest is None:
        return None
    parts = ["none" if newest.path is None else newest.path.rpartition("/")[2]]
    if newest.saved_at is not None:
        parts.append(f"saved {newest.saved_at:%Y-%m-%d %H:%M:%S} UTC")
    if newest.published_at is not None:
        parts.append(f"published {newest.published_at:%H:%M:%S}")
    elif run.store is not None and newest.path is not None:
        parts.append("not published")
    if newest.late_seconds:
        parts.append(f"LATE by {time_span(timedelta(seconds=newest.late_seconds))}")
    if newest.trouble:
        parts.append(newest.trouble)
    return ", ".join(parts)


def _instance(run: Run) -> str:
    if run.unattended is not None:
        return f"{run.instance_id or 'none yet'} (unattended)"
    return run.instance_id if run.machine_end is None else f"{run.instance_id} (rented for it)"


def command_line(run: Run) -> str:
    """What the script was started as."""
    return shlex.join([*run.interpreter, *([run.script] if run.script else []), *run.args])


def _elapsed(run: Run) -> str | None:
    return None if run.elapsed_seconds is None else time_span(timedelta(seconds=run.elapsed_seconds))


def run_details(run: Run, *, is_there: Callable[[str], bool] = lambda _folder: True) -> str:
    """Everything about one run, and what is needed to repeat it.

    ``is_there``: whether this computer has the folder still.
    """
    known = _fetched(run)
    fetched = known.folder if known is not None and is_there(known.folder) else None
    market = run.market if run.market != Market.OWNED else None
    where = [run.provider, run.instance_name, run.instance_type, market, run.region]
    fields: dict[str, str | None] = {
        "id": run.id,
        "name": run.name,
        "state": run.state.value,
        "end": " ".join(filter(None, [run.end_reason, f"({run.message})" if run.message else None])) or None,
        "exit code": None if run.exit_code is None else str(run.exit_code),
        "instance": f"{run.instance_id or 'none yet'} ({', '.join(filter(None, where))})",
        "engine": run.engine and f"{run.engine}, on {len(run.nodes)} machines",
        **_group(run),
        "rented": None
        if run.machine_end is None
        else f"for this run; ends {machine_end_text(run.machine_end)}",
        "project": project_of(run.project),
        "git": _git(run.git),
        "changed": _changed(run.git),
        "script": run.script,
        "arguments": shlex.join(run.args) or None,
        "interpreter": shlex.join(run.interpreter) or None,
        "folder": run.workdir,
        "variables": ", ".join(run.variables) or None,
        "attempt": str(run.attempt),
        "image": run.image,
        "digest": run.image_digest,
        "time limit": time_span(timedelta(seconds=run.timeout_seconds)) if run.timeout_seconds else None,
        "created": f"{run.created_at:%Y-%m-%d %H:%M:%S} UTC",
        "started": f"{run.started_at:%Y-%m-%d %H:%M:%S} UTC" if run.started_at else None,
        "ended": f"{run.ended_at:%Y-%m-%d %H:%M:%S} UTC" if run.ended_at else None,
        "checkpoints": run.checkpoint_dir,
        "newest": _newest(run),
        "progress": progress_text(run.progress),
        **deadline_fields(run.deadline),
        "store": None if run.store is None else f"{run.store}/{run.id}",
        "output": run.output_dir,
        "results": _results(run, fetched),
        "log": _log(run, fetched),
        **_hand_off(run),
        "on demand": _fallback(run),
        "moved": _moved(run),
        "cost": None
        if run.cost is None
        else f"{usd(run.cost)} for the instance{'' if run.end_reason else ' so far'}",
    }
    mounts = [
        [mount.source, mount.target, "ro" if mount.read_only else "rw", mount.volume_id, mount.origin]
        for mount in run.mounts
    ]
    text = details(fields)
    if mounts:
        text += "\n\n" + table(["SOURCE", "TARGET", "MODE", "VOLUME", "FROM"], mounts)
    if run.nodes:
        text += "\n\n" + nodes_of_run(run.nodes)
    return text + ("\n\n" + attempts_of_run(run.attempts) if len(run.attempts) > 1 else "")


def _group(run: Run) -> dict[str, str | None]:
    """What rents the machines of a run that nobody watches, and why there is none."""
    group = run.unattended
    if group is None:
        return {}
    told = {
        GroupPhase.PLANNED: f"does not exist yet: the same command makes it, or runctl runs stop {run.id}",
        GroupPhase.RENTING: "asks for a machine",
        GroupPhase.HAS_MACHINE: _with_machines(group, has_ended=run.end_reason is not None),
        GroupPhase.IDLE: f"is to have no machine: runctl runs stop {run.id} removes it",
        GroupPhase.ENDING: "is ending",
        GroupPhase.GONE: _gone(run, group),
    }
    return {
        "unattended": f"{group.group} {told[group.phase]}",
        "suspended": ", ".join(group.suspended) or None,
        "said": "; ".join(group.activities) or None,
    }


def _gone(run: Run, group: UnattendedRun) -> str:
    if run.end_reason is not None and EndReason(run.end_reason) in RETRIED:
        return f"was deleted, and not by the run: nothing rents the next machine, but runctl runs recover {run.id}"
    return "is gone" if group.is_removed else "is gone; what is left: its machines' rights"


def _with_machines(group: UnattendedRun, *, has_ended: bool) -> str:
    if group.wanted > 1 and group.machines < group.wanted:
        return f"has {group.machines} of {group.wanted} machines, which wait for the others"
    has = "a machine" if group.wanted <= 1 else f"{group.machines} machines"
    if has_ended:
        takes = "which takes" if group.wanted <= 1 else "which take"
        ends = "ends" if group.wanted <= 1 else "end"
        return f"has {has}, {takes} the run up again or {ends} the group"
    return f"has {has}; rents the next one when {'that' if group.wanted <= 1 else 'one'} is taken back"


def nodes_of_run(nodes: Sequence[RunNode]) -> str:
    """One line a machine of a run that has several: how it ended there, and because of which other one."""
    return table(
        ["NODE", "INSTANCE", "ADDRESS", "STATE", "EXIT", "END", "BECAUSE OF", "MESSAGE"],
        [
            [
                str(each.rank),
                each.instance_id,
                each.address,
                each.state.value,
                None if each.exit_code is None else str(each.exit_code),
                each.end_reason,
                None if each.caused_by is None else f"node {each.caused_by}",
                each.message.splitlines()[0] if each.message else None,
            ]
            for each in nodes
        ],
    )


def attempts_of_run(attempts: Sequence[RunAttempt]) -> str:
    """One line an attempt: where it was, from which checkpoint to which, how and why it ended, what was done again."""
    return table(
        [
            "ATTEMPT",
            "INSTANCE",
            "TYPE",
            "MARKET",
            "ZONE",
            "USD/H",
            "FROM",
            "TO",
            "END",
            "DONE AGAIN",
            "BECAUSE",
        ],
        [
            [
                str(each.attempt),
                each.instance_id,
                each.instance_type,
                each.market,
                each.zone,
                None if each.price_per_hour is None else f"{each.price_per_hour:f}",
                _checkpoint_text(each.resumed_from, each.resumed_step) or "the beginning",
                _checkpoint_text(each.checkpoint, each.step),
                each.end_reason,
                None if each.lost_seconds is None else time_span(timedelta(seconds=each.lost_seconds)),
                _because(each.message),
            ]
            for each in attempts
        ],
    )


def _because(message: str) -> str | None:
    """The first line of why an attempt ended; JSON has all of it."""
    first, *_ = message.splitlines() or [""]
    return (first if len(first) <= _REASON_SHOWN else f"{first[: _REASON_SHOWN - 1]}…") or None


def _fallback(run: Run) -> str | None:
    """The attempts that were to be on spot machines, and how much more each costs."""
    told = []
    for each in run.attempts:
        if each.fallback is None:
            continue
        spot, price = each.fallback.spot_price_per_hour, each.price_per_hour
        more = f", {hourly(price - spot)} more" if spot is not None and price is not None else ""
        told.append(f"attempt {each.attempt}, as no spot machine was available{more}")
    return "; ".join(told) or None


def _moved(run: Run) -> str | None:
    """The volumes that have followed the run, and which is kept."""
    told = [
        f"{moved.name or moved.volume_id} from {moved.zone} to {moved.to_zone} for attempt {moved.attempt}"
        f" ({moved.to_volume_id} has the data of {moved.filled_from or moved.volume_id})"
        for moved in run.moved_volumes
    ]
    return "; ".join(told) or None


def _checkpoint_text(name: str | None, step: int | None) -> str | None:
    return f"step {step}" if name is not None and step is not None else name


def _hand_off(run: Run) -> dict[str, str | None]:
    """The story of an interruption: how long after the notice each stage was reached, and what is left."""
    given = run.hand_off
    if given is None:
        return {}
    heard = given.stages.get("heard")
    how = "rehearsed" if given.is_rehearsal else "heard"
    after = [
        f"{stage.replace('_', ' ')} {(at - heard).total_seconds():.1f} s"
        for stage, at in given.stages.items()
        if heard is not None and stage != "heard"
    ]
    saved = None
    if given.checkpoint is not None:
        step = f", step {given.step}" if given.step is not None else ""
        checksum = f", SHA-256 {given.sha256}" if given.sha256 else ""
        saved = f"{given.checkpoint}{step}{checksum}"
    return {
        "notice": f"{how} {heard:%Y-%m-%d %H:%M:%S} UTC, of an end at {given.machine_ends_at:%H:%M:%S}"
        if heard
        else None,
        "then": ", ".join(after) or None,
        "handed over": saved,
        "not done": "; ".join(given.left) or None,
    }


def machine_end_text(
    end: MachineEnd | MachineAfterRun, price_per_hour: Decimal | None = None, ttl: timedelta | None = None
) -> str:
    """When a machine that was rented for a run ends, and what waiting for that costs at the most.

    ``ttl``: after how long it ends in any case, from its creation.
    """
    if end.keep:
        return "when it is terminated; until then it is billed"
    text = "by itself when the run has ended"
    if end.results_url is not None:
        text += f" and its results are in {end.results_url}"
    elif end.fetch_within_seconds > end.read_within_seconds:
        text += " and its results were fetched; if nobody fetches them,"
        text += f" {time_span(timedelta(seconds=end.fetch_within_seconds))} after the run"
        if price_per_hour is not None:
            seconds = min(end.fetch_within_seconds, ttl.total_seconds() if ttl else end.fetch_within_seconds)
            cost = price_per_hour * Decimal(str(seconds)) / 3600
            text += f" ({usd(cost)} at most)"
    if end.keep_on_failure_seconds:
        stays = time_span(timedelta(seconds=end.keep_on_failure_seconds))
        text += f"; stays for {stays} if the run does not complete"
    return text


def _fetched(run: Run) -> FetchedResults | None:
    """Where what the newest attempt wrote was brought to."""
    return run.fetched if run.fetched is not None and run.fetched.attempt == run.attempt else None


def _results(run: Run, fetched: str | None) -> str | None:
    """Where they are, as far as they were brought to this computer, or how they come."""
    known, brings = _fetched(run), f"runctl runs results {run.id} brings them"
    stored = f"{run.results}/{run.id}" if run.results is not None and is_address(run.results) else None
    if fetched is not None:
        return fetched if stored is None else f"{fetched}, and {stored}"
    if known is not None:
        lost = f"brought to {known.folder} {known.fetched_at:%Y-%m-%d %H:%M} UTC, which is not there any more"
        return lost if stored is None else f"{stored} ({brings}); {lost}"
    return None if run.results is None else f"{run.results}/{run.id} ({brings})"


def _log(run: Run, fetched: str | None) -> str | None:
    """Where the log outlives the machine; runs logs looks at all of these places."""
    places = [f"in {run.store}/{run.id}"] if run.store else []
    if fetched is not None:
        places.append(f"{fetched}/logs/{run.attempt}.log")
    if run.saved_volume:
        places.append(f"{run.saved_folder}/logs/{run.attempt}.log on {run.saved_volume}")
    if run.hand_off is not None and not run.hand_off.is_rehearsal:
        # Its provider has taken the machine back, and its disk with it.
        return ", and ".join(places) or None
    if not run.instance_id:
        return ", and ".join(places) or None
    end = run.machine_end
    if places and run.end_reason is not None and end is not None and not end.keep:
        # It ends itself, and has nothing that is not there as well.
        return ", and ".join(places)
    if not places and run.end_reason is not None and end is not None and not end.keep:
        return (
            f"on {run.instance_id} until that ends; runctl runs logs {run.id} shows what is kept of it here"
        )
    if not places:
        return f"on {run.instance_id} alone" if run.market != Market.OWNED else f"on {run.instance_id}"
    return ", and ".join((*places, f"on {run.instance_id}"))


def _git(git: GitState | None) -> str | None:
    if git is None:
        return None
    commit = f"commit {git.commit}" if git.commit else "no commit yet"
    if not git.changed_count:
        return f"{commit}, nothing changed"
    return f"{commit}, {counted(git.changed_count, 'file')} changed or untracked"


def _changed(git: GitState | None) -> str | None:
    if git is None or not git.changed:
        return None
    more = git.changed_count - len(git.changed[:_FILES_SHOWN])
    return ", ".join(git.changed[:_FILES_SHOWN]) + (f" and {more} more" if more else "")


def attempts_table(attempts: Sequence[AttemptStatus], *, screen: Screen = PLAIN) -> str:
    """One line an attempt on one machine."""
    nodes = [None if status.rank is None else f"{status.rank} of {status.nodes}" for status in attempts]
    return fit(
        [
            Column("RUN", [status.run_id for status in attempts]),
            *([Column("NODE", nodes, 2)] if any(nodes) else []),
            Column("STATE", [_attempt_state(status) for status in attempts], is_state=True),
            Column("PID", [_number(status.pid) for status in attempts], 4, right=True),
            Column("CPU", [_percent(status.cpu_percent) for status in attempts], 2, right=True),
            Column(
                "MEMORY",
                [None if status.rss_bytes is None else size(status.rss_bytes) for status in attempts],
                2,
                right=True,
            ),
            Column("GPU", [_percent(status.gpu_percent) for status in attempts], 3, right=True),
            Column("TIME", [_age(status) for status in attempts], 2, right=True),
            Column("SCRIPT", [shlex.join([s.script, *s.args]) for s in attempts], 1, cut=True),
        ],
        screen,
    )


def _attempt_state(status: AttemptStatus) -> str:
    return _with_alarm(_state_text(status.state.value), status.checkpoint if status.end is None else None)


def _state_text(state: str) -> str:
    return state.lower().replace("_", "-")


def _number(value: int | None) -> str | None:
    return None if value is None else str(value)


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:.0f}%"


def attempt_document(status: AttemptStatus) -> Mapping[str, Any]:
    """An attempt in the JSON contract's words."""
    return {
        "run_id": status.run_id,
        "attempt": status.attempt,
        "node": status.rank,
        "nodes": status.nodes,
        "state": _state_text(status.state.value),
        "phase": status.phase,
        "script": status.script,
        "args": status.args,
        "pid": status.pid,
        "container_id": status.container_id,
        "cpu_percent": status.cpu_percent,
        "rss_bytes": status.rss_bytes,
        "gpu_percent": status.gpu_percent,
        "started_at": datetime.fromtimestamp(status.started_at, UTC) if status.started_at else None,
        "end_reason": status.end.reason.value if status.end else None,
        "exit_code": status.end.exit_code if status.end else None,
    }


def _age(status: AttemptStatus) -> str | None:
    if status.started_at is None:
        return None
    until = status.end.ended_at if status.end else status.now or status.started_at
    return time_span(timedelta(seconds=until - status.started_at))
