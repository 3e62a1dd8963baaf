"""Train any script on one rented machine: spot prices, EBS volumes and Docker.

What is public is listed in ``__all__``; each name is imported when it is first used, so that ``import runctl``
costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from runctl._version import __version__

if TYPE_CHECKING:
    from runctl import runs, volumes
    from runctl.connection import connect
    from runctl.core.config import Config
    from runctl.core.errors import (
        BudgetExceeded,
        CapacityError,
        ConfigError,
        Conflict,
        CredentialsError,
        HostKeyChanged,
        HostKeyUnknown,
        InstanceEnded,
        Interrupted,
        MachineError,
        NotFound,
        OutcomeUnknown,
        PermissionDenied,
        ProjectError,
        ProviderError,
        QuotaExceeded,
        RunctlError,
        Unreachable,
        Unsupported,
        UsageError,
        ZoneMismatch,
    )
    from runctl.core.machine_models import (
        AttachedVolume,
        Instance,
        InstanceState,
        Market,
        Mount,
        Snapshot,
        Volume,
        VolumeState,
    )
    from runctl.core.run_models import Run, RunPhase
    from runctl.machines.instances import create, terminate
    from runctl.machines.renting import Rental
    from runctl.machines.session import Session
    from runctl.runs.launch.from_python import LaunchedRun, launch, launch_unattended
    from runctl.runs.train.from_python import StartedRun, train

_ORIGINS = {
    "runctl.connection": ("connect",),
    "runctl.core.config": ("Config",),
    "runctl.machines.instances": ("create", "terminate"),
    "runctl.machines.renting": ("Rental",),
    "runctl.machines.session": ("Session",),
    "runctl.runs.train.from_python": ("StartedRun", "train"),
    "runctl.runs.launch.from_python": ("LaunchedRun", "launch", "launch_unattended"),
    "runctl.core.errors": (
        "BudgetExceeded",
        "CapacityError",
        "ConfigError",
        "Conflict",
        "CredentialsError",
        "HostKeyChanged",
        "HostKeyUnknown",
        "InstanceEnded",
        "Interrupted",
        "MachineError",
        "NotFound",
        "OutcomeUnknown",
        "PermissionDenied",
        "ProjectError",
        "ProviderError",
        "QuotaExceeded",
        "RunctlError",
        "Unreachable",
        "Unsupported",
        "UsageError",
        "ZoneMismatch",
    ),
    "runctl.core.machine_models": (
        "AttachedVolume",
        "Instance",
        "InstanceState",
        "Market",
        "Mount",
        "Snapshot",
        "Volume",
        "VolumeState",
    ),
    "runctl.core.run_models": ("Run", "RunPhase"),
}
_MODULES = {name: module for module, names in _ORIGINS.items() for name in names}

__all__ = [
    "AttachedVolume",
    "BudgetExceeded",
    "CapacityError",
    "Config",
    "ConfigError",
    "Conflict",
    "CredentialsError",
    "HostKeyChanged",
    "HostKeyUnknown",
    "Instance",
    "InstanceEnded",
    "InstanceState",
    "Interrupted",
    "LaunchedRun",
    "MachineError",
    "Market",
    "Mount",
    "NotFound",
    "OutcomeUnknown",
    "PermissionDenied",
    "ProjectError",
    "ProviderError",
    "QuotaExceeded",
    "Rental",
    "Run",
    "RunPhase",
    "RunctlError",
    "Session",
    "Snapshot",
    "StartedRun",
    "Unreachable",
    "Unsupported",
    "UsageError",
    "Volume",
    "VolumeState",
    "ZoneMismatch",
    "__version__",
    "connect",
    "create",
    "launch",
    "launch_unattended",
    "runs",
    "terminate",
    "train",
    "volumes",
]


def __getattr__(name: str) -> Any:
    if name in ("runs", "volumes"):
        return import_module(f"runctl.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
