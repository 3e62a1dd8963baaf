"""From Python to a provider, configured as the command line would be."""

from __future__ import annotations

from pathlib import Path

from runctl.core.config import Config, load
from runctl.core.progress import SILENT, Progress
from runctl.machines.config_checks import CHECKS
from runctl.providers import registry
from runctl.providers.interface import Provider


def connect(
    provider: str = registry.DEFAULT,
    *,
    region: str | None = None,
    profile: str | None = None,
    config: Config | None = None,
    progress: Progress = SILENT,
) -> Provider:
    """A provider of machines, ready to be asked; nothing has been sent yet.

    Without ``config`` the layers are read as the command line reads them: variables, the project's file as seen
    from the current folder, the user's file. ``region`` and ``profile`` outrank them. Raises `ConfigError`,
    `NotFound` for a provider that is not installed, `Unsupported` for one that does not work.
    """
    if config is None:
        keys = registry.plugin(provider).global_options
        given = {"region": region, "profile": profile}
        for option, value in given.items():
            if value is not None and option not in keys:
                raise TypeError(f"{provider} has no {option}")
        flags = {keys[option]: (value, f"{option}=") for option, value in given.items() if value is not None}
        config = load(Path.cwd(), flags=flags, checks=CHECKS)
    elif region is not None or profile is not None:
        raise TypeError("give either config, or region and profile")
    return registry.load(provider, config, progress=progress)
