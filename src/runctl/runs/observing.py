"""What a dashboard shows, asked over and over: machines, runs with what they use and how often they were interrupted,
and what all of it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from runctl._dataclasses import dataclass
from runctl.agent.end_reason import EndReason
from runctl.agent.spec import AttemptStatus
from runctl.core.clock import Clock, SystemClock
from runctl.core.progress import Silent
from runctl.core.run_models import Run
from runctl.machines.session import Session
from runctl.runs.asking import refresh
from runctl.runs.costs import with_ledger_costs
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.shown_run import as_run
from runctl.runs.records.store import run_store
from runctl.runs.status import Status, status

CLOUD_EVERY = timedelta(minutes=1)
"""How often providers are asked what exists; machines are asked about their runs each time."""
SHOWN_AFTER_END = timedelta(days=1)
MOST_RUNS = 50


@dataclass(frozen=True)
class Usage:
    """What a run uses of its machine."""

    cpu_percent: float | None
    """Of one processor: since the machine was asked before, the first time since the script began."""
    gpu_percent: float | None
    """Mean of the machine's GPUs now; ``None``: it has none."""
    rss_bytes: int | None


@dataclass(frozen=True)
class WatchedRun:
    """A run that goes on, or has ended within a day."""

    run: Run
    usage: Usage | None
    """``None``: it does not run, or its machine did not say."""
    interruptions: int
    """Attempts that ended because their machine was taken back."""
    move_advised_at: datetime | None
    """When the provider recommended to leave the machine."""
    machine_ends_at: datetime | None
    """When the provider takes the machine back; ``None`` while it may stay."""


@dataclass(frozen=True)
class Observation:
    """All of it at one moment."""

    status: Status
    runs: tuple[WatchedRun, ...]
    """Newest first."""
    problems: tuple[str, ...]
    """What could not be asked, and why; a sentence each."""


class Observer:
    """Asks what goes on, and knows what it heard before. For one thread."""

    def __init__(
        self, session: Session, *, cloud_every: timedelta = CLOUD_EVERY, clock: Clock | None = None
    ) -> None:
        self._clock = clock or SystemClock()
        self._cloud_every = cloud_every
        self._warnings = _Warnings()
        self._session = session.apart(self._warnings)
        self._asked_cloud: datetime | None = None
        self._cloud_problems: tuple[str, ...] = ()
        self._statuses: Mapping[str, AttemptStatus] = {}

    def known(self) -> Observation:
        """What this computer knows, at once: nobody is asked."""
        return self._observation(status(cached=True, session=self._session, clock=self._clock), asking=False)

    def observe(self, *, everything: bool = False) -> Observation:
        """What goes on now. Machines are asked about their runs; providers if their time has come, or for
        ``everything``. Raises `ConfigError`, `StateError`; who cannot be asked is among the problems."""
        now = self._clock.now()
        due = self._asked_cloud is None or now - self._asked_cloud >= self._cloud_every
        found = status(
            cached=not (due or everything), asks_machines=False, session=self._session, clock=self._clock
        )
        if due or everything:
            self._asked_cloud, self._cloud_problems = now, found.problems
        return self._observation(found, asking=True)

    def _observation(self, found: Status, *, asking: bool) -> Observation:
        now = self._clock.now()
        self._warnings.heard.clear()
        heard: dict[str, AttemptStatus] = {}

        def keep(record: RunRecord, told: AttemptStatus) -> None:
            heard[record.id] = told

        records = [
            record
            for record in run_store(self._session).list(limit=MOST_RUNS)
            if record.ended_at is None or now - record.ended_at < SHOWN_AFTER_END
        ]
        if asking:
            records = refresh(self._session, records, on_status=keep)
        before, self._statuses = self._statuses, heard
        runs = with_ledger_costs(self._session, [as_run(record, now) for record in records], now)
        problems = dict.fromkeys((*self._cloud_problems, *self._warnings.heard))
        return Observation(
            replace(found, problems=self._cloud_problems),
            tuple(watched(run, heard.get(run.id), before.get(run.id)) for run in runs),
            tuple(problems),
        )


def watched(run: Run, told: AttemptStatus | None, before: AttemptStatus | None = None) -> WatchedRun:
    """The run with what its machine says now, and said when it was asked before. Pure."""
    lost = [each for each in run.attempts if each.end_reason == EndReason.INTERRUPTED.value]
    over = run.end_reason is not None or told is None
    return WatchedRun(
        run=run,
        usage=None if over or told is None else _usage(told, before),
        interruptions=len(lost),
        move_advised_at=None if over or told is None else _moment(told.rebalance_at),
        machine_ends_at=None if over or told is None else _moment(told.machine_ends_at),
    )


def _usage(told: AttemptStatus, before: AttemptStatus | None) -> Usage | None:
    if told.pid is None:
        return None
    return Usage(_cpu_percent(told, before), told.gpu_percent, told.rss_bytes)


def _cpu_percent(told: AttemptStatus, before: AttemptStatus | None) -> float | None:
    """Between the two answers, by the machine's clock; what a process had used that has ended since counts for
    nothing."""
    if before is None or before.attempt != told.attempt:
        return told.cpu_percent
    if None in (told.cpu_seconds, before.cpu_seconds, told.now, before.now):
        return told.cpu_percent
    assert told.cpu_seconds is not None and before.cpu_seconds is not None  # noqa: S101 - looked at above
    assert told.now is not None and before.now is not None  # noqa: S101 - looked at above
    passed = told.now - before.now
    if passed <= 0:
        return told.cpu_percent
    return round(100 * max(0.0, told.cpu_seconds - before.cpu_seconds) / passed, 1)


def _moment(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)


class _Warnings(Silent):
    """Keeps what would have been warned of."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def warn(self, message: str) -> None:
        """It is a problem to be shown."""
        self.heard.append(message)
