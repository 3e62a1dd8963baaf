"""What a request may hold: one table of fields for all verbs, looked at before any of them is asked."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from typing import Any, Callable

from runctl.agent.errors import AgentError

LARGEST = 1 << 63


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST


def _is_seconds(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return -LARGEST < value < LARGEST and math.isfinite(value)


def _is_base64(value: Any) -> bool:
    try:
        base64.b64decode(value)
    except (TypeError, ValueError, binascii.Error):
        return False
    return isinstance(value, str)


def _is_secrets(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_base64(content) for content in value.values())


def _is_logins(value: Any) -> bool:
    fields = ("host", "username", "password")
    return isinstance(value, list) and all(
        isinstance(login, dict) and all(_is_text(login.get(field)) for field in fields) for login in value
    )


_KINDS: Mapping[Callable[[Any], bool], str] = {
    _is_text: "a text",
    _is_flag: "true or false",
    _is_count: "a number of at least 0",
    _is_seconds: "a number of seconds",
    _is_secrets: "an object of base64 texts",
    _is_logins: "a list of host, username and password",
}
_FIELDS: Mapping[str, Callable[[Any], bool]] = {
    "attempt": _is_count,
    "budget": _is_text,
    "budget_seconds": _is_seconds,
    "digest": _is_text,
    "do": _is_text,
    "follow": _is_flag,
    "force": _is_flag,
    "forget": _is_flag,
    "format": _is_text,
    "fstype": _is_text,
    "grace_seconds": _is_seconds,
    "hold_seconds": _is_seconds,
    "idle_seconds": _is_seconds,
    "limits_off": _is_text,
    "logins": _is_logins,
    "status_only": _is_flag,
    "manifest": _is_text,
    "max_bytes": _is_count,
    "mount_point": _is_text,
    "offset": _is_count,
    "only_read": _is_flag,
    "pack_bytes": _is_count,
    "pack_follows": _is_flag,
    "project": _is_text,
    "read_only": _is_flag,
    "reference": _is_text,
    "run_id": _is_text,
    "running": _is_flag,
    "sample_seconds": _is_seconds,
    "seconds": _is_seconds,
    "secrets": _is_secrets,
    "size_bytes": _is_count,
    "ttl_seconds": _is_seconds,
    "volume_id": _is_text,
    "wait_seconds": _is_seconds,
}


def checked(request: Any) -> Mapping[str, Any]:
    """The request itself, when every field that is set is of its kind. Raises `AgentError` (``bad-request``)."""
    if not isinstance(request, dict):
        raise AgentError("bad-request", "the request is not a JSON object")
    for name, is_right in _FIELDS.items():
        value = request.get(name)
        if value is not None and not is_right(value):
            raise AgentError("bad-request", f"{name} must be {_KINDS[is_right]}, and is {value!a:.100}")
    return request
