"""What the entry point leads to. Importing it must be quick, so the provider itself is imported when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from runctl.providers.plugin import BASIC_VERBS, ProviderPlugin
from runctl_hosts.settings import HostsConfig, names_of, settings_of

if TYPE_CHECKING:
    from runctl.core.config import Config
    from runctl.providers.interface import Provider


def make(config: Config) -> Provider:
    """The provider for the machines in the configuration."""
    from runctl_hosts.provider import HostsProvider

    return HostsProvider(settings_of(config))


def known_instances(config: Config) -> Mapping[str, str]:
    """Every machine, with what was seen of it last: for completion, and for ``runctl cp gpu-box:…``."""
    from runctl_hosts.facts import FactsMemory

    seen = FactsMemory.in_cache().all()
    return {name: seen[name].kind if name in seen else "" for name in names_of(config.section(HostsConfig))}


plugin = ProviderPlugin(
    name="hosts",
    help="Train on machines that you have already.",
    make=make,
    verbs=(*BASIC_VERBS, "wait", "ssh"),
    sections={"hosts": HostsConfig},
    global_options={"strict_host_key": "hosts.strict_host_key"},
    known_instances=known_instances,
)
