"""This computer, as if it were rented."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runctl.core.config import Config
    from runctl.providers.interface import Provider


def provider(config: Config) -> Provider:
    """The provider with this computer as its only instance."""
    from runctl.core.places import cache_folder, data_folder
    from runctl.providers.local.computer import LocalProvider

    return LocalProvider(
        project=config.project.name,
        state_directory=data_folder() / "local",
        cache_directory=cache_folder(),
    )
