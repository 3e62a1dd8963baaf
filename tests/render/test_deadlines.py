"""How far a run is, in words."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from runctl.core.run_models import RunProgress
from runctl.render.deadlines import done_text, progress_text

SEEN = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.mark.parametrize(("step", "text"), [(1_234_567.0, "1234567"), (0.5, "0.5")])
def test_a_step_is_said_in_full(step: float, text: str) -> None:
    known = RunProgress(step=step, total=2 * step, seen_at=SEEN, done=0.5, seconds_left=None)

    assert progress_text(known) == f"50.0% (step {text} of {2 * step:.15g})"
    assert done_text(known) == "50%"


def test_a_step_of_an_unknown_number_is_said_in_full() -> None:
    progress = RunProgress(step=1_234_567.0, total=None, seen_at=SEEN, done=None, seconds_left=None)

    assert progress_text(progress) == done_text(progress) == "step 1234567"
