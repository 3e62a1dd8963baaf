"""Which of the commands that are alike has an option that this one has not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from runctl.cli.framework.command_table import provider_commands
from runctl.cli.framework.commands import resolve
from runctl.core.text import listed
from runctl.providers import registry
from runctl.providers.plugin import Leaf

ALIKE = ("train", "launch", "create", "exec")
"""Whoever uses one of them may well think of an option of another one."""


def hint_elsewhere(option: str, ctx: click.Context, for_script: str) -> str:
    """Which commands have the option, and what may stand for it here; empty where it is none of theirs.

    ``for_script`` is what to do with an option of the script's own.
    """
    found = commands_with(option, ctx)
    if not found:
        return ""
    instead = next(
        (name for name in _options_of(ctx.command) if name.endswith(f"-{option.lstrip('-')}")), None
    )
    meant = f'did you mean "{instead}"? ' if instead is not None else ""
    return f"{meant}{option} is an option of {listed(found)}; {for_script}"


def commands_with(option: str, ctx: click.Context) -> Sequence[str]:
    """The same provider's commands that have it; else the same command of other providers, else the default one's."""
    provider = ctx.parent.info_name if ctx.parent is not None else None
    known = [each for each in _alike() if option in _options_of(each[2])]
    tiers = (
        [f"runctl {owner} {verb}" for owner, verb, _ in known if owner == provider],
        [f"runctl {owner} {verb}" for owner, verb, _ in known if verb == ctx.info_name],
        [f"runctl {owner} {verb}" for owner, verb, _ in known if owner == registry.DEFAULT],
        [f"runctl {owner} {verb}" for owner, verb, _ in known],
    )
    return next((tier for tier in tiers if tier), [])


def _alike() -> Iterator[tuple[str, str, click.Command]]:
    for plugin in registry.plugins():
        children = provider_commands(plugin).children
        for verb in ALIKE:
            entry = children.get(verb)
            if isinstance(entry, Leaf) and not entry.hidden:
                yield plugin.name, verb, resolve(verb, entry)


def _options_of(command: click.Command) -> list[str]:
    return [
        name
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for name in (*parameter.opts, *parameter.secondary_opts)
    ]
