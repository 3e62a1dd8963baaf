"""What a person or a program is told when a command ends in an error, and the exit code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from runctl._dataclasses import dataclass
from runctl.cli.framework.commands import Misplaced
from runctl.cli.framework.elsewhere import hint_elsewhere
from runctl.cli.left import Left, line_of
from runctl.core.errors import RunctlError
from runctl.core.names import did_you_mean
from runctl.core.text import printable

GO_ON = "run the same command again to continue"
DISK_FULL = "free some space and run the same command again; XDG_DATA_HOME puts runctl's own files elsewhere"


@dataclass(frozen=True)
class Failure:
    """An error, as it is shown."""

    code: str
    message: str
    hint: str
    exit_code: int


def failure_of(error: BaseException, left: Left | None = None) -> Failure:
    """Put any exception into words, with what the command has left. Pure."""
    left = left or Left()
    if isinstance(error, RunctlError):
        return Failure(error.code, error.message, error.hint, error.exit_code)
    if isinstance(error, click.UsageError):
        return Failure("usage", _lower(_usage_message(error)), _usage_hint(error), 2)
    if isinstance(error, click.ClickException):
        return Failure("error", _lower(error.format_message()), "", error.exit_code)
    if isinstance(error, KeyboardInterrupt | click.Abort | EOFError):
        if left.changes:
            return Failure("interrupted", "interrupted", GO_ON if left.goes_on else "", 130)
        return Failure(
            "interrupted", "interrupted; nothing was changed" if left.nothing else "interrupted", "", 130
        )
    # Of a file that is open, an error names at most its descriptor.
    if isinstance(error, OSError) and isinstance(error.filename, str | bytes | os.PathLike) and error.errno:
        return _of_a_file(error, os.fsdecode(error.filename))
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Failure("file", f"this computer: {os.strerror(error.errno).lower()}", DISK_FULL, 1)
    text = " ".join(str(error).split())
    return Failure(
        "unexpected",
        f"unexpected {type(error).__name__}: {text}" if text else f"unexpected {type(error).__name__}",
        "this is a bug in runctl: please report it with the output of the same command under --verbose",
        1,
    )


def _of_a_file(error: OSError, path: str) -> Failure:
    """A file or folder of this computer that cannot be used is nothing that runctl can mend."""
    from runctl.core.config.files import user_config_path
    from runctl.core.files import cache_folder, data_folder

    ours = {
        "XDG_DATA_HOME": data_folder(),
        "XDG_CACHE_HOME": cache_folder(),
        "XDG_CONFIG_HOME": user_config_path().parent,
    }
    variable = next((name for name, folder in ours.items() if Path(path).is_relative_to(folder)), None)
    hint = "check who may read and write it, and that its disk is not full"
    if variable is not None:
        hint += f"; {variable} puts runctl's own files elsewhere"
    return Failure("file", f"{path}: {(os.strerror(error.errno or 0)).lower()}", hint, 1)


def report(error: BaseException, argv: Sequence[str], left: Left | None = None) -> int:
    """Write the error and what the command has left to stderr, as text or JSON, and return the exit code."""
    left = left or Left()
    failure = failure_of(error, left)
    if isinstance(error, click.exceptions.NoArgsIsHelpError) and wanted_output(argv) != "json":
        _write(error.format_message())
        return failure.exit_code
    if wanted_output(argv) == "json":
        from runctl.render.json import document

        shown: dict[str, Any] = {"code": failure.code, "message": failure.message, "hint": failure.hint}
        if left.changes:
            shown["changes"] = left.documents()
        _write(document({"error": shown}))
    else:
        _write(f"error: {failure.message}")
        for change in left.untold(f"{failure.message} {failure.hint}"):
            _write(line_of(change))
        if failure.hint:
            _write(f"hint: {failure.hint}")
    if is_verbose(argv) and failure.code == "unexpected":
        import traceback

        _write("".join(traceback.format_exception(error)).rstrip("\n"))
    return failure.exit_code


def wanted_output(argv: Sequence[str]) -> str:
    """What ``--output`` says, also on a line that cannot be parsed; the last one counts."""
    wanted = "text"
    ours = _before_dashes(argv)
    for position, argument in enumerate(ours):
        if argument.startswith("--output="):
            wanted = argument.removeprefix("--output=")
        elif argument == "--output" and position + 1 < len(ours):
            wanted = ours[position + 1]
    return wanted


def is_verbose(argv: Sequence[str]) -> bool:
    """Whether ``--verbose`` stands anywhere on the line."""
    return any(argument in {"-v", "--verbose"} for argument in _before_dashes(argv))


def _before_dashes(argv: Sequence[str]) -> Sequence[str]:
    return argv[: argv.index("--")] if "--" in argv else argv


def _usage_message(error: click.UsageError) -> str:
    option = _unknown_option(error)
    if option is not None:
        return f"{_path(error)} has no option {option!r}"
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return f"{_path(error)} needs a command"
    if isinstance(error, click.MissingParameter) and error.param is not None:
        # click lists the choices below it, one a line.
        return f"missing {error.param.param_type_name} {error.param.get_error_hint(error.ctx)}"
    return error.format_message().rstrip(".")


def _usage_hint(error: click.UsageError) -> str:
    option = _unknown_option(error)
    if option is not None and error.ctx is not None:
        nearest = _nearest_option(option, error.ctx)
        if not nearest and isinstance(error, Misplaced):
            nearest = hint_elsewhere(
                option, error.ctx, f"one of the script's own goes after two dashes: -- {option}"
            )
        if nearest:
            return nearest
    return getattr(error, "suggestion", "") or f"{_path(error)} --help"


def _unknown_option(error: click.UsageError) -> str | None:
    if isinstance(error, click.NoSuchOption):
        return error.option_name
    return error.option if isinstance(error, Misplaced) else None


def _path(error: click.UsageError) -> str:
    return error.ctx.command_path if error.ctx is not None else "runctl"


def _nearest_option(option: str, ctx: click.Context) -> str:
    """Compared without dashes, which all options share."""
    names = [
        name
        for parameter in ctx.command.get_params(ctx)
        for name in (*parameter.opts, *parameter.secondary_opts)
    ]
    bare = {name.lstrip("-"): name for name in names if name.startswith("--")}
    # A misspelt option shares most of its letters: "--spot" is no "--transport".
    suggestion = did_you_mean(option.lstrip("-"), bare, likeness=0.7)
    return suggestion.replace('"', '"--', 1) if suggestion else ""


def _lower(message: str) -> str:
    """A sentence as the rest of ours: without a capital at the beginning, unless it is a name or an acronym."""
    return message[:1].lower() + message[1:] if message[1:2].islower() else message


def _write(text: str) -> None:
    try:
        sys.stderr.write(printable(text) + "\n")
        sys.stderr.flush()
    except OSError:
        return
