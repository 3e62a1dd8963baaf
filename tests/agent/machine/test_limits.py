"""What the limits of a machine are after somebody has changed some of them."""

from __future__ import annotations

from typing import Any

import pytest

from runctl.agent.guard.limits import Limits
from runctl.agent.machine.limits import changed

KNOWN = Limits(
    ttl_seconds=7200.0, budget_seconds=3600.0, budget="$5.00", idle_seconds=600.0, unused_seconds=900.0
)


@pytest.mark.parametrize(
    ("changes", "off", "expected"),
    [
        # More time counts from now on, and a budget from the machine's creation on.
        ({"ttl_seconds": 1800}, [], (2800.0, 3600.0, "$5.00", 600.0)),
        ({"budget_seconds": 9000.0, "budget": "$12.50"}, [], (7200.0, 9000.0, "$12.50", 600.0)),
        ({"idle_seconds": 60.0}, ["ttl_seconds"], (None, 3600.0, "$5.00", 60.0)),
        ({}, ["budget_seconds", "idle_seconds"], (7200.0, None, "", None)),
        # It is no limit of a person's.
        ({}, ["unused_seconds"], (7200.0, 3600.0, "$5.00", 600.0)),
    ],
)
def test_only_what_is_named_is_changed(
    changes: dict[str, Any], off: list[str], expected: tuple[Any, ...]
) -> None:
    found = changed(KNOWN, changes, off, 1000.0)
    assert (found.ttl_seconds, found.budget_seconds, found.budget, found.idle_seconds) == expected
    assert found.unused_seconds == 900.0
