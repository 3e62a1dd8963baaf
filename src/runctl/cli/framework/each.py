"""One command, several things."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from runctl.cli.context import Cli
from runctl.core.errors import RunctlError

Thing = TypeVar("Thing")
Done = TypeVar("Done")


def for_each(
    cli: Cli, things: Iterable[Thing], act: Callable[[Thing], Done], emit: Callable[[Sequence[Done]], None]
) -> None:
    """Do it to each; one that fails does not spare the others.

    Those that succeeded are the command's result. The first error is raised at the end, the others are warned of.
    """
    done: list[Done] = []
    failed: list[RunctlError] = []
    for thing in things:
        try:
            done.append(act(thing))
        except RunctlError as error:
            failed.append(error)
    if done or not failed:
        emit(done)
    for another in failed[1:]:
        cli.progress.warn(another.message)
    if failed:
        raise failed[0]
