"""The option that shows the calls of a command instead of making them (``--show-aws``)."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from runctl._dataclasses import dataclass
from runctl.cli.context import Cli
from runctl.providers.registry import plugin

SECTION = "This command"
"""Where help has the option, where it has sections."""
PLAN_ONLY = "--dry-run"
"""Shows what would be done in another way: a command shows one of the two."""


@dataclass(frozen=True)
class Preview:
    """What a command is given."""

    option: click.Option
    callback: Callable[..., Any]
    """Carries the command out, or shows its calls."""


def preview_of(provider: str, carry_out: Callable[..., Any]) -> Preview | None:
    """The provider's option, if it has one, for the command that ``carry_out`` carries out."""
    offered = plugin(provider).preview_option
    if offered is None:
        return None
    flag, help_text = offered

    def callback(*args: Any, show_calls: bool, **values: Any) -> Any:
        if not show_calls:
            return carry_out(*args, **values)
        _preview(
            click.get_current_context().find_object(Cli) or Cli(),
            provider,
            lambda: carry_out(*args, **values),
        )
        return None

    return Preview(click.Option([flag, "show_calls"], is_flag=True, help=help_text), callback)


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
