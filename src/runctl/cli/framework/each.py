"""Apply one command to several resources."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from runctl.cli.context import Cli
from runctl.core.errors import RunctlError

Resource = TypeVar("Resource")
Done = TypeVar("Done")


def for_each(
    cli: Cli,
    resources: Iterable[Resource],
    act: Callable[[Resource], Done],
    emit: Callable[[Sequence[Done]], None],
) -> None:
    """Do it to each; the rest are done though one fails.

    Those that succeeded are the command's result. The first error is raised at the end, the others are warned of.
    """
    done: list[Done] = []
    failed: list[RunctlError] = []
    for resource in resources:
        try:
            done.append(act(resource))
        except RunctlError as error:
            failed.append(error)
    if done or not failed:
        emit(done)
    for another in failed[1:]:
        cli.progress.warn(another.message)
    if failed:
        raise failed[0]
