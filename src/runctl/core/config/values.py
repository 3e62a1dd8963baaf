"""What a configured value may be: the rule behind each field, and how TOML and text are held against it.

Our own, as every problem is told with its file, line and key while the rest still counts: msgspec, which reads
everything else here, stops at the first and knows no lines.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Mapping
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from runctl._dataclasses import dataclass
from runctl.core.clock import parse_duration
from runctl.core.money import parse_usd
from runctl.core.names import did_you_mean

TRUST = {"trust": True}
"""Metadata of a field that counts in a project's file only when the user trusts that file."""
USD = {"kind": "usd"}
"""Metadata of a field that holds an amount of US dollars."""

Base = Literal["text", "number", "amount", "switch", "list", "map", "tables"]

_EXPECTED: dict[Base, str] = {
    "text": "text in quotes",
    "number": "a whole number",
    "amount": "a number, such as 2.5",
    "switch": "true or false",
    "list": 'a list of texts, such as ["a", "b"]',
    "map": "a table of texts",
    "tables": "a table for each name",
}
_SWITCHES = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


@dataclass(frozen=True)
class Rule:
    """What a key may hold."""

    base: Base
    default: Any
    kind: str | None = None
    """``duration``, ``timeout`` (a duration or ``off``), ``path`` (made absolute), ``absolute`` (must be), ``usd`` or
    ``share``."""
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    check: str | None = None
    """The name of what checks it besides its form, as the option of the same meaning is checked; see `Checks`."""
    trust: bool = False
    """It chooses whose code runs with the user's rights, what it may do, or where data goes; see `config.trust`."""
    table: type | None = None
    """Of ``tables``: the dataclass that each of them is, which states its keys as a section's does."""

    @property
    def expected(self) -> str:
        """In words for a person."""
        if self.choices:
            return "one of " + ", ".join(f'"{choice}"' for choice in self.choices)
        if self.kind == "duration":
            return 'a duration such as "90s", "15m" or "1h30m"'
        if self.kind == "timeout":
            return 'a duration such as "30m", or "off"'
        if self.kind == "share":
            return "a share from 0 to 1, such as 0.8"
        if self.kind == "usd":
            return 'an amount of US dollars, such as 25 or "25usd"'
        if self.kind == "absolute":
            return "an absolute path in quotes"
        if self.minimum is not None:
            return f"a whole number of at least {self.minimum}"
        return _EXPECTED[self.base]


Checks = Mapping[str, Callable[[Any], None]]
"""By name: what a value must be besides its form. Each raises `ValueError` with why the value cannot be used, and what
to do."""
NO_CHECKS: Checks = types.MappingProxyType({})


