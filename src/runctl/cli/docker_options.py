"""Options that say which Dockerfile an image is built from, how, and where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def dockerfile_options(function: F) -> F:
    """The parameters ``dockerfile`` and ``dockerfile_search``."""
    for option in reversed(
        (
            click.option(
                "--dockerfile",
                metavar="PATH",
                type=click.Path(path_type=Path),
                help="Build from this Dockerfile of the project; else [docker] dockerfile_path, else a known place.",
            ),
            click.option(
                "--dockerfile-search",
                is_flag=True,
                help="Without one at the known places, look in all of the project that is not ignored.",
            ),
        )
    ):
        function = option(function)
    return function
