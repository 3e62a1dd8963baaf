"""The option that shows the calls of a command instead of making them (``--show-aws``)."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runctl.cli.context import Cli
from runctl.providers.registry import plugin

if TYPE_CHECKING:
    from runctl.cli.framework.commands import Command

SECTION = "This command"
"""Where help has the option, where it has sections."""
PLAN_ONLY = "--dry-run"
"""Shows what would be done in another way: a command shows one of the two."""


def offer_preview(command: Command, provider: str) -> None:
    """The command takes the provider's option, if it has one."""
    offered = plugin(provider).preview_option
    if offered is None or command.callback is None:
        return
    flag, help_text = offered
    carry_out = command.callback

    def callback(*args: Any, show_calls: bool, **values: Any) -> Any:
        if not show_calls:
            return carry_out(*args, **values)
        _preview(
            click.get_current_context().find_object(Cli) or Cli(),
            provider,
            lambda: carry_out(*args, **values),
        )
        return None

    command.callback = callback
    option = click.Option([flag, "show_calls"], is_flag=True, help=help_text)
    command.add_option(option, SECTION, excludes=PLAN_ONLY)


def _preview(cli: Cli, provider: str, run: Callable[[], Any]) -> None:
    """The script of what ``run`` would call is the command's result."""
    import tempfile

    from runctl.providers.interface import require

    with tempfile.TemporaryDirectory(prefix="runctl-preview-") as folder:
        cli.begin_preview(Path(folder))
        shown = require(cli.provider(provider).preview)
        run()
        script = shown.script(f"runctl {shlex.join(sys.argv[1:])}")
    cli.is_preview = False
    cli.emit({"script": script}, text=lambda: script, ids=[script])
