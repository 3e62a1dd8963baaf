"""The script has had its time."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from runctl.agent.attempt.watchers.time_limit import TimeLimit
from runctl.agent.spec import RunSpec


def test_a_limit_is_said_in_full() -> None:
    spec = RunSpec("run-1", "train.py", timeout_seconds=1_000_001.0)
    watched: Any = SimpleNamespace(spec=spec, script_began=lambda: time.monotonic() - 1_000_001.0)

    request = TimeLimit(watched).stop_request()

    assert request is not None
    assert request.message == "the time limit of 1000001 s is over"
