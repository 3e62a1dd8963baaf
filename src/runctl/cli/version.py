"""``runctl version``."""

from __future__ import annotations

import platform

import click

from runctl._version import __version__
from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command


@click.command(cls=Command)
@click.pass_obj
def version(cli: Cli) -> None:
    """Print the version."""
    known = {"version": __version__, "python": platform.python_version(), "platform": platform.platform()}
    cli.emit(known, text=lambda: f"runctl {__version__}", ids=[__version__])
