"""What is told to a machine of how it hears that it is taken back."""

from __future__ import annotations

import pytest

from runctl.agent.spec import NOTICE_BY_SHUTDOWN, NOTICE_BY_SIGTERM
from runctl.runs.train.start import notice_by


@pytest.mark.parametrize(
    ("market", "announced", "expected"),
    [
        ("owned", False, NOTICE_BY_SIGTERM),
        ("spot", False, NOTICE_BY_SHUTDOWN),
        ("spot", True, None),
        ("on-demand", False, None),
        ("on-demand", True, None),
        (None, False, None),
    ],
)
def test_a_signal_is_the_notice_where_the_provider_gives_none(
    market: str | None, announced: bool, expected: str | None
) -> None:
    assert notice_by(market, announced) == expected
