"""From an id or a name on the command line to an instance that can be used, and the way to it."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import click

from runctl.cli.context import Cli
from runctl.core.machine_models import Instance
from runctl.providers.registry import plugin, plugins

if TYPE_CHECKING:
    from runctl.transport.interface import Transport

F = TypeVar("F", bound=Callable[..., Any])


def instance_argument(provider: str) -> Callable[[F], F]:
    """The parameter ``instance_id``: an argument, or without one where there is only one instance."""

    def decorate(function: F) -> F:
        if plugin(provider).only_instance is not None:
            return function
        from runctl.cli.framework.completion import instances_of

        return click.argument("instance_id", metavar="INSTANCE", shell_complete=instances_of(provider))(
            function
        )

    return decorate


def transport_option(provider: str | None) -> Callable[[F], F]:
    """The parameter ``transport``: ``None`` leaves it to the configuration.

    Of the provider's transports; without a provider, of all that there are.
    """
    described = plugins() if provider is None else (plugin(provider),)
    names = dict.fromkeys(name for each in described for name in each.transports)
    return click.option(
        "--transport",
        type=click.Choice(["auto", *names]),
        help="How to reach the machine (default: chosen automatically).",
    )


def provider_of(cli: Cli, reference: str) -> str:
    """See `runctl.machines.finding.provider_of`."""
    from runctl.machines import finding

    return finding.provider_of(cli.session, reference)


def find_instance(cli: Cli, provider: str, reference: str | None = None) -> Instance:
    """See `runctl.machines.finding.find_instance`."""
    from runctl.machines import finding

    return finding.find_instance(cli.session, provider, reference)


def running_instance(cli: Cli, provider: str, reference: str | None = None) -> Instance:
    """See `runctl.machines.finding.running_instance`."""
    from runctl.machines import finding

    return finding.running_instance(cli.session, provider, reference)


def transport_to(cli: Cli, instance: Instance, choice: str | None) -> Transport:
    """The way to the machine: the flag's, else the configuration's, else chosen by the provider."""
    return cli.provider(instance.provider).transport(
        instance, wanted_transport(cli, instance, choice), cli.progress
    )


def wanted_transport(cli: Cli, instance: Instance, choice: str | None) -> str:
    """The flag's word, else the configuration's; ``auto`` leaves it to the provider."""
    from runctl.machines.machine import transport_choice

    return transport_choice(cli.session, instance, choice)


def own_stdin(*, skip: bool = False) -> BinaryIO | None:
    """What is piped into us; a terminal is not, so that nothing waits for keys that nobody presses."""
    if skip or sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        return None
    try:
        return sys.stdin.buffer
    except (AttributeError, io.UnsupportedOperation):
        return None
