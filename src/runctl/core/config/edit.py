"""Changing one key of a configuration file: comments and order stay, and nothing invalid is written."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from runctl.core.config import read_file, rules
from runctl.core.config.files import ConfigFile, Problem
from runctl.core.config.values import NO_CHECKS, Bad, Checks, Rule, rules_of, toml_value
from runctl.core.errors import ConfigError, UsageError
from runctl.core.files import write_atomically
from runctl.core.names import did_you_mean


def set_value(file: ConfigFile, key: str, text: str, checks: Checks = NO_CHECKS) -> Any:
    """The file holds the value, and is created if it did not exist; what it was read as is returned.

    Lists are written with commas, ``train.env.NAME`` sets one variable. Raises `UsageError` for an unknown key,
    `ConfigError` for a value that does not fit and for a file that is broken already; the file is then untouched.
    """
    import tomlkit
    import tomlkit.exceptions

    tables, name, rule = _locate(key)
    before, old_problems = "", []
    if file.path.exists():
        before = _read(file.path)
        old_problems = read_file(file, checks)[1]
    try:
        value = text if rule is None else toml_value(rule, text)
        document = tomlkit.parse(before)
    except Bad as bad:
        raise ConfigError(f"{key}: {bad}") from bad
    except tomlkit.exceptions.ParseError as error:
        raise ConfigError(
            old_problems[0].text() if old_problems else f"{file.path}: {error}", hint="fix the file first"
        ) from error
    table: Any = document
    path = (*file.table, *tables)
    for depth, part in enumerate(path, start=1):
        if part not in table:
            table.add(part, tomlkit.table(is_super_table=depth < len(path)))
        table = table[part]
        if not hasattr(table, "add"):
            raise ConfigError(f"{file.path}: {part}: expected a table", hint="fix the file first")
    table[name] = value
    after = tomlkit.dumps(document)
    new = _new_problems(file, after, old_problems, checks)
    if new:
        raise ConfigError(f"{key}: {new[0].message}", hint=new[0].hint)
    write_atomically(file.path, after)
    return value


def _locate(key: str) -> tuple[tuple[str, ...], str, Rule | None]:
    """The tables above a key, its own name there, and what it may hold; ``None`` for a text in a map."""
    section, _, rest = key.partition(".")
    name, _, below = rest.partition(".")
    known = rules()
    rule = known.get(f"{section}.{name}")
    if rule is not None and not below:
        return (section,), name, rule
    if rule is not None and rule.base == "map":
        return (section, name), below, None
    if rule is not None and rule.table is not None:
        table, _, cell = below.rpartition(".")
        known = {
            f"{section}.{name}.{table or 'NAME'}.{each}": it for each, it in rules_of(rule.table).items()
        }
        if table and key in known:
            return (section, name, table), cell, known[key]
    raise UsageError(
        f"unknown key {key!r}",
        hint=did_you_mean(key, known) or "runctl config show lists them",
        code="unknown-key",
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error


def _new_problems(file: ConfigFile, text: str, old: list[Problem], checks: Checks) -> list[Problem]:
    """What would be wrong that was not wrong before, by key; lines may have moved."""
    with tempfile.TemporaryDirectory() as folder:
        trial = ConfigFile(Path(folder) / file.path.name, file.table)
        trial.path.write_text(text, encoding="utf-8")
        known = {(problem.key, problem.message) for problem in old}
        return [p for p in read_file(trial, checks)[1] if (p.key, p.message) not in known]
