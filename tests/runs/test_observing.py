"""What a dashboard is told of a run, from what its machine says now and said before."""

from __future__ import annotations

from dataclasses import replace

from runctl.core.run_models import Run
from runctl.runs.observing import WatchedRun, watched
from runctl.runs.records.shown_run import as_run
from tests.cli.top.observations import NOW, interrupted_before, told
from tests.runs.sample_runs import a_record


def a_run() -> Run:
    return as_run(a_record("run-a", "i-1", "2026-06-11 11:00", None), NOW)


def cpu(found: WatchedRun) -> float | None:
    assert found.usage is not None
    return found.usage.cpu_percent


def test_cpu_is_the_mean_at_first_and_then_what_was_used_since() -> None:
    now = told()
    assert now.now is not None
    before = told(now=now.now - 10, cpu_seconds=6475.0)
    assert cpu(watched(a_run(), now)) == 180
    assert cpu(watched(a_run(), now, before)) == 50
    # What has ended meanwhile, a machine whose clock was set back, another attempt, an agent that does not say it.
    assert cpu(watched(a_run(), told(cpu_seconds=6000.0), before)) == 0
    assert cpu(watched(a_run(), now, replace(before, now=now.now + 5))) == 180
    assert cpu(watched(a_run(), now, replace(before, attempt=2))) == 180
    assert cpu(watched(a_run(), now, replace(before, cpu_seconds=None))) == 180


def test_nothing_is_used_by_what_does_not_run() -> None:
    assert watched(a_run(), None).usage is None
    assert watched(a_run(), told(pid=None)).usage is None
    ended = as_run(a_record("run-a", "i-1", "2026-06-11 11:00", "2026-06-11 11:30"), NOW)
    assert watched(replace(ended, end_reason="FAILED"), told()).usage is None


def test_interruptions_are_counted_and_the_next_one_is_told() -> None:
    run = as_run(interrupted_before(a_record("run-a", "i-1", "2026-06-11 11:00", None)), NOW)
    found = watched(run, told(attempt=2, machine_ends_at=NOW.timestamp(), rebalance_at=NOW.timestamp()))
    assert (found.interruptions, found.machine_ends_at, found.move_advised_at) == (1, NOW, NOW)
