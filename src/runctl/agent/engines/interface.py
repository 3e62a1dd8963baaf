"""What an engine is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from runctl._dataclasses import dataclass
from runctl.agent.node_spec import NodeSpec


@dataclass(frozen=True)
class Host:
    """What an engine needs to know of a machine."""

    gpus: int = 0
    cpus: int = 1
    interface: str | None = None
    """The network interface that has the machine's address; ``None``: not known."""

    @property
    def processes(self) -> int:
        """How many of the script's processes it can run at once: one for each GPU, else for each processor."""
        return self.gpus or max(1, self.cpus)


@dataclass(frozen=True)
class ScriptStart:
    """A script that is to be started on one of several machines."""

    node: NodeSpec
    host: Host
    argv: tuple[str, ...]
    """What would run it on one machine."""
    python: str | None = None
    """The first word of ``argv``, where that is the Python that has the script's packages; ``None``: it is another
    program."""


class Engine(Protocol):
    """One way to start a script on several machines. Pure."""

    @property
    def module(self) -> str | None:
        """The Python module without which it cannot start anything; ``None``: it needs none."""
        ...

    @property
    def missing(self) -> str:
        """What to do where that module is not there."""
        ...

    @property
    def restarts(self) -> bool:
        """Whether what is left of the machines has to start the script anew when one is gone; ``False``: the script
        goes on, with fewer machines."""
        ...

    def command(self, start: ScriptStart) -> list[str]:
        """What runs on this machine instead of the script alone."""
        ...

    def variables(self, start: ScriptStart) -> Mapping[str, str]:
        """What the script finds in its environment besides `shared_variables`."""
        ...


def shared_variables(start: ScriptStart) -> dict[str, str]:
    """What a script finds in its environment, whatever the engine. Pure."""
    node = start.node
    found = {
        "RUNCTL_NODE_RANK": str(node.rank),
        "RUNCTL_NODES": str(node.count),
        "RUNCTL_NODES_LEAST": str(node.enough),
        "RUNCTL_NODE_ADDRESS": node.address,
        "RUNCTL_NODE_ADDRESSES": ",".join(node.addresses),
    }
    if start.host.interface is not None:
        # Without these gloo and NCCL take the first interface that they find, or the one that the host's name leads to.
        found["GLOO_SOCKET_IFNAME"] = start.host.interface
        found["NCCL_SOCKET_IFNAME"] = start.host.interface
    return found
