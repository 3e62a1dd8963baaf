"""How a machine is reached: as ``[hosts.machines]`` says, or as the user's own ssh configuration does."""

from __future__ import annotations

import getpass
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runctl.core.errors import ConfigError, Unsupported
from runctl_hosts.settings import HostConfig, HostsConfig


@dataclass(frozen=True)
class Way:
    """Everything that ssh has to know of one machine."""

    address: str
    user: str
    port: int
    identity: Path | None
    """``None``: ssh's own keys and agent."""
    proxy_command: str | None = None
    """For a machine behind another."""


def way_to(name: str, settings: HostsConfig) -> Way:
    """How the machine of that name is reached. Raises `ConfigError` for an alias that ssh does not understand."""
    written = settings.machines.get(name)
    if written is not None:
        return _of_config(written)
    return _of_alias(name, ["ssh", "-F", settings.ssh_config] if settings.ssh_config else ["ssh"])


def known_host_keys(way: Way) -> tuple[str, ...]:
    """The keys that the user's own known_hosts files have for the machine, as lines without the host."""
    host = way.address if way.port == 22 else f"[{way.address}]:{way.port}"
    keys: list[str] = []
    for file in (Path.home() / ".ssh" / "known_hosts", Path("/etc/ssh/ssh_known_hosts")):
        if file.is_file():
            found = _output(["ssh-keygen", "-F", host, "-f", str(file)])
            lines = (found or "").splitlines()
            # Lines with a marker (@revoked, @cert-authority) vouch for no key by themselves.
            keys += [line.partition(" ")[2] for line in lines if not line.startswith(("#", "@"))]
    return tuple(keys)


def _of_config(written: HostConfig) -> Way:
    identity = Path(written.identity_file) if written.identity_file else None
    return Way(written.address, written.user or getpass.getuser(), written.port, identity)


def _of_alias(name: str, ssh: list[str]) -> Way:
    said = _output([*ssh, "-G", "--", name])
    if said is None:
        raise ConfigError(
            f"ssh does not understand its configuration of {name}",
            hint=f"{shlex.join([*ssh, '-G', name])} says why",
        )
    values = _first_values(said)
    return Way(
        values.get("hostname", name),
        values.get("user", getpass.getuser()),
        int(values.get("port", "22")),
        _identity(said),
        _proxy(name, values, ssh),
    )


def _first_values(said: str) -> dict[str, str]:
    """What ``ssh -G`` prints, by lower-case option. Pure."""
    found: dict[str, str] = {}
    for line in said.splitlines():
        option, _, value = line.partition(" ")
        found.setdefault(option.lower(), value)
    return found


def _identity(said: str) -> Path | None:
    """The first key file that is there, where the configuration names one; ssh's defaults need no naming."""
    usual = _output(["ssh", "-G", "-F", "none", "--", "localhost"]) or ""
    defaults = {line for line in usual.splitlines() if line.startswith("identityfile ")}
    named = [line for line in said.splitlines() if line.startswith("identityfile ") and line not in defaults]
    files = [Path(line.partition(" ")[2]).expanduser() for line in named]
    return next((file for file in files if file.is_file()), None)


def _proxy(name: str, values: Mapping[str, str], ssh: Sequence[str]) -> str | None:
    """The command that carries the connection: a ProxyCommand, or ssh to the (last) host of a ProxyJump. Pure."""
    command = values.get("proxycommand", "none")
    if command != "none":
        return command.replace("%n", name)
    *before, last = values.get("proxyjump", "none").split(",")
    if last == "none":
        return None
    jumps = ["-J", ",".join(before)] if before else []
    return shlex.join([*ssh, "-o", "BatchMode=yes", *jumps, "-W", "[%h]:%p", "--", _destination(last)])


def _destination(jump: str) -> str:
    """``user@host:port`` as the address that ssh takes for one machine. Pure."""
    return jump if jump.startswith("ssh://") or ":" not in jump else f"ssh://{jump}"


def _output(argv: list[str]) -> str | None:
    """What a program of OpenSSH prints; ``None`` where it fails."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise Unsupported(
            f"there is no {argv[0]} on this computer", hint="install OpenSSH's client"
        ) from error
    return done.stdout if done.returncode == 0 else None
