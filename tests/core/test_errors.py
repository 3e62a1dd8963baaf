"""Which errors a moment mends, whoever made them; and what is said in them afterwards."""

from __future__ import annotations

import pytest

from runctl.core.errors import (
    CapacityError,
    MachineError,
    OutcomeUnknown,
    ProviderError,
    RunctlError,
    Unreachable,
    add_fact,
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


def test_what_is_added_to_an_error_stands_in_all_that_is_shown_of_it() -> None:
    error = Unreachable("it does not answer", hint="look at the network")

    error.reword(f"rank 1: {error.message}")
    error.add_hint("--force goes on without it")
    add_fact(error, "rank 0 was given back", "try again")

    assert error.message == str(error) == "rank 1: it does not answer; rank 0 was given back"
    assert error.hint == "try again; look at the network; --force goes on without it"


def test_a_hint_of_an_error_that_had_none_stands_alone() -> None:
    error = MachineError("it refuses")

    error.add_hint("repeat the command")

    assert error.hint == "repeat the command"
