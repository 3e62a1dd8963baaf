"""Who or what ended a run, told as it was."""

from __future__ import annotations

import pytest

from runctl.agent.attempt.watchers.supervisor_signal import (
    is_notice,
    signalled_notice,
    signalled_request,
    why_stopped,
)
from runctl.agent.end_reason import EndReason
from runctl.agent.interruption import MOST_PUBLISH_SECONDS, RESERVE_SECONDS, plan_end
from runctl.agent.spec import NOTICE_BY_SHUTDOWN, NOTICE_BY_SIGTERM

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("down", "said"),
    [(True, "the machine was shut down"), (False, "somebody on the machine")],
)
def test_a_signal_to_the_supervisor_has_its_true_cause(down: bool, said: str) -> None:
    assert said in why_stopped(down)


@pytest.mark.parametrize(
    ("notice_by", "down", "taken_back"),
    [
        (None, False, False),
        (None, True, False),
        (NOTICE_BY_SHUTDOWN, False, False),
        (NOTICE_BY_SHUTDOWN, True, True),
        (NOTICE_BY_SIGTERM, False, True),
        (NOTICE_BY_SIGTERM, True, True),
    ],
)
def test_a_signal_is_the_notice_where_there_is_no_other(
    notice_by: str | None, down: bool, taken_back: bool
) -> None:
    assert is_notice(notice_by, down) is taken_back


@pytest.mark.parametrize(
    ("down", "said"), [(True, "the machine shuts down"), (False, "SIGTERM to the run's")]
)
def test_a_script_has_its_own_grace_after_such_a_notice(down: bool, said: str) -> None:
    notice = signalled_notice(NOW, 30.0, 20.0, down)
    request = signalled_request(notice, 30.0, 20.0, NOW)
    assert (request.reason, request.grace_seconds) == (EndReason.INTERRUPTED, 30.0)
    assert request.message.startswith(said)
    assert not notice.is_rehearsal
    assert not notice.moves


@pytest.mark.parametrize("publish", [0.0, 60.0, 100.0])
@pytest.mark.parametrize("grace", [10.0, 30.0, 300.0])
def test_it_has_that_and_no_more_however_long_publishing_takes(grace: float, publish: float) -> None:
    notice = signalled_notice(NOW, grace, publish, True)
    assert signalled_request(notice, grace, publish, NOW).grace_seconds == grace


@pytest.mark.parametrize("publish", [0.0, 5.0, 30.0, 3600.0])
def test_publishing_has_some_time_and_not_more_than_the_machine_may_have(publish: float) -> None:
    grace = 30.0
    notice = signalled_notice(NOW, grace, publish, True)
    plan = plan_end(notice.machine_ends_at, NOW, has_volumes=True)
    left_by_the_grace = plan.publish - (NOW + grace)
    assert left_by_the_grace >= min(max(publish, 10.0), MOST_PUBLISH_SECONDS)
    # What the unit has until SIGKILL: see `start.systemd_command`.
    assert notice.machine_ends_at <= NOW + grace + MOST_PUBLISH_SECONDS + RESERVE_SECONDS
