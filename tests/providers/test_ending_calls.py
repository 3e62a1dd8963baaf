"""What is ended once is ended, whatever a repeated call is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runctl.core.errors import Conflict, NotFound, OutcomeUnknown, RunctlError, Unreachable
from runctl.providers.ending_calls import end_once


def raising(error: RunctlError) -> Callable[[], bool]:
    def call() -> bool:
        raise error

    return call


def never() -> bool:
    raise AssertionError("nobody asks")


def test_what_is_ended_by_the_call_is_answered() -> None:
    assert end_once(lambda: "detached", never, never) == "detached"


def test_what_is_not_known_any_more_was_ended_before() -> None:
    assert end_once(raising(NotFound("no such pod")), never, never) is None


@pytest.mark.parametrize("is_gone", [lambda: True, raising(NotFound("no such pod"))])
def test_what_is_refused_to_a_repeated_call_the_first_one_has_done(is_gone: Callable[[], bool]) -> None:
    assert end_once(raising(Conflict("it is ending")), is_gone, never) is None


@pytest.mark.parametrize("is_gone", [lambda: False, raising(Unreachable("no answer"))])
def test_a_refusal_counts_where_it_is_not_known_to_be_gone(is_gone: Callable[[], bool]) -> None:
    told = list[str]()

    with pytest.raises(Conflict):
        end_once(raising(Conflict("it is in use")), is_gone, lambda: told.append("stays"))

    assert told == ["stays"]


def test_a_call_that_may_have_been_carried_out_was_not_refused() -> None:
    with pytest.raises(OutcomeUnknown):
        end_once(raising(OutcomeUnknown("no answer")), never, never)
