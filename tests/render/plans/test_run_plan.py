"""A run's plan in words."""

from __future__ import annotations

import pytest

from runctl.render.plans.run_plan import limit_text


@pytest.mark.parametrize(
    ("timeout", "grace", "text"),
    [
        (12 * 3600.0, 30.0, "12h00m, then SIGTERM and 30s of grace"),
        (12.0, 3600.0, "12s, then SIGTERM and 1h00m of grace"),
        (90.0, 300.0, "1m30s, then SIGTERM and 5m of grace"),
        (1_000_001.0, 187_800.0, "11d13h46m41s, then SIGTERM and 2d4h10m of grace"),
    ],
)
def test_a_limit_is_said_in_units_as_it_was_given(timeout: float, grace: float, text: str) -> None:
    assert limit_text(timeout, grace) == text
