"""From an id or a name on the command line to an instance that can be used, and the way to it."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import click

from runctl.cli.context import Cli
from runctl.cli.framework.values import instance_id_in
from runctl.core.errors import Conflict, NotFound, UsageError
from runctl.core.ids import InstanceId
from runctl.core.models import Instance, InstanceState
from runctl.core.names import did_you_mean
from runctl.core.tags import NAME
from runctl.providers.registry import DEFAULT, owner_of, plugin, plugins

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
        help="The way to the machine, if not chosen by itself.",
    )


def provider_of(cli: Cli, reference: str) -> str:
    """Whose instance an id or a name is, where a command does not say.

    That is told from the id's form, then from the names that providers know without asking anybody; else it is the
    default provider's.
    """
    by_form = owner_of(reference)
    known = (each.name for each in plugins() if reference in each.known_instances(cli.config))
    return by_form or next(known, DEFAULT)


def find_instance(cli: Cli, provider: str, reference: str | None = None) -> Instance:
    """The instance as it is now, by its id or its name; without either, the provider's only one.

    Names are compared as they are written; instances that have ended have none any more. Raises `UsageError` (code
    ``ambiguous`` where several have the name), `NotFound`.
    """
    return instance_finder(cli, provider)(reference or plugin(provider).only_instance or "")


def instance_finder(cli: Cli, provider: str) -> Callable[[str], Instance]:
    """`find_instance` for several references; the instances are listed once for all."""
    machines = cli.provider(provider)
    listed = cache(machines.instances)

    def find(reference: str) -> Instance:
        identifier = instance_id_in(provider, reference)
        return _called(reference, listed(), provider) if identifier is None else machines.instance(identifier)

    return find


def instance_ids(cli: Cli, provider: str, references: Iterable[str]) -> list[InstanceId]:
    """The ids of instances that are named by id or name, each once; a provider is asked only about names.

    Raises as `find_instance` does, before anything is done to any of them.
    """
    known: Sequence[Instance] | None = None
    found: dict[InstanceId, None] = {}
    for reference in references:
        identifier = instance_id_in(provider, reference)
        if identifier is None:
            known = cli.provider(provider).instances() if known is None else known
            identifier = _called(reference, known, provider).id
        found[identifier] = None
    return list(found)


def _called(name: str, instances: Sequence[Instance], provider: str) -> Instance:
    """The one instance of that name. Pure. Raises `NotFound`, `UsageError`."""
    matching = [instance for instance in instances if instance.tags.get(NAME) == name]
    if len(matching) > 1:
        raise UsageError(
            f"several instances are called {name}: {', '.join(instance.id for instance in matching)}",
            hint="use the id of one of them",
            code="ambiguous",
        )
    if not matching:
        names = [instance.tags[NAME] for instance in instances if NAME in instance.tags]
        raise NotFound(
            f"there is no instance {name!r}",
            hint=did_you_mean(name, names)
            or f"runctl {provider} list shows instances with their ids and names",
            code="instance-not-found",
        )
    return matching[0]


def running_instance(cli: Cli, provider: str, reference: str | None = None) -> Instance:
    """The same, and it runs. Raises `Conflict` (code ``not-running``) with what to do about it."""
    instance = find_instance(cli, provider, reference)
    if instance.state is not InstanceState.RUNNING:
        hints = {
            InstanceState.STOPPED: f"runctl {provider} start {instance.id}",
            InstanceState.PENDING: f"runctl {provider} wait {instance.id}",
        }
        raise Conflict(
            f"{instance.id} is {instance.state.value}, not running",
            hint=hints.get(instance.state, f"runctl {provider} list shows those that run"),
            code="not-running",
        )
    return instance


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
