"""The call that ends something, to a provider that takes a repeated call for another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from runctl.core.errors import NotFound, OutcomeUnknown, RunctlError

T = TypeVar("T")


def end_once(
    delete: Callable[[], T], is_gone: Callable[[], bool], on_refusal: Callable[[], object]
) -> T | None:
    """What ``delete`` answers; ``None``: it was gone before, maybe by this call, whose first answer was lost.

    What is refused to a repeated call, the first one has done: ``is_gone`` asks the provider, and raises `NotFound`
    where it does not know the thing any more. Where the provider says nothing, it is not known to be gone. Raises what
    ``delete`` raises, after ``on_refusal`` where nothing was changed.
    """
    try:
        return delete()
    except NotFound:
        return None
    except OutcomeUnknown:
        raise
    except RunctlError:
        if not _is_so(is_gone):
            on_refusal()
            raise
    return None


def _is_so(is_gone: Callable[[], bool]) -> bool:
    try:
        return is_gone()
    except NotFound:
        return True
    except RunctlError:
        return False
