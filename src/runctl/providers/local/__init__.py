"""This computer, as if it were rented."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runctl.core.config import Config
    from runctl.providers.interface import Provider


def provider(config: Config) -> Provider:
    """The provider with this computer as its only instance."""
    import platformdirs

    from runctl.providers.local.computer import LocalProvider

    return LocalProvider(
        project=config.project.name,
        state_directory=platformdirs.user_data_path("runctl") / "local",
        cache_directory=platformdirs.user_cache_path("runctl"),
    )
