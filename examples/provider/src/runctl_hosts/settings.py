"""The section ``[hosts]`` of runctl's configuration, and the machines that it names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from runctl.core.config import Config
from runctl.core.config.values import TRUST
from runctl.core.errors import ConfigError

_NAME = re.compile(r"(?!run-)[A-Za-z0-9][A-Za-z0-9._-]*")
"""Commands take it as an instance; ``run-…`` is a run."""


@dataclass(frozen=True)
class HostConfig:
    """``[hosts.machines.NAME]``: one machine."""

    address: str
    """A host name or an IP address."""
    user: str | None = None
    """Who logs in; by default whoever runs runctl, as with ssh."""
    port: int = field(default=22, metadata={"minimum": 1})
    identity_file: str | None = field(default=None, metadata={"kind": "path"})
    """The private key; by default ssh's own keys and agent."""
    state_directory: str | None = field(default=None, metadata={"kind": "absolute"})
    """Where the machine keeps runs and projects; by default below the user's home."""


@dataclass(frozen=True)
class HostsConfig:
    """``[hosts]``: the machines that one has."""

    machines: Mapping[str, HostConfig] = field(default_factory=dict, metadata=TRUST)
    aliases: tuple[str, ...] = field(default=(), metadata=TRUST)
    """Hosts of ``~/.ssh/config``, each a machine under the name that it has there."""
    ssh_config: str | None = field(default=None, metadata={"kind": "path", **TRUST})
    """The file that the aliases are in, where it is another."""
    strict_host_key: bool = False
    """Whether a machine is refused whose key no known_hosts file vouches for."""
    timeout: str = field(default="5s", metadata={"kind": "duration"})
    """How long a machine may take to answer before it counts as unreachable."""


def names_of(settings: HostsConfig) -> tuple[str, ...]:
    """The machines in the order in which they are written."""
    return tuple(dict.fromkeys((*settings.machines, *settings.aliases)))


def settings_of(config: Config) -> HostsConfig:
    """The section. Raises `ConfigError` for a name that cannot be typed as an instance, or is given twice."""
    settings = config.section(HostsConfig)
    for key, names in (("hosts.machines", settings.machines), ("hosts.aliases", settings.aliases)):
        for name in names:
            if not _NAME.fullmatch(name):
                raise ConfigError(
                    f"{config.origin(key)}: {key}: {name!r} cannot be a machine's name",
                    hint="letters, digits, dots, dashes and underscores; it does not begin with run-",
                )
    for name in settings.aliases:
        if name in settings.machines:
            raise ConfigError(
                f"{config.origin('hosts.aliases')}: hosts.aliases: {name!r} is one of hosts.machines too",
                hint="name it in one of the two",
            )
    return settings
