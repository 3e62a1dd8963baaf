"""The JSON that programs rely on: field names as the models have them, times RFC 3339, money decimal strings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any

import msgspec

from runctl.core.clock import rfc3339
from runctl.core.money import plain


def document(value: Any) -> str:
    """One indented JSON document, without a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(to_builtins(value)), indent=2).decode()


def line(value: Any) -> str:
    """The same on one line, for streams."""
    return msgspec.json.encode(to_builtins(value)).decode()


def to_builtins(value: Any) -> Any:
    """Dataclasses, enums, money and times as what JSON has. Raises `TypeError` for anything unknown."""
    if isinstance(value, Enum):
        return to_builtins(value.value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _encodable(value)
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, PurePath):
        return _encodable(str(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_builtins(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {_encodable(str(key)): to_builtins(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_builtins(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _encodable(text: str) -> str:
    """File names and arguments may hold bytes that are not text; JSON is UTF-8 always."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return text
