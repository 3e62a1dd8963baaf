"""The variables that a run's script is given, from configuration, files and flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from runctl.core.errors import NotFound, UsageError
from runctl.core.names import BadVariable, check_variable


def gather(
    configured: Mapping[str, str],
    files: Sequence[Path],
    assignments: Sequence[str],
    inherited: Mapping[str, str],
) -> dict[str, str]:
    """Merge them; what is nearer to the command line wins.

    ``assignments`` are ``K=V``, or ``K`` alone for the value that this shell has (``inherited``). Raises
    `UsageError` for a malformed or reserved name, `NotFound` for a missing file.
    """
    merged: dict[str, str] = {}
    for name, value in configured.items():
        _check(name, "[train.env]")
        merged[name] = value
    for file in files:
        merged.update(read_env_file(file, inherited))
    for assignment in assignments:
        name, value = _assignment(assignment, "--env", inherited)
        merged[name] = value
    return merged


def read_env_file(path: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """``K=V`` lines as docker reads them; also ``export K=V``, comments, and quotes around a whole value."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFound(f"--env-file {path}: the file does not exist", hint="check the path") from error
    except IsADirectoryError as error:
        raise UsageError(
            f"--env-file {path} is a folder, and a file is needed", hint=f"such as {path / '.env'}"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"--env-file {path} is not UTF-8 text (byte {error.start})",
            hint=f"convert it: iconv -f latin1 -t utf-8 {path}",
        ) from error
    except OSError as error:
        raise UsageError(
            f"--env-file {path} cannot be read: {error.strerror}", hint="check its permissions"
        ) from error
    values: dict[str, str] = {}
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        name, value = _assignment(line.removeprefix("export ").lstrip(), f"{path}:{number}", inherited)
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        values[name] = value
    return values


def _assignment(text: str, where: str, inherited: Mapping[str, str]) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    _check(name, where)
    if equals:
        return name, value
    if name not in inherited:
        raise UsageError(
            f"{where}: {name} has no value here",
            hint=f"set it, or write {name}=VALUE",
            code="env-without-value",
        )
    return name, inherited[name]


def _check(name: str, where: str) -> None:
    try:
        check_variable(name)
    except BadVariable as error:
        raise UsageError(f"{where}: {error.message}", hint=error.hint, code=error.code) from error
