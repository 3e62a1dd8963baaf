"""No engine: the script runs on each machine as it is, and finds in its environment where the others are."""

from __future__ import annotations

from collections.abc import Mapping

from runctl.agent.engines.interface import ScriptStart


class NoEngine:
    """One process for each machine, which joins the others itself."""

    module: str | None = None
    missing = ""
    restarts = False

    def command(self, start: ScriptStart) -> list[str]:
        """As it is."""
        return list(start.argv)

    def variables(self, start: ScriptStart) -> Mapping[str, str]:
        """The names by which PyTorch, Lightning, DeepSpeed and others know ranks, for one process on each machine."""
        node = start.node
        return {
            "MASTER_ADDR": node.head,
            "MASTER_PORT": str(node.engine_port),
            "NODE_RANK": str(node.rank),
            "GROUP_RANK": str(node.rank),
            "WORLD_SIZE": str(node.count),
            "RANK": str(node.rank),
            "LOCAL_RANK": "0",
            "LOCAL_WORLD_SIZE": "1",
        }
