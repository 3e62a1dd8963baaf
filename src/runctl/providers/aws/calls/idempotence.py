"""A client token that AWS knows already: what was created with it is found, although it is not listed yet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from runctl.core.clock import Clock
from runctl.core.errors import Conflict
from runctl.core.waiting import attempts
from runctl.providers.aws.calls.errors import error_code

T = TypeVar("T")

USED = "IdempotentParameterMismatch"
"""AWS's code for a token that came with other parameters before: the time in a tag, say."""
LISTED_WITHIN = timedelta(minutes=1)


def call_once(call: Callable[[], T], find_result: Callable[[], T | None], clock: Clock) -> T:
    """The answer of ``call``; where its token was used before, what ``look`` finds of that.

    Raises what they raise, and `Conflict` (code ``token-spent``) where what it was used for is not there any more.
    """
    try:
        return call()
    except Exception as error:
        if error_code(error) != USED:
            raise
        for _ in attempts(clock, LISTED_WITHIN):
            found = find_result()
            if found is not None:
                return found
        raise Conflict(
            "what this request created earlier no longer exists",
            hint="run the same command again to create a new one",
            code="token-spent",
        ) from error
