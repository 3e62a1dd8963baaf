"""The help of runctl itself, made from the table of commands without importing click."""

from __future__ import annotations

from runctl.cli.framework.command_table import GLOBAL_OPTIONS, ROOT_HELP, root
from runctl.providers.plugin import Branch, Leaf


def root_help() -> str:
    """What ``runctl --help`` prints."""
    options = (*GLOBAL_OPTIONS[:-1], ("--version", "Print the version and exit."), GLOBAL_OPTIONS[-1])
    return "\n".join(
        (
            "Usage: runctl [OPTIONS] COMMAND [ARGS]...",
            "",
            f"  {ROOT_HELP}",
            "",
            "Commands:",
            *_rows([(name, help_line(entry)) for name, entry in root().children.items() if not entry.hidden]),
            "",
            "Options (before or after any command):",
            *_rows(options),
            "",
            "  runctl COMMAND --help says more; runctl doctor says what works here.",
        )
    )


def help_line(entry: Leaf | Branch) -> str:
    """The one-line help with the names that mean the same."""
    return f"{entry.help} (aliases: {', '.join(entry.aliases)})" if entry.aliases else entry.help


def _rows(rows: tuple[tuple[str, str], ...] | list[tuple[str, str]]) -> list[str]:
    width = max(len(left) for left, _ in rows)
    return [f"  {left.ljust(width)}  {right}" for left, right in rows]
