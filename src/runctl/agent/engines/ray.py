"""Ray: a cluster of the run's machines for as long as the run takes, and the script on rank 0 as its driver."""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Mapping

from runctl.agent.engines.interface import ScriptStart


class Ray:
    """Rank 0 has the cluster's head and runs the script; the others give the cluster what they have.

    The script is Ray's driver, and not a job of Ray's: signals reach it, and its exit code and its output are its own.
    """

    module: str | None = "ray"
    missing = (
        "add ray to the project's dependencies (requirements.txt, pyproject.toml or the script's header), or use an"
        " image that has it"
    )
    restarts = False

    def command(self, start: ScriptStart) -> list[str]:
        """``python -c`` with the program `ray_node`: the machine that runs it has nothing of ours beside the agent, and
        a container has not even that."""
        node = start.node
        told = {
            "rank": node.rank,
            "count": node.count,
            "enough": node.enough,
            "address": node.address,
            "head": node.head,
            "port": node.engine_port,
            # Ray has the head's folder on every machine.
            "folder": f"/tmp/ray-{node.group_id}",  # noqa: S108
            "options": list(node.options),
        }
        python = start.python if start.python is not None else "python3"
        return [python, "-u", "-c", _program(), json.dumps(told), *start.argv]

    def variables(self, start: ScriptStart) -> Mapping[str, str]:
        """By ``RAY_ADDRESS`` a script's ``ray.init()`` finds the cluster."""
        return {
            "RAY_ADDRESS": f"{start.node.head}:{start.node.engine_port}",
            "RAY_USAGE_STATS_ENABLED": "0",
        }


def _program() -> str:
    source = pkgutil.get_data("runctl.agent.engines", "ray_node.py")
    assert source is not None  # noqa: S101 - it lies beside this module
    return source.decode()
