"""Who or what ended a run, told as it was."""

from __future__ import annotations

import pytest

from runctl.agent.attempt.watchers.supervisor_signal import why_stopped


@pytest.mark.parametrize(
    ("down", "said"),
    [(True, "the machine was shut down"), (False, "somebody on the machine")],
)
def test_a_signal_to_the_supervisor_has_its_true_cause(down: bool, said: str) -> None:
    assert said in why_stopped(down)
