"""``extend``: more time, or less, for a machine that ends itself."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.values import BUDGET_OR_OFF, TIMEOUT
from runctl.cli.machines.instances import emit_instance
from runctl.cli.machines.resolve import find_instance, instance_argument, transport_option


def extend_command(provider: str) -> click.Command:
    """``extend`` of a provider."""

    @click.command(
        cls=Command,
        examples=[
            (f"runctl {provider} extend dev --ttl 4h", "four hours from now on"),
            (f"runctl {provider} extend dev --idle-timeout off", "it stays although nobody uses it"),
        ],
    )
    @instance_argument(provider)
    @click.option("--ttl", type=TIMEOUT, metavar="DURATION|off", help="It ends this long from now.")
    @click.option(
        "--budget",
        type=BUDGET_OR_OFF,
        metavar="USD|off",
        help="It ends before it has cost more since it was created.",
    )
    @click.option(
        "--idle-timeout",
        type=TIMEOUT,
        metavar="DURATION|off",
        help="It ends when nothing has used it for so long.",
    )
    @transport_option(provider)
    @click.pass_obj
    def command(
        cli: Cli,
        ttl: timedelta | None,
        budget: Decimal | None,
        idle_timeout: timedelta | None,
        transport: str | None,
        instance_id: str,
    ) -> None:
        """Change when an instance ends itself; limits that are not named stay as they are."""
        from runctl.machines.limits import NewLimits, extend

        instance = find_instance(cli, provider, instance_id)
        emit_instance(cli, extend(cli.session, instance, NewLimits(ttl, budget, idle_timeout), transport))

    return command
