"""Writes docs/commands.md from the command line itself; with ``--check`` only says whether it is current."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from runctl.cli.framework.command_table import GLOBAL_OPTIONS
from runctl.cli.framework.commands import RootGroup
from runctl.cli.framework.options import GlobalOption

PAGE = Path(__file__).parents[1] / "docs" / "commands.md"
HEAD = """\
# Commands

Every command has `--help`. Results go to stdout, everything else to stderr. What follows `--` is
passed on unchanged. For programs see [JSON](json.md) and [Exit codes](exit-codes.md).

An instance, a volume and a snapshot are named by their id or their name, a run by its id, the beginning of its id, its
name (`--run-name`), or `latest`. Names must match exactly. A name that several things have is refused, with their ids.

Commands that rent, change or destroy something show their plan and ask; `--yes` answers. Without a
terminal, those that destroy need it.

This page is generated from the commands themselves by `python scripts/commands_reference.py`.
"""


def commands(
    group: click.Group, path: str
) -> Iterator[tuple[str, tuple[str, ...], click.Command, click.Context]]:
    """Every command below a group, with its full name and its aliases."""
    context = click.Context(group, info_name=path)
    aliases: dict[str, list[str]] = {}
    for alias, name in getattr(group, "_aliases", {}).items():
        aliases.setdefault(name, []).append(alias)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        full = f"{path} {name}"
        if isinstance(command, click.Group):
            yield from commands(command, full)
        else:
            yield full, tuple(aliases.get(name, ())), command, click.Context(command, info_name=full)


def table(records: list[tuple[str, str]]) -> list[str]:
    """Options and what they mean."""
    cells = [
        (left.replace("|", "\\|"), " ".join(right.split()).replace("|", "\\|")) for left, right in records
    ]
    return ["| option | meaning |", "| --- | --- |", *(f"| `{left}` | {right} |" for left, right in cells)]


def section(name: str, aliases: tuple[str, ...], command: click.Command, context: click.Context) -> list[str]:
    """One command: its name, its usage, what it does, its options."""
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    lines = ["", f"## {name}", "", "```text", usage, "```", ""]
    if aliases:
        lines += [f"Aliases: {', '.join(f'`{alias}`' for alias in aliases)}.", ""]
    lines += [paragraph(text) for text in inspect.cleandoc(command.help or "").split("\n\n")]
    records = [
        record
        for parameter in command.get_params(context)
        if isinstance(parameter, click.Option)
        and not isinstance(parameter, GlobalOption)
        and "--help" not in parameter.opts
        if (record := parameter.get_help_record(context)) is not None
    ]
    if records:
        lines += table(records)
    examples = getattr(command, "examples", ())
    if examples:
        lines += ["", "```sh", *(f"{line}    # {meaning}" for line, meaning in examples), "```"]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def paragraph(text: str) -> str:
    """As Markdown: joined into one line, or as it is where click was told not to wrap (``\\b``)."""
    first, _, rest = text.partition("\n")
    if first == "\b":
        return f"```text\n{inspect.cleandoc(rest)}\n```\n"
    return f"{' '.join(text.split())}\n"


def render() -> str:
    """The whole page."""
    lines = [HEAD, "## Options of every command", "", *table([*GLOBAL_OPTIONS]), ""]
    lines += ["They go before the command or after it."]
    for each in commands(RootGroup(), "runctl"):
        lines += section(*each)
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the page, or 1 with a diff when ``--check`` finds another."""
    wanted = render()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(wanted)
        return 0
    found = PAGE.read_text() if PAGE.exists() else ""
    difference = difflib.unified_diff(
        found.splitlines(), wanted.splitlines(), "docs/commands.md", "now", lineterm=""
    )
    sys.stdout.writelines(f"{line}\n" for line in difference)
    return int(found != wanted)


if __name__ == "__main__":
    sys.exit(main())
