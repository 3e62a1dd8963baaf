"""The heart: a training job from its plan to its end.

For programs, the functions that the commands of ``runctl runs`` call: `list`, `show`, `logs`, `stop`,
`interrupt`, `recover` and `watch`. Each is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runctl.runs.from_python import follow_logs as logs
    from runctl.runs.from_python import interrupt, stop
    from runctl.runs.listing import list_runs as list  # noqa: A004 - runctl.runs.list reads as what it is
    from runctl.runs.listing import show_run as show
    from runctl.runs.recovering.watching import recover, watch

_FUNCTIONS = {
    "interrupt": "runctl.runs.from_python:interrupt",
    "list": "runctl.runs.listing:list_runs",
    "logs": "runctl.runs.from_python:follow_logs",
    "recover": "runctl.runs.recovering.watching:recover",
    "show": "runctl.runs.listing:show_run",
    "stop": "runctl.runs.from_python:stop",
    "watch": "runctl.runs.recovering.watching:watch",
}

__all__ = ["interrupt", "list", "logs", "recover", "show", "stop", "watch"]


def __getattr__(name: str) -> Any:
    if name not in _FUNCTIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, function = _FUNCTIONS[name].partition(":")
    return getattr(import_module(module), function)
