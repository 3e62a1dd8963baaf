"""Options that say which machine to rent: those of every provider, and those that a plug-in describes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any, TypeVar

import click

from runctl._dataclasses import dataclass
from runctl.cli.framework.completion import types_of
from runctl.cli.framework.options import over_budget_option, with_options
from runctl.cli.framework.values import BUDGET, DURATION, GIB, MOUNT_POINT, TIMEOUT, WholeNumber, parse_tags
from runctl.cli.machines.capacity_options import NAMES, capacity_fields, capacity_options
from runctl.core.errors import UsageError
from runctl.core.text import with_article
from runctl.machines.instances import instance_request
from runctl.machines.session import Session
from runctl.providers.capacity import check_instance_type
from runctl.providers.instance_plans import InstanceRequest, VolumeMount
from runctl.providers.plugin import CreateOption, ProviderPlugin
from runctl.providers.registry import plugin

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class MachineOptions:
    """What the user wants of a new machine; what is ``None`` comes from the configuration."""

    instance_types: tuple[str, ...]
    """Any of them will do."""
    spot: bool | None
    data_volume_size: int | None
    """GiB."""
    data_mount_point: str
    root_volume_size: int | None
    """GiB."""
    zone: str | None
    project: str | None
    name: str | None
    tags: tuple[str, ...]
    """``KEY=VALUE``."""
    ttl: timedelta | None
    budget: Decimal | None
    """USD."""
    idle_timeout: timedelta | None
    """Zero: never."""
    capacity: Mapping[str, Any]
    """The values of `capacity_options`, by name."""
    own: Mapping[str, Any]
    """The values of the plug-in's options, by `parameter_of`."""

    def request(
        self, session: Session, provider: str, volumes: Sequence[VolumeMount], *, terminal: bool = False
    ) -> InstanceRequest:
        """The request to rent it; ``terminal``: somebody can be asked. Raises `UsageError`."""
        for name in self.instance_types:
            _check_type(provider, name)
        types = tuple(dict.fromkeys(self.instance_types))
        spot = session.defaults(provider).spot if self.spot is None else self.spot
        return instance_request(
            session,
            provider,
            spot=self.spot,
            project=self.project,
            volumes=volumes,
            data_volume_size_gib=self.data_volume_size,
            data_mount_point=self.data_mount_point,
            instance_type=types[0] if types else None,
            other_types=types[1:],
            root_volume_size_gib=self.root_volume_size,
            zone=self.zone,
            name=self.name,
            ttl=self.ttl,
            budget=self.budget,
            idle_timeout=self.idle_timeout,
            tags=parse_tags(self.tags, names=False),
            **capacity_fields(self.capacity, spot=spot, terminal=terminal),
            **request_fields(plugin(provider), self.own),
        )


def machine_options(provider: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds the options; the command gets them as the one parameter ``wanted``: `MachineOptions`."""
    described = plugin(provider)
    own_names = tuple(parameter_of(option) for option in described.create_options)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def gather(*arguments: Any, **given: Any) -> Any:
            wanted = MachineOptions(
                **{name: given.pop(name) for name in _SHARED},
                capacity={name: given.pop(name) for name in NAMES},
                own={name: given.pop(name) for name in own_names},
            )
            return function(*arguments, wanted=wanted, **given)

        return with_options(provider_options(described)(gather), _shared_options(provider))

    return decorate


_SHARED = (
    *(
        "instance_types",
        "spot",
        "data_volume_size",
        "data_mount_point",
        "root_volume_size",
        "zone",
        "project",
    ),
    *("name", "tags", "ttl", "budget", "idle_timeout"),
)
"""The fields of `MachineOptions` that are options of every provider."""


def _shared_options(provider: str) -> list[Callable[[Callable[..., Any]], Callable[..., Any]]]:
    return [
        click.option(
            "--instance-type",
            "instance_types",
            metavar="TYPE",
            multiple=True,
            shell_complete=types_of(provider),
            help="The instance type; repeat it to take whichever is available (default: the configuration's, or"
            " the provider's choice).",
        ),
        *capacity_options(),
        click.option(
            "--spot/--on-demand", default=None, help="The market to buy in; never changed silently."
        ),
        click.option(
            "--data-volume-size",
            type=GIB,
            metavar="GIB",
            help="Add a data disk of this size; it is deleted with the machine.",
        ),
        click.option(
            "--data-mount-point",
            type=MOUNT_POINT,
            default="/mnt/data",
            show_default=True,
            help="Where that disk is mounted.",
        ),
        click.option("--root-volume-size", type=GIB, metavar="GIB", help="Size of the root disk."),
        click.option(
            "--zone",
            "--availability-zone",
            metavar="ZONE",
            help="The availability zone; otherwise the volumes decide it.",
        ),
        click.option(
            "--project",
            metavar="NAME",
            help="The project to tag it with (default: the configuration's, or the folder's name).",
        ),
        click.option("--name", metavar="NAME", help="The machine's Name tag."),
        click.option("--tag", "tags", metavar="KEY=VALUE", multiple=True, help="A tag; repeatable."),
        click.option(
            "--ttl", type=DURATION, help="The machine ends itself after this long, whatever happens."
        ),
        click.option(
            "--budget",
            type=BUDGET,
            metavar="USD",
            help="The machine ends itself before it costs more than this, such as 25usd; for a run, all attempts"
            " together.",
        ),
        click.option(
            "--idle-timeout",
            type=TIMEOUT,
            metavar="DURATION|off",
            help="The machine ends itself after it has been idle for this long; never during a run that does something"
            " (default: 1h for machines that are not rented for a run).",
        ),
        over_budget_option,
    ]


def _check_type(provider: str, instance_type: str) -> None:
    try:
        check_instance_type(instance_type)
    except ValueError as error:
        message, how = error.args
        raise UsageError(message, hint=how) from error
    ids = plugin(provider).ids
    own = next((each for each in ids if each.claims(instance_type)), None)
    if own is not None:
        raise UsageError(
            f"{instance_type} is {with_article(own.kind)}, and an instance type is needed here",
            hint=f"runctl {provider} create --help",
        )


def provider_options(plugin: ProviderPlugin) -> Callable[[F], F]:
    """Adds the plug-in's options to the command, which gets them by `parameter_of`."""

    def decorate(function: F) -> F:
        for option in reversed(plugin.create_options):
            function = click.option(
                option.flag,
                parameter_of(option),
                metavar=option.metavar,
                multiple=option.repeatable,
                type=None if option.least is None else WholeNumber(option.least, option.most),
                help=option.help,
            )(function)
        return function

    return decorate


def parameter_of(option: CreateOption) -> str:
    """The name under which click hands the option's value on."""
    return option.flag.lstrip("-").replace("-", "_")


def request_fields(plugin: ProviderPlugin, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options' values as fields of an `InstanceRequest`: their own, or ``options`` for those that have none."""
    fields: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for option in plugin.create_options:
        value = given[parameter_of(option)]
        if option.field is not None:
            fields[option.field] = value
        elif value not in (None, ()):
            others[option.flag.lstrip("-")] = value
    return {**fields, "options": others}


def sections_with(
    plugin: ProviderPlugin, sections: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """The sections of help with the plug-in's options in them."""
    found = dict(sections)
    for option in plugin.create_options:
        found[option.section] = (*found.get(option.section, ()), option.flag)
    return {title: options for title, options in found.items() if options}
