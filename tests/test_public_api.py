"""What ``import runctl`` offers, and what it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import runctl
from runctl.core import errors

PUBLIC = {
    *(
        "__version__",
        "connect",
        "create",
        "terminate",
        "train",
        "launch",
        "launch_unattended",
        "LaunchedRun",
        "runs",
        "volumes",
        "Config",
        "Rental",
        "Session",
        "StartedRun",
    ),
    *(
        "AttachedVolume",
        "Instance",
        "InstanceState",
        "Market",
        "Mount",
        "Run",
        "RunPhase",
        "Snapshot",
        "Volume",
        "VolumeState",
    ),
    *("RunctlError", "UsageError", "ConfigError", "CredentialsError", "PermissionDenied", "NotFound"),
    *(
        "BudgetExceeded",
        "CapacityError",
        "QuotaExceeded",
        "Unreachable",
        "HostKeyChanged",
        "HostKeyUnknown",
        "Conflict",
        "ZoneMismatch",
    ),
    *("InstanceEnded", "OutcomeUnknown"),
    *("Unsupported", "ProviderError", "ProjectError", "MachineError", "Interrupted"),
}


def test_what_is_public_is_exactly_this() -> None:
    assert set(runctl.__all__) == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(runctl, name) is not None
    assert name in dir(runctl)


def test_every_error_of_the_tree_is_public() -> None:
    def tree(kind: type[errors.RunctlError]) -> set[str]:
        return {kind.__name__}.union(
            *(tree(sub) for sub in kind.__subclasses__() if sub.__module__ == errors.__name__)
        )

    assert tree(errors.RunctlError) <= PUBLIC


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'conect'"):
        _ = runctl.conect


def test_importing_it_imports_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import runctl; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = {name for name in done.stdout.split() if name.startswith("runctl")}
    assert ours == {"runctl", "runctl._version"}


def test_connect_gives_a_provider_configured_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    provider = runctl.connect("local")
    assert provider.name == "local"
    assert provider.instances()[0].id == "local"


def test_connect_reads_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".runctl.toml").write_text("[aws]\nspot = 3\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(runctl.ConfigError, match=r"\.runctl\.toml:2"):
        runctl.connect("local")


def test_connect_takes_a_configuration_or_parts_of_one() -> None:
    with pytest.raises(TypeError, match="either"):
        runctl.connect("local", config=runctl.Config(), region="x")
    with pytest.raises(runctl.NotFound):
        runctl.connect("nowhere", config=runctl.Config())
