"""A verb that a provider has not got: the command is there to say the provider's own reason."""

from __future__ import annotations

from typing import Any

import click

from runctl.cli.context import Cli
from runctl.cli.framework.command_table import ABILITY_OF
from runctl.cli.framework.commands import Command
from runctl.core.errors import Unsupported
from runctl.providers.interface import require
from runctl.providers.registry import command as command_line
from runctl.providers.registry import volume_creation


class _Anything(Command):
    """Takes whatever the verb takes elsewhere."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Nothing that follows is looked at, but ``--help`` and the global options."""
        ctx.ignore_unknown_options = ctx.allow_extra_args = True
        click.Command.parse_args(self, ctx, args)
        return []


def refused_command(argument: str) -> click.Command:
    """The command for ``PROVIDER VERB`` or ``PROVIDER GROUP VERB``."""
    provider, _, verb = argument.partition(" ")

    @click.command(cls=_Anything, help=f"Say why {provider} has no {verb}.")
    @click.pass_obj
    def command(cli: Cli, /, **_: Any) -> None:
        found = cli.provider(provider)
        require(getattr(found, ABILITY_OF.get(verb, "volumes")))
        if not isinstance(found.volumes, Unsupported) and found.volumes.chosen_at_creation:
            if verb.endswith(" create"):
                raise Unsupported(
                    f"volumes of {provider} are created with a machine",
                    hint=volume_creation(provider),
                )
            raise Unsupported(
                f"a machine of {provider} has the volume that it was made with, for as long as it is there",
                hint=f"choose it then: {command_line(provider, 'create', '--volume', 'NAME:/PATH')}",
            )
        raise Unsupported(f"{provider} has no command {verb!r}")

    return command
