"""Which errors a moment mends, whoever made them."""

from __future__ import annotations

import pytest

from runctl.core.errors import (
    CapacityError,
    MachineError,
    OutcomeUnknown,
    ProviderError,
    RunctlError,
    Unreachable,
    passes_by_itself,
)


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (Unreachable("it does not answer"), True),
        (OutcomeUnknown("the answer was lost"), True),
        (ProviderError("slow down", code="throttled"), True),
        (ProviderError("it may not"), False),
        (CapacityError("there is no machine"), False),
        (MachineError("it refuses"), False),
    ],
)
def test_who_does_not_answer_or_was_asked_too_often_may_answer_a_moment_later(
    error: RunctlError, passes: bool
) -> None:
    assert passes_by_itself(error) is passes
