"""Dataclasses as JSON and back: what comes from a peer, or from a file that a peer wrote, is checked as it is read.

Our own, as machines have nothing but the standard library (`runctl.agent.package`).
"""

from __future__ import annotations

import dataclasses
import enum
import json
import typing
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

ExitCode = Annotated[int, "may be negative"]
"""What a process or an engine has reported. Every other whole number in this contract is at least 0."""

T = TypeVar("T")

LARGEST_COUNT = 2**63 - 1
LAST_SECOND = 253402300799.0
"""Of the year 9999. What is later, or lasts longer, is not a time that anybody means."""


def loads(text: str | bytes) -> Any:
    """What a peer, or a file that a peer wrote, says in JSON. Raises `ValueError` for everything that is not JSON.

    That is also what is nested too deep for Python's reader, which raises `RecursionError` for it.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def to_json(value: Any) -> Any:
    """A dataclass as what `json` can write."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(v) for v in value]
    return value


def dumps(value: Any) -> str:
    """One line of JSON."""
    return json.dumps(to_json(value), separators=(",", ":"), sort_keys=True)


def from_json(kind: type[T], data: Mapping[str, Any]) -> T:
    """Read a dataclass back; unknown keys are ignored.

    Raises `ValueError` naming the key when one is missing or of the wrong kind.
    """
    hints = typing.get_type_hints(kind, include_extras=True)
    values: dict[str, Any] = {}
    for f in dataclasses.fields(kind):  # type: ignore[arg-type]
        if f.name in data:
            values[f.name] = _convert(hints[f.name], data[f.name], f"{kind.__name__}.{f.name}")
        elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise ValueError(f"{kind.__name__}.{f.name} is missing")
    return kind(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin is typing.Union:
        if value is None:
            return None
        (inner,) = [a for a in typing.get_args(hint) if a is not type(None)]
        return _convert(inner, value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{where} must be a list")
        inner = typing.get_args(hint)[0]
        return tuple(_convert(inner, v, where) for v in value)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} must be an object")
        return from_json(typing.cast("type", hint), value)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(value)
    if hint is int or hint is float or hint is ExitCode:
        return _number(hint, value, where)
    if isinstance(hint, type) and not isinstance(value, hint):
        raise ValueError(f"{where} must be {hint.__name__}, not {value!r}")
    if origin is not None and isinstance(origin, type) and not isinstance(value, origin):
        raise ValueError(f"{where} must be an object")
    return value


def _number(hint: Any, value: Any, where: str) -> Any:
    """Lengths, counts, ids and times are never negative, and never beyond what the reader can compute with."""
    largest = LAST_SECOND if hint is float else LARGEST_COUNT
    kinds = (int, float) if hint is float else (int,)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise ValueError(f"{where} must be a number, not {value!r}")
    # Not a number (NaN) is not between any two.
    if not (0 <= value <= largest or (hint is ExitCode and -LARGEST_COUNT <= value < 0)):
        raise ValueError(f"{where} is out of range: {value!r:.40}")
    return float(value) if hint is float else value
