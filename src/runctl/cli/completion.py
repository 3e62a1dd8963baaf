"""``runctl completion``, and the ids that a shell can offer without asking anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runctl.cli.context import Cli
from runctl.cli.framework import Command, RootGroup
from runctl.cli.main import COMPLETE_VARIABLE

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_obj
def completion(cli: Cli, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash  add to ~/.bashrc:  eval "$(runctl completion bash)"
    zsh   add to ~/.zshrc:   eval "$(runctl completion zsh)"
    fish  once:              runctl completion fish > ~/.config/fish/completions/runctl.fish
    """
    from click.shell_completion import ShellComplete, get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has all three
    script = ShellComplete.source(kind(RootGroup(), {}, "runctl", COMPLETE_VARIABLE))
    cli.emit({"shell": shell, "script": script}, text=lambda: script, ids=[script])


def complete_instances(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Instances that runs on this computer went to, the latest first."""
    return _from_state(
        "SELECT instance_id, MAX(script) FROM runs WHERE instance_id LIKE ? AND provider <> 'local'"
        " GROUP BY instance_id ORDER BY MAX(created_at) DESC LIMIT 50",
        incomplete,
    )


def complete_runs(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Runs that this computer remembers, the latest first."""
    return _from_state(
        "SELECT id, script FROM runs WHERE id LIKE ? ORDER BY created_at DESC LIMIT 50", incomplete
    )


def _from_state(query: str, incomplete: str) -> list[CompletionItem]:
    """Rows of (id, help); a state file that is missing or busy offers nothing."""
    import sqlite3
    from contextlib import closing

    from click.shell_completion import CompletionItem

    from runctl.core.places import state_file

    try:
        with closing(
            sqlite3.connect(f"{state_file().as_uri()}?mode=ro", uri=True, timeout=0.2)
        ) as connection:
            rows = connection.execute(query, (incomplete.replace("%", "").replace("_", "") + "%",)).fetchall()
    except sqlite3.Error:
        return []
    return [CompletionItem(identifier, help=script) for identifier, script in rows]
