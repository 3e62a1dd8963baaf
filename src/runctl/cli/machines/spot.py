"""``spot-prices`` and ``spot-advice``: what is known of spot capacity before anything is rented."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.completion import types_of
from runctl.cli.framework.values import WholeNumber
from runctl.core.clock import SystemClock
from runctl.providers.registry import plugin
from runctl.render.spot import advice_table, draw_prices, prices_table

MOST_DAYS = 90
"""So far back EC2's history goes."""


def _types(provider: str, count: int) -> str:
    return " ".join(plugin(provider).help_examples.instance_types[:count])


def prices_command(provider: str) -> click.Command:
    """``spot-prices`` of a provider."""

    @click.command(
        cls=Command,
        examples=[
            (f"runctl {provider} spot-prices {_types(provider, 2)} --days 30", "of two types, for a month")
        ],
    )
    @click.argument("types", metavar="TYPE...", nargs=-1, required=True, shell_complete=types_of(provider))
    @click.option(
        "--days",
        type=WholeNumber(1, MOST_DAYS, unit="days", singular="day"),
        default="7",
        show_default=True,
        help="How far to look back.",
    )
    @click.option(
        "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw it: .svg, .png or .pdf."
    )
    @click.pass_obj
    def command(cli: Cli, types: tuple[str, ...], days: int, plot: Path | None) -> None:
        """Show what spot machines cost in each zone, now and in the last days.

        The mean is weighted by how long each price held. With --output json every change is listed.
        """
        from runctl.machines.spot_market import spot_prices

        found = spot_prices(cli.session, provider, tuple(dict.fromkeys(types)), timedelta(days=days))
        if plot is not None:
            draw_prices(found, plot, SystemClock().now())
        cli.emit(found, text=lambda: prices_table(found))

    return command


def advice_command(provider: str) -> click.Command:
    """``spot-advice`` of a provider."""

    @click.command(
        cls=Command,
        examples=[(f"runctl {provider} spot-advice {_types(provider, 3)}", "where to try first")],
    )
    @click.argument("types", metavar="TYPE...", nargs=-1, required=True, shell_complete=types_of(provider))
    @click.pass_obj
    def command(cli: Cli, types: tuple[str, ...]) -> None:
        """Show where spot capacity is likely, the best first.

        Prices now, the provider's placement scores (1 to 10; low for fewer than three types) where the account may ask
        for them, and what this computer has seen: machines rented, refused and taken back.
        """
        from runctl.machines.spot_market import spot_advice

        found = spot_advice(cli.session, provider, tuple(dict.fromkeys(types)))
        if found.no_scores:
            cli.progress.note(found.no_scores)
        cli.emit(found.pools, text=lambda: advice_table(found.pools, SystemClock().now()))

    return command
