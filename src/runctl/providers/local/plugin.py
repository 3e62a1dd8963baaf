"""This computer, described for the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runctl.providers.plugin import ProviderPlugin

if TYPE_CHECKING:
    from runctl.core.config import Config
    from runctl.providers.interface import Provider


def make(config: Config) -> Provider:
    """The provider with this computer as its only instance."""
    from runctl.core.files import cache_folder, data_folder
    from runctl.providers.local.computer import LocalProvider

    return LocalProvider(
        project=config.project.name,
        state_directory=data_folder() / "local",
        cache_directory=cache_folder(),
    )


plugin = ProviderPlugin(
    name="local",
    help="Train on this computer, with the same verbs.",
    make=make,
    only_instance="local",
    this_computer=True,
    transports=("local",),
)
