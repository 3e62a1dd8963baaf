"""torchrun: PyTorch's own launcher, started on every machine, with its meeting point on rank 0."""

from __future__ import annotations

from collections.abc import Mapping

from runctl.agent.engines.interface import ScriptStart

JOIN_SECONDS = 300
"""How long torchrun waits for the other machines' torchrun. All are started at the same time, when all are ready."""
LAST_CALL_SECONDS = 10
"""How long it waits for more than the least number of machines."""


class Torchrun:
    """A process of the script for each GPU of each machine, or for each processor where there are no GPUs."""

    module: str | None = "torch.distributed.run"
    missing = (
        "add torch to the project's dependencies (requirements.txt, pyproject.toml or the script's header), or use an"
        " image that has it"
    )

    def command(self, start: ScriptStart) -> list[str]:
        """``python -m torch.distributed.run … SCRIPT ARGUMENTS``; a program that is not a Python script is run by it
        as it is."""
        node, python = start.node, start.python
        program = start.argv if python is None else start.argv[1:]
        least = node.enough
        conf = {
            # Else every machine compares names with the meeting point's, and none may find that it is the one.
            "is_host": "true" if node.rank == 0 else "false",
            "join_timeout": str(JOIN_SECONDS),
            "last_call_timeout": str(LAST_CALL_SECONDS),
            "read_timeout": "60",
        }
        return [
            python if python is not None else "python3",
            *("-m", "torch.distributed.run"),
            "--nnodes={}".format(node.count if least == node.count else f"{least}:{node.count}"),
            f"--nproc-per-node={start.host.processes}",
            f"--node-rank={node.rank}",
            "--rdzv-backend=c10d",
            f"--rdzv-endpoint={node.head}:{node.engine_port}",
            f"--rdzv-id={node.secret[:16]}",
            "--rdzv-conf={}".format(",".join(f"{key}={value}" for key, value in conf.items())),
            # Else the others are told this machine's name, which nobody may be able to resolve.
            f"--local-addr={node.address}",
            *(("--max-restarts=100",) if least < node.count else ("--max-restarts=0",)),
            *node.options,
            *(("--no-python",) if python is None else ()),
            *program,
        ]

    def variables(self, start: ScriptStart) -> Mapping[str, str]:
        """torchrun sets ranks and the master's address itself."""
        # torchrun's own choice would be 1, with a warning, where nobody has made one.
        return {"OMP_NUM_THREADS": str(max(1, start.host.cpus // start.host.processes))}
