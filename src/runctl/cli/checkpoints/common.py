"""What the commands about checkpoints share: how a source is named, and the words of the plan that is shown first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from runctl.cli.context import Cli
from runctl.cli.framework.completion import complete_runs
from runctl.runs.checkpoints.locations import Locations, find_locations

F = TypeVar("F", bound=Callable[..., Any])


def source_argument(name: str = "source", metavar: str = "SOURCE") -> Callable[[F], F]:
    """A place that has checkpoints."""
    return click.argument(name, metavar=metavar, shell_complete=complete_runs)


def name_option(text: str) -> Callable[[F], F]:
    """``--name``: one checkpoint of several."""
    return click.option("--name", metavar="NAME", help=text)


def locations_of(
    cli: Cli, reference: str, transport: str | None = None, *, changes: bool = False
) -> Locations:
    """Where the checkpoints are, as `find_locations` says; what cannot be asked is told."""
    locations = find_locations(cli.session, reference, transport, changes=changes)
    for sentence in locations.elsewhere:
        cli.progress.warn(sentence)
    return locations
