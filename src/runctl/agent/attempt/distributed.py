"""How the script of a run on several machines is started on this one: the machine's facts, put to the run's engine."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence

from runctl.agent.attempt.node_group import WhenLost
from runctl.agent.engines import Host, ScriptStart, engine_of
from runctl.agent.engines.interface import shared_variables
from runctl.agent.errors import AgentError
from runctl.agent.machine.gpus import gpus
from runctl.agent.node_spec import NodeSpec

HAS_MODULE = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
"""A program that ends with 0 where the module of that name is there, and with 1 where it is not."""


def when_lost(node: NodeSpec, *, has_store: bool) -> WhenLost:
    """What the others do when one of the machines is gone and enough are left. Pure.

    Only by a store has each of them what rank 0 has saved.
    """
    if not engine_of(node).restarts:
        return WhenLost.GO_ON
    return WhenLost.RESTART if has_store else WhenLost.ALL_END


def describe_host(node: NodeSpec) -> Host:
    """This machine, as an engine needs to know it."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Host(len(gpus()), cpus, interface_of(node.address))


def script_start(
    node: NodeSpec | None, host: Host | None, argv: Sequence[str], python: str | None
) -> ScriptStart | None:
    """What the run's engine is to start here; ``python`` runs the script where it is the first word of ``argv``.
    ``None``: the run has one machine."""
    if node is None or host is None:
        return None
    return ScriptStart(node, host, tuple(argv), python if list(argv[:1]) == [python] else None)


def variables(start: ScriptStart | None) -> dict[str, str]:
    """What the script finds in its environment of the run's machines; nothing where it has one."""
    if start is None:
        return {}
    return {**shared_variables(start), **engine_of(start.node).variables(start)}


def command(start: ScriptStart) -> list[str]:
    """What is run on this machine."""
    return engine_of(start.node).command(start)


def needed_module(node: NodeSpec | None) -> str | None:
    """The package without which the engine cannot start anything."""
    module = engine_of(node).module if node is not None else None
    return module.partition(".")[0] if module else None


def module_is_missing(node: NodeSpec, where: str) -> AgentError:
    """The error for an engine whose package is not where the script runs."""
    return AgentError(
        "setup-failed",
        f"{node.engine} needs the package {needed_module(node)}, which {where} does not have",
        engine_of(node).missing,
    )


SIOCGIFADDR = 0x8915
"""Linux: the IPv4 address of an interface."""


def interface_of(address: str) -> str | None:
    """The name of the interface that has this IPv4 address; ``None`` where it is not known."""
    try:
        import fcntl
    except ImportError:
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            try:
                found = fcntl.ioctl(asking.fileno(), SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue
            if socket.inet_ntoa(found[20:24]) == address:
                return name
    return None
