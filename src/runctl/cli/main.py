"""The entry point: parse, run, and turn every ending into an exit code.

``--version`` and ``--help`` alone are answered before anything is imported.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from runctl.cli.framework.stdout import failure, watch
from runctl.core.errors import RunctlError

if TYPE_CHECKING:
    from types import FrameType

    from runctl.cli.context import Cli
    from runctl.cli.framework.commands import RootGroup

COMPLETE_VARIABLE = "_RUNCTL_COMPLETE"
"""Set by the shell's completion function; says what it wants to know."""
INTERRUPTED = 130
"""128 + SIGINT."""
BROKEN_PIPE = 141
"""128 + SIGPIPE, as other programs end when nobody reads their output any more."""


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    _open_what_is_closed()
    argv = sys.argv[1:]
    if COMPLETE_VARIABLE not in os.environ and len(argv) == 1:
        answer = _instant_answer(argv[0])
        if answer is not None:
            watch()
            sys.stdout.write(answer + "\n")
            unwritten = failure()
            _exit(0 if unwritten is None else _for_unwritten(unwritten, argv))
    import signal

    # Most of a command's life is the making of objects that stay until its end: looking for garbage among them over
    # and over takes a quarter of it.
    gc.set_threshold(200_000, 20, 100)
    signal.signal(signal.SIGTERM, _as_ctrl_c)
    watch()
    try:
        code = run(argv)
    except KeyboardInterrupt:
        # Before the command began, or while its error was being reported: there is nothing more to say.
        sys.stderr.write("error: interrupted\n")
        code = INTERRUPTED
    _exit(code)


def _exit(code: int) -> NoReturn:
    """End the process; nobody looks for garbage among everything there is, as Python would before it ends."""
    gc.freeze()
    sys.exit(code)


def run(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code; nothing is raised."""
    from runctl.cli.context import Cli
    from runctl.cli.framework.failures import report

    cli = Cli()
    try:
        code = _carry_out(cli, argv)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last place that can tell the user
        _end_progress(cli)
        unwritten = failure() if isinstance(error, OSError) else None
        code = _for_unwritten(unwritten, argv) if unwritten is not None else report(error, argv, cli.left())
    _end_progress(cli)
    unwritten = failure()
    return code or (_for_unwritten(unwritten, argv) if unwritten is not None else 0)


def _for_unwritten(error: OSError, argv: Sequence[str]) -> int:
    """Nobody reading on is no mistake, and quiet; a full disk is one."""
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE
    from runctl.cli.framework.failures import report

    return report(RunctlError(f"the result could not be written: {error.strerror}", code="output"), argv)


def _carry_out(cli: Cli, argv: Sequence[str]) -> int:
    import click

    from runctl.cli.framework.commands import RootGroup

    root = RootGroup()
    instruction = os.environ.get(COMPLETE_VARIABLE)
    if instruction:
        return _complete(root, instruction)
    try:
        with root.make_context("runctl", list(argv), obj=cli) as context:
            result = root.invoke(context)
    except click.exceptions.Exit as ending:
        return ending.exit_code
    return result if isinstance(result, int) else 0


def _complete(root: RootGroup, instruction: str) -> int:
    from click.shell_completion import shell_complete

    return shell_complete(root, {}, "runctl", COMPLETE_VARIABLE, instruction)


def _end_progress(cli: Cli) -> None:
    if "progress" in vars(cli):
        from runctl.render.progress import finish

        finish(cli.progress)


def _instant_answer(argument: str) -> str | None:
    if argument == "--version":
        from runctl._version import __version__

        return f"runctl {__version__}"
    if argument in {"--help", "-h"}:
        from runctl.cli.framework.root_help import root_help

        return root_help()
    return None


def _open_what_is_closed() -> None:
    """A descriptor that our parent closed would go to the next file or socket, and our output into that."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - pathlib costs start-up


def _as_ctrl_c(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
