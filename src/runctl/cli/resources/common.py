"""What the commands about resources share: which are meant, and what is said of those that could not be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from runctl.cleanup.listing import Selection
from runctl.cli.context import Cli
from runctl.cli.framework.options import Decorator, with_options
from runctl.cli.framework.values import DURATION, parse_tags
from runctl.core.text import counted
from runctl.providers.abilities.inventory import ResourceKind, Unread
from runctl.providers.registry import names

INCOMPLETE = 1
"""The exit code where something could not be read: what is shown is not all."""

PROVIDER = click.option("--provider", metavar="NAME", help="Only at this provider.")
EVERYONE = click.option(
    "--everyone",
    is_flag=True,
    help="Include what others created with runctl. It is shown only, never changed.",
)
_FILTERS: Sequence[Decorator] = (
    click.option(
        "--kind",
        "kinds",
        type=click.Choice([kind.value for kind in ResourceKind]),
        multiple=True,
        metavar="KIND",
        help=f"Only of this kind ({', '.join(kind.value for kind in ResourceKind)}). Repeatable.",
    ),
    click.option("--project", metavar="NAME", help="Only of this project."),
    click.option("--state", metavar="STATE", help="Only in this state, as the provider calls it."),
    click.option(
        "--older-than",
        "min_age",
        type=DURATION,
        metavar="TIME",
        help="Only what has existed for at least this long.",
    ),
    click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Only with this tag. Repeatable."),
    PROVIDER,
)


def filters(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that choose among resources."""
    return with_options(function, _FILTERS)


def selection(
    *,
    kinds: Sequence[str],
    project: str | None,
    state: str | None,
    min_age: Any,
    tags: Sequence[str],
    references: Sequence[str] = (),
) -> Selection:
    """What the options and arguments say."""
    return Selection(
        kinds=frozenset(map(ResourceKind, kinds)),
        project=project,
        state=state,
        older_than=min_age,
        tags=parse_tags(tags),
        references=tuple(references),
    )


def check_provider(name: str | None) -> None:
    """Raises click's error for a provider that is not installed."""
    if name is not None and name not in names():
        raise click.BadParameter(
            f"{name!r} is not a provider: there are {', '.join(names())}", param_hint="--provider"
        )


def warn_of_unread(cli: Cli, unread: Sequence[Unread]) -> int:
    """Say what could not be read; the exit code for that."""
    for each in unread:
        where = f" in {each.region}" if each.region else ""
        cli.progress.warn(f"{each.what}{where} could not be read: {each.reason}")
    if unread:
        cli.progress.warn(
            f"this list is not complete: {counted(len(unread), 'part')} of it could not be read, which does not mean"
            " that there is nothing"
        )
    return INCOMPLETE if unread else 0
