"""``runctl completion``, and the names and ids that a shell can offer without asking anybody."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command, RootGroup
from runctl.cli.main import COMPLETE_VARIABLE

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


@click.command(cls=Command)
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
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


Completer = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]


def instances_of(provider: str) -> Completer:
    """Instances of a provider: those that it knows without being asked, and those that commands have shown."""

    def complete(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _each_once(_known([provider], incomplete), _remembered("instances", incomplete, provider))

    return complete


def complete_instances(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The same, of every provider."""
    from runctl.providers.registry import names

    return _each_once(_known(names(), incomplete), _remembered("instances", incomplete))


def _each_once(*found: Sequence[CompletionItem]) -> list[CompletionItem]:
    """All of them; of those with the same text the first."""
    by_text: dict[str, CompletionItem] = {}
    for item in itertools.chain(*found):
        by_text.setdefault(item.value, item)
    return list(by_text.values())


def _known(providers: Sequence[str], incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from runctl.core.errors import RunctlError
    from runctl.providers.registry import plugin

    found: list[CompletionItem] = []
    for name in providers:
        try:
            known = plugin(name).known_instances(Cli().read_config().config)
        except RunctlError:
            continue
        found += [
            CompletionItem(instance, help=about)
            for instance, about in known.items()
            if instance.startswith(incomplete)
        ]
    return found


def complete_volumes(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Volumes that commands on this computer have shown, by name and by id."""
    return _remembered("volumes", incomplete)


def complete_snapshots(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Snapshots that commands on this computer have shown, by name and by id."""
    return _remembered("snapshots", incomplete)


def types_of(provider: str) -> Completer:
    """Instance types that the provider's package knows."""

    def complete(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        from runctl.providers.registry import plugin

        types = plugin(provider).instance_types()
        return [
            CompletionItem(kind, help=about) for kind, about in types.items() if kind.startswith(incomplete)
        ]

    return complete


def _remembered(kind: str, incomplete: str, provider: str | None = None) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from runctl.cli.framework.completion_memory import seen

    return [
        CompletionItem(text, help=thing.about)
        for thing in seen(kind, provider)
        for text in (thing.name, thing.id)
        if text and text.startswith(incomplete)
    ]


def complete_runs(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Runs that this computer remembers, the latest first, by name and by id; and ``latest``."""
    from click.shell_completion import CompletionItem

    from runctl.core.names import LATEST

    found = _from_state(
        "SELECT text, script FROM (SELECT id AS text, script, created_at FROM runs UNION ALL"
        " SELECT name, script, created_at FROM runs WHERE name IS NOT NULL)"
        " WHERE text LIKE ? GROUP BY text ORDER BY MAX(created_at) DESC LIMIT 50",
        incomplete,
    )
    latest = (
        [CompletionItem(LATEST, help="the newest run")] if LATEST.startswith(incomplete) and found else []
    )
    return [*latest, *found]


def _from_state(query: str, incomplete: str) -> list[CompletionItem]:
    """Rows of (id, help); a state file that is missing or busy offers nothing."""
    import sqlite3
    from contextlib import closing

    from click.shell_completion import CompletionItem

    from runctl.core.files import state_file

    try:
        with closing(
            sqlite3.connect(f"{state_file().as_uri()}?mode=ro", uri=True, timeout=0.2)
        ) as connection:
            rows = connection.execute(query, (incomplete.replace("%", "").replace("_", "") + "%",)).fetchall()
    except sqlite3.Error:
        return []
    return [CompletionItem(identifier, help=script) for identifier, script in rows]
