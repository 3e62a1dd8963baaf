"""``providers``: who has machines, what each of them can do, and why not what it cannot."""

from __future__ import annotations

import sys

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.core.errors import NotFound, RunctlError, Unsupported
from runctl.core.names import did_you_mean
from runctl.providers import registry
from runctl.providers.abilities import ABILITIES
from runctl.render.tables import Column, Screen, fit, screen_of

_HAS, _HAS_NOT = "yes", "-"


@click.command(
    cls=Command,
    examples=[
        ("runctl providers", "what each of them can do"),
        ("runctl providers local", "and why it cannot do the rest"),
    ],
)
@click.argument("provider", required=False)
@click.pass_obj
def providers(cli: Cli, provider: str | None) -> None:
    """Show what each provider can do, and why it cannot do the rest."""
    known = registry.names()
    if provider is not None and provider not in known:
        raise NotFound(
            f"provider {provider!r} is not installed",
            hint=did_you_mean(provider, known) or f"installed: {', '.join(known)}",
        )
    found = {name: _reasons(cli, name) for name in ([provider] if provider else known)}
    cli.emit(
        [
            {
                "provider": name,
                "help": registry.plugin(name).help,
                "abilities": [
                    {"ability": ability, "supported": reason is None, "reason": reason}
                    for ability, reason in reasons.items()
                ],
            }
            for name, reasons in found.items()
        ],
        text=lambda: _table(found, screen_of(sys.stdout)) if provider is None else _details(found[provider]),
        ids=list(found),
    )


def _reasons(cli: Cli, name: str) -> dict[str, str | None]:
    """By ability: ``None`` where the provider has it, else why it has not. No call is made."""
    created = cli.provider(name)
    found: dict[str, str | None] = {}
    for ability in ABILITIES:
        try:
            value = getattr(created, ability)
        except RunctlError as error:
            found[ability] = f"cannot be told now: {error.message}"
        else:
            found[ability] = value.message if isinstance(value, Unsupported) else None
    return found


def _table(found: dict[str, dict[str, str | None]], screen: Screen) -> str:
    columns = [Column("ABILITY", list(ABILITIES.values()))]
    columns += [
        Column(name.upper(), [_HAS if reasons[ability] is None else _HAS_NOT for ability in ABILITIES])
        for name, reasons in found.items()
    ]
    return fit(columns, screen)


def _details(reasons: dict[str, str | None]) -> str:
    width = max(map(len, ABILITIES.values()))
    return "\n".join(
        f"{description:<{width}}  {_HAS if reasons[ability] is None else f'no: {reasons[ability]}'}"
        for ability, description in ABILITIES.items()
    )
