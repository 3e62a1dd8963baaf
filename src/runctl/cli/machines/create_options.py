"""The options of ``create`` that a provider's plug-in describes, as click options and as fields of the request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from runctl.cli.framework.values import WholeNumber
from runctl.providers.plugin import CreateOption, ProviderPlugin

F = TypeVar("F", bound=Callable[..., Any])


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
