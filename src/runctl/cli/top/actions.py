"""The commands behind the dashboard's keys: the same that somebody would type. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from runctl._dataclasses import dataclass
from runctl.cli.context import Settings
from runctl.core.run_models import Run
from runctl.providers.registry import plugin
from runctl.runs.status import RunningMachine

LINES = "1000"
"""Of a log, to begin with."""


@dataclass(frozen=True)
class Action:
    """A command line."""

    argv: tuple[str, ...]
    """Without the program's name."""
    asks: bool = True
    """Whether the command itself asks before it ends anything; reading ends nothing."""


def log_of(run: Run) -> Action:
    """Shows the log, and follows it while the run goes on."""
    follow = () if run.end_reason is not None else ("--follow",)
    return Action(("runs", "logs", run.id, "--tail", LINES, *follow))


def stop_run(run: Run) -> Action:
    """Ends the run; its machine stays."""
    return Action(("runs", "stop", run.id), asks=False)


def stop_machine(machine: RunningMachine) -> Action:
    """Stops the machine, to be started again later."""
    # It asks where something would be lost; a key that was hit by mistake should stop no machine.
    return Action(
        (machine.provider, "stop", machine.id, *_region(machine.provider, machine.region)), asks=False
    )


def terminate(provider: str, instance_ids: Sequence[str], region: str | None) -> Action:
    """Ends the machines for good."""
    return Action((provider, "terminate", *instance_ids, *_region(provider, region)))


def machines_of(run: Run) -> Sequence[str]:
    """All of them, by rank; empty: it has none yet."""
    return [each.instance_id for each in run.nodes] or [run.instance_id] * bool(run.instance_id)


def options(settings: Settings) -> tuple[str, ...]:
    """The global options that the dashboard was started with; the region is the machine's own."""
    given = (
        ("--profile", settings.profile),
        ("--config", str(settings.config_file) if settings.config_file else None),
    )
    named = tuple(part for option, value in given if value is not None for part in (option, value))
    return (*named, *(("--strict-host-key",) if settings.strict_host_key else ()))


def _region(provider: str, region: str | None) -> tuple[str, ...]:
    if region is None or "region" not in plugin(provider).global_options:
        return ()
    return ("--region", region)
