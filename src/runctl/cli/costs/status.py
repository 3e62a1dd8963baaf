"""``status``: what runs now, and what costs."""

from __future__ import annotations

import sys

import click

from runctl.cli.context import Cli
from runctl.cli.costs.common import cached_option, warn_unsettled
from runctl.cli.framework.commands import Command
from runctl.cli.framework.values import wide_option


@click.command(
    cls=Command,
    name="status",
    examples=[("runctl status --cached", "what is known here, at once")],
)
@cached_option
@wide_option
@click.pass_obj
def status_command(cli: Cli, *, cached: bool, wide: bool) -> None:
    """Show what runs now, where, since when and at what price, and what was spent today and this month.

    Asks the cloud first, wherever something is running. What other computers have rented with the same account is
    shown too.
    """
    from runctl.render.status import status_text
    from runctl.render.tables import screen_of
    from runctl.runs.status import status

    found = status(cached=cached, session=cli.session)
    warn_unsettled(cli, found.problems)
    cli.emit(
        found,
        text=lambda: status_text(found, screen_of(sys.stdout, wide=wide)),
        ids=[machine.id for machine in found.machines],
    )
    if cached and found.seen_at is not None:
        cli.progress.note(f"as the cloud said at {found.seen_at:%Y-%m-%d %H:%M} UTC")