class Bad(ValueError):
    """The value does not fit; the text says what was expected. ``below`` is the path within the value."""

    def __init__(self, message: str, below: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.below = below


@functools.cache
def rules_of(section: type) -> Mapping[str, Rule]:
    """The rules that a section's dataclass states by its types, defaults and metadata."""
    hints = typing.get_type_hints(section)
    found: dict[str, Rule] = {}
    for field in dataclasses.fields(section):
        default = field.default if field.default is not dataclasses.MISSING else {}
        base, table = _base(hints[field.name])
        found[field.name] = Rule(base, default, table=table, **field.metadata)
    return types.MappingProxyType(found)


def _base(hint: Any) -> tuple[Base, type | None]:
    if typing.get_origin(hint) in {typing.Union, types.UnionType}:
        (hint,) = [inner for inner in typing.get_args(hint) if inner is not type(None)]
    if typing.get_origin(hint) is Mapping and dataclasses.is_dataclass(typing.get_args(hint)[1]):
        return "tables", typing.get_args(hint)[1]
    bases: dict[Any, Base] = {
        str: "text",
        int: "number",
        Decimal: "amount",
        bool: "switch",
        tuple: "list",
        Mapping: "map",
    }
    return bases[typing.get_origin(hint) or hint], None


def check(rule: Rule, value: object, *, relative_to: Path, checks: Checks = NO_CHECKS) -> Any:
    """The value as the dataclass holds it. Raises `Bad`."""
    good = _formed(rule, value, relative_to, checks)
    if rule.check is not None and rule.check in checks:
        try:
            checks[rule.check](good)
        except ValueError as error:
            raise Bad("; ".join(map(str, error.args))) from None
    return good


def _formed(rule: Rule, value: object, relative_to: Path, checks: Checks) -> Any:
    if rule.base == "switch" and isinstance(value, bool):
        return value
    if rule.base == "number" and isinstance(value, int) and not isinstance(value, bool):
        if rule.minimum is not None and value < rule.minimum:
            raise Bad(f"expected {rule.expected}, not {value}")
        return value
    if rule.kind == "usd" and isinstance(value, str):
        return _dollars(rule, value)
    if rule.base == "amount" and isinstance(value, int | float) and not isinstance(value, bool):
        return _check_amount(rule, value)
    if rule.base == "text" and isinstance(value, str):
        return _check_text(rule, value, relative_to)
    if rule.base == "list" and isinstance(value, list):
        for item in value:
            if not isinstance(item, str) or not item:
                raise Bad(f"expected {rule.expected}, but it holds {describe(item)}")
        return tuple(value)
    if rule.base == "map" and isinstance(value, dict):
        return {name: _text_in_map(name, item) for name, item in value.items()}
    if rule.table is not None and isinstance(value, dict):
        return {
            name: _check_table(rule.table, name, item, relative_to, checks) for name, item in value.items()
        }
    raise Bad(f"expected {rule.expected}, not {describe(value)}")


def _check_amount(rule: Rule, value: float) -> Decimal:
    if rule.kind == "share" and not 0 <= value <= 1:
        raise Bad(f"expected {rule.expected}, not {value}")
    if not math.isfinite(value) or value < 0:
        raise Bad(f"expected {rule.expected}, of at least 0, not {value}")
    return Decimal(str(value))


def _text_in_map(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise Bad(f"expected text in quotes, not {describe(value)}", (name,))
    return value


def _check_table(kind: type, name: str, value: object, relative_to: Path, checks: Checks) -> Any:
    if not isinstance(value, dict):
        raise Bad(f"expected a table, not {describe(value)}", (name,))
    known, good = rules_of(kind), {}
    for key, item in value.items():
        if key not in known:
            suggestion = did_you_mean(key, known) or f"known keys: {', '.join(known)}"
            raise Bad(f"unknown key; {suggestion}", (name, key))
        try:
            good[key] = check(known[key], item, relative_to=relative_to, checks=checks)
        except Bad as bad:
            raise Bad(str(bad), (name, key, *bad.below)) from None
    for field in dataclasses.fields(kind):
        if field.name not in good and field.default is field.default_factory is dataclasses.MISSING:
            raise Bad(f"it has no {field.name}", (name,))
    return kind(**good)


def from_text(rule: Rule, text: str, *, relative_to: Path, checks: Checks = NO_CHECKS) -> Any:
    """A value written on a command line or in a variable: lists by commas. Raises `Bad`."""
    return check(rule, toml_value(rule, text), relative_to=relative_to, checks=checks)


def toml_value(rule: Rule, text: str) -> Any:
    """The text as the TOML value that the rule asks for. Raises `Bad`."""
    if rule.base == "number":
        try:
            return int(text)
        except ValueError:
            raise Bad(f"expected {rule.expected}, not {text!r}") from None
    if rule.kind == "usd":
        amount = _dollars(rule, text)
        return int(amount) if amount == int(amount) else float(amount)
    if rule.base == "amount":
        try:
            return float(text)
        except ValueError:
            raise Bad(f"expected {rule.expected}, not {text!r}") from None
    if rule.base == "switch":
        try:
            return _SWITCHES[text.strip().lower()]
        except KeyError:
            raise Bad(f"expected {rule.expected}, not {text!r}") from None
    if rule.base == "list":
        return [item.strip() for item in text.split(",") if item.strip()]
    if rule.base == "map":
        pairs = [item.partition("=") for item in text.split(",") if item]
        if any(not equals for _, equals, _ in pairs):
            raise Bad("expected NAME=VALUE pairs joined by commas")
        return {name.strip(): value for name, _, value in pairs}
    return text


def _dollars(rule: Rule, text: str) -> Decimal:
    try:
        return parse_usd(text)
    except ValueError:
        raise Bad(f"expected {rule.expected}, not {text!r}") from None


def _check_text(rule: Rule, value: str, relative_to: Path) -> str:
    if not value:
        raise Bad(f"expected {rule.expected}, not an empty one; leave the key out instead")
    if rule.choices and value not in rule.choices:
        raise Bad(f'expected {rule.expected}, not "{value}"')
    if rule.kind == "duration" or (rule.kind == "timeout" and value != "off"):
        try:
            parse_duration(value)
        except ValueError:
            raise Bad(f'expected {rule.expected}, not "{value}"') from None
    if rule.kind == "absolute" and not value.startswith("/"):
        raise Bad(f'expected {rule.expected}, not "{value}"')
    if rule.kind == "path":
        try:
            return str(relative_to / Path(value).expanduser())
        except RuntimeError:
            raise Bad(f'expected a path, but this home folder does not exist: "{value}"') from None
    return value


def describe(value: object) -> str:
    """A TOML value in words, for messages."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'the text "{value}"'
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, date | time):
        return "a date or time"
    return repr(value)
