"""Options: those that every command takes, those that may be empty, and many at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from runctl.cli.context import Cli

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def with_options(function: Callable[..., Any], options: Sequence[Decorator]) -> Callable[..., Any]:
    """The function with the options, in this order in its help."""
    for option in reversed(options):
        function = option(function)
    return function


class GlobalOption(click.Option):
    """An option that every command and group takes; the one nearest to the end of the line wins."""

    def __init__(self, *declarations: str, setting: str, **attributes: Any) -> None:
        super().__init__(
            [f"global_{setting}", *declarations],
            expose_value=False,
            callback=self._store,
            default=None,
            **attributes,
        )
        self.setting = setting

    def _store(self, ctx: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if value is not None and isinstance(ctx.obj, Cli):
            ctx.obj.settings = dataclasses.replace(ctx.obj.settings, **{self.setting: value})


def over_budget_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--over-budget`` of a command that rents."""

    def store(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
        if value and isinstance(ctx.obj, Cli):
            ctx.obj.settings = dataclasses.replace(ctx.obj.settings, over_budget=True)

    return click.option(
        "--over-budget",
        is_flag=True,
        expose_value=False,
        callback=store,
        help="Rent it even if it exceeds a limit of [budget] in the configuration; the ledger notes it.",
    )(function)


class MayBeEmpty(click.Option):
    """An option for which ``''`` means something."""


class MayBeBytes(click.Option):
    """An option whose value goes to a program as it is, UTF-8 or not."""


def global_options() -> list[click.Parameter]:
    """Fresh ones, for one command."""
    return [
        GlobalOption(
            "--output",
            setting="output",
            type=click.Choice(["text", "json"]),
            help="How results are printed on stdout.",
        ),
        GlobalOption("-q", "--quiet", setting="quiet", is_flag=True, help="Print ids only, and no progress."),
        GlobalOption("-y", "--yes", setting="yes", is_flag=True, help="Answer yes to every question."),
        GlobalOption(
            "-v",
            "--verbose",
            setting="verbose",
            is_flag=True,
            help="Show details, and tracebacks of unexpected errors.",
        ),
        GlobalOption(
            "--config",
            setting="config_file",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Use this file in place of the project's.",
        ),
        GlobalOption(
            "--profile",
            setting="profile",
            metavar="NAME",
            help="Use this profile of the provider's own configuration.",
        ),
        GlobalOption("--region", setting="region", metavar="NAME", help="Use this region."),
        GlobalOption(
            "--strict-host-key",
            setting="strict_host_key",
            is_flag=True,
            help="Refuse a machine whose SSH host key cannot be verified.",
        ),
    ]
