"""A verb that a provider has not got: the command is there to say the provider's own reason."""

from __future__ import annotations

from typing import Any

import click

from runctl.cli.context import Cli
from runctl.cli.framework.command_table import ABILITY_OF
from runctl.cli.framework.commands import Command
from runctl.core.errors import Unsupported
from runctl.providers.interface import require


class _Anything(Command):
    """Takes whatever the verb takes elsewhere."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Nothing that follows is looked at, but ``--help`` and the global options."""
        ctx.ignore_unknown_options = ctx.allow_extra_args = True
        click.Command.parse_args(self, ctx, args)
        return []


def refused_command(argument: str) -> click.Command:
    """The command for ``PROVIDER VERB``."""
    provider, verb = argument.split()

    @click.command(cls=_Anything, help=f"Say why {provider} has no {verb}.")
    @click.pass_obj
    def command(cli: Cli, /, **_: Any) -> None:
        require(getattr(cli.provider(provider), ABILITY_OF[verb]))
        raise Unsupported(f"{provider} has no command {verb!r}")

    return command
