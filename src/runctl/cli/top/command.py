"""``top``: what runs and what it costs, live, with keys for what is done about it."""

from __future__ import annotations

import sys
from datetime import timedelta
from importlib.util import find_spec

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.extras import install_command
from runctl.cli.framework.values import DURATION
from runctl.core.errors import Unsupported, UsageError

LEAST_INTERVAL = timedelta(seconds=1)


@click.command(
    cls=Command,
    name="top",
    examples=[("runctl top --interval 1m", "ask machines once a minute")],
)
@click.option(
    "--interval",
    type=DURATION,
    default="10s",
    show_default=True,
    metavar="TIME",
    help="How often machines are asked about their runs; providers are asked once a minute at most.",
)
@click.pass_obj
def top_command(cli: Cli, *, interval: timedelta) -> None:
    """Watch machines, runs and costs, live.

    l shows the log of a run, s stops a run or a machine, t terminates a machine, each with the plan and the question
    of its command. r refreshes everything at once, Tab switches the table, q quits. Without a terminal, status shows
    the same once.
    """
    if find_spec("textual") is None:
        raise Unsupported(
            "the dashboard is drawn by Textual, which is not installed",
            hint=install_command("tui"),
            code="missing-extra",
        )
    if interval < LEAST_INTERVAL:
        raise UsageError("--interval is at least a second", hint="runctl top --interval 10s")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "a dashboard needs a terminal", hint="runctl status shows the same once", code="no-terminal"
        )
    from runctl.cli.top.actions import options
    from runctl.cli.top.app import TopApp
    from runctl.runs.observing import Observer

    cli.config  # noqa: B018 - a configuration that cannot be read is said before the screen is taken
    TopApp(lambda: Observer(cli.session), interval, options(cli.settings)).run()
