"""The heart: a training job from its plan to its end.

For programs, the functions that the commands of ``runctl runs`` call: `list`, `show`, `logs`, `stop` and
`interrupt`. Each is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runctl.runs.control import follow_logs as logs
    from runctl.runs.control import interrupt, stop
    from runctl.runs.control import list_runs as list  # noqa: A004 - runctl.runs.list reads as what it is
    from runctl.runs.control import show_run as show

_FUNCTIONS = {
    "interrupt": "interrupt",
    "list": "list_runs",
    "logs": "follow_logs",
    "show": "show_run",
    "stop": "stop",
}

__all__ = ["interrupt", "list", "logs", "show", "stop"]


def __getattr__(name: str) -> Any:
    if name not in _FUNCTIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("runctl.runs.control"), _FUNCTIONS[name])
