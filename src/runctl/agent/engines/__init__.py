"""What makes one run of a script on several machines: a module for each engine, all pure.

An engine is given what the machine is and what would run the script, and says what to run instead, with which
variables. It starts nothing and asks nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from runctl.agent.engines.interface import Engine, Host, ScriptStart
from runctl.agent.engines.none import NoEngine
from runctl.agent.engines.ray import Ray
from runctl.agent.engines.torchrun import Torchrun
from runctl.agent.errors import AgentError
from runctl.agent.node_spec import NodeSpec

ENGINES: Mapping[str, Engine] = {"none": NoEngine(), "ray": Ray(), "torchrun": Torchrun()}
"""By the name that ``--engine`` takes."""


def engine_of(node: NodeSpec) -> Engine:
    """Raises `AgentError` (``bad-request``) for one that this agent does not have."""
    engine = ENGINES.get(node.engine)
    if engine is None:
        raise AgentError(
            "bad-request",
            f"this machine's agent has no engine {node.engine!r}",
            "it has {}".format(", ".join(ENGINES)),
        )
    return engine


def check_node(node: NodeSpec) -> None:
    """Raises `AgentError` (``bad-request``)."""
    engine_of(node)
    if not 0 <= node.rank < node.count:
        raise AgentError("bad-request", f"there is no rank {node.rank} among {node.count} machines")
    if len(set(node.addresses)) != node.count:
        raise AgentError("bad-request", "two machines of the run have the same address")
    if not 0 <= node.least <= node.count:
        raise AgentError("bad-request", f"{node.least} of {node.count} machines cannot be enough")


__all__ = ["ENGINES", "Engine", "Host", "ScriptStart", "check_node", "engine_of"]
