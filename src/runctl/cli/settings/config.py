"""``config show``, ``config set``, ``config trust`` and ``config validate``."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.values import wide_option
from runctl.core.config import (
    OWN_SECTIONS,
    Config,
    read_file,
    rules,
    sections,
    untrusted_values,
    values_to_trust,
)
from runctl.core.config.edit import set_value
from runctl.core.config.files import (
    FILE_NAME,
    PYPROJECT,
    PYPROJECT_TABLE,
    ConfigFile,
    find_project_file,
    user_config_path,
)
from runctl.core.config.trust import distrust, trust
from runctl.core.errors import ConfigError, NotFound
from runctl.core.masking import MASK, is_secret, masked
from runctl.machines.config_checks import CHECKS
from runctl.render.tables import Column, fit, screen_of

_NEGATIVE = re.compile(r"-\.?\d")


@click.command(cls=Command)
@wide_option
@click.pass_obj
def show(cli: Cli, wide: bool) -> None:
    """Show every value and where it comes from.

    Secrets are masked. Values that could not be understood are left out and named.
    """
    reading = cli.read_config()
    for problem in reading.problems:
        cli.progress.warn(problem.text())
    values = masked_values(reading.config)
    columns = [
        Column("KEY", list(values)),
        Column("VALUE", [_text(value) for value in values.values()], cut=True),
        Column("FROM", [reading.config.origin(key) for key in values], cut=True),
    ]
    cli.emit(
        {key: {"value": value, "origin": reading.config.origin(key)} for key, value in values.items()},
        text=lambda: fit(columns, screen_of(sys.stdout, wide=wide)),
        ids=[f"{key}={_text(value) or ''}" for key, value in values.items()],
    )


class _TakesNumbers(Command):
    """A command with values such as ``-5``, which are wrong where they are, and not options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """What begins as a negative number comes behind the options."""
        if "--" not in args:
            negative = [each for each in args if _NEGATIVE.match(each)]
            args = [
                *(each for each in args if each not in negative),
                *(["--", *negative] if negative else []),
            ]
        return super().parse_args(ctx, args)


@click.command("set", cls=_TakesNumbers)
@click.argument(
    "key", shell_complete=lambda _ctx, _parameter, start: [k for k in rules() if k.startswith(start)]
)
@click.argument("value")
@click.option("--user", "for_user", is_flag=True, help="Write to the user's file, for all projects.")
@click.pass_obj
def set_command(cli: Cli, key: str, value: str, for_user: bool) -> None:
    """Set a key in a configuration file.

    The project's file is changed (.runctl.toml, or the table in pyproject.toml), or made in this folder. Comments
    stay. Lists are written with commas; train.env.NAME sets one variable of runs.
    """
    file = _target(cli, for_user=for_user)
    # Whoever sets a value here trusts it; what was in the file before, and was not trusted, stays so.
    may_trust = not for_user and not _untrusted(file)
    stored = set_value(file, key, value, CHECKS)
    if may_trust:
        _trust(file)
    shown = MASK if is_secret(key, stored) else stored
    cli.emit(
        {"key": key, "value": shown, "file": file.path},
        text=lambda: f"{key} = {_text(shown)} in {file.path}",
        ids=[str(file.path)],
    )


@click.command("trust", cls=Command)
@click.option("--revoke", is_flag=True, help="Stop trusting this file.")
@click.pass_obj
def trust_command(cli: Cli, revoke: bool) -> None:
    """Trust the project's configuration file.

    Read it first. Keys that decide what runs with your rights, or where data goes (a machine's image and role, a
    profile, a bucket, a registry, an interpreter, ...), take effect in a project's file only when it is trusted. They
    are shown. When one of them changes, the file has to be trusted again. Your own file, variables and options need
    no trust.
    """
    found, problems = find_project_file(Path.cwd())
    if problems:
        raise ConfigError(problems[0].text(), hint=problems[0].hint)
    if found is None:
        raise NotFound(
            f"there is no {FILE_NAME} here, nor a [tool.runctl] in {PYPROJECT}", hint="runctl init writes one"
        )
    if revoke:
        distrust(found.path)
        wanted = {}
    else:
        wanted = _trust(found)
    shown = {key: _masked(key, value) for key, value in wanted.items()}

    def text() -> str:
        if revoke:
            return f"nothing in {found.path} is trusted"
        lines = [f"{key} = {_text(value)}" for key, value in shown.items()]
        return "\n".join(
            [*lines, f"trusted: {found.path}" if lines else f"nothing in {found.path} needs trust"]
        )

    cli.emit({"file": found.path, "trusted": shown}, text=text, ids=list(shown))


def _untrusted(file: ConfigFile) -> dict[str, Any]:
    return untrusted_values(file, read_file(file)[0]) if file.path.exists() else {}


def _trust(file: ConfigFile) -> dict[str, Any]:
    wanted = values_to_trust(read_file(file)[0])
    if wanted:
        trust(file.path, wanted)
    return wanted


@click.command(cls=Command)
@click.pass_obj
def validate(cli: Cli) -> int:
    """Check the configuration files and variables.

    Every problem is shown with its file, line and key; the exit code is 3 when there is one.
    """
    reading = cli.read_config()
    found = [
        {"where": p.where, "line": p.line, "key": p.key, "message": p.message, "hint": p.hint}
        for p in reading.problems
    ]

    def text() -> str:
        lines = [p.text() + (f" ({p.hint})" if p.hint else "") for p in reading.problems]
        if lines:
            return "\n".join(lines)
        if not reading.files:
            return "there is no configuration file; the defaults and variables are right"
        return f"nothing is wrong in {', '.join(map(str, reading.files))}"

    cli.emit(
        {"valid": not found, "files": reading.files, "problems": found},
        text=text,
        ids=[p.text() for p in reading.problems],
    )
    return ConfigError.exit_code if found else 0


def masked_values(config: Config) -> dict[str, Any]:
    """Every dotted key with its value, fit to be shown."""
    return {
        f"{section}.{field.name}": _masked(f"{section}.{field.name}", getattr(values, field.name))
        for section, kind in sections().items()
        for values in (getattr(config, section) if section in OWN_SECTIONS else config.section(kind),)
        for field in fields(kind)
    }


def _masked(key: str, value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        value = {
            each.name: found for each in fields(value) if (found := getattr(value, each.name)) != each.default
        }
    if isinstance(value, Mapping):
        return {name: _masked(f"{key}.{name}", item) for name, item in value.items()}
    if isinstance(value, tuple):
        return tuple(masked(key, item) for item in value)
    return masked(key, value) if isinstance(value, str) else value


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        shown = {
            name: f"({_text(item)})" if isinstance(item, Mapping) else item for name, item in value.items()
        }
        return ", ".join(f"{name}={item}" for name, item in shown.items()) or None
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or None
    return None if value is None else str(value)


def _target(cli: Cli, *, for_user: bool) -> ConfigFile:
    named = cli.config_path
    if for_user:
        return ConfigFile(user_config_path())
    if named is not None:
        return ConfigFile(named, PYPROJECT_TABLE if named.name == PYPROJECT else ())
    found, problems = find_project_file(Path.cwd())
    if problems:
        raise ConfigError(problems[0].text(), hint=problems[0].hint)
    return found or ConfigFile(Path.cwd() / FILE_NAME)
