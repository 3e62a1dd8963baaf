"""torchrun: PyTorch's own launcher, started on every machine, with its meeting point on rank 0."""

from __future__ import annotations

from collections.abc import Mapping

from runctl.agent.engines.interface import ScriptStart

JOIN_SECONDS = 300
"""How long torchrun waits for the other machines' torchrun. All are started at the same time, when all are ready."""


class Torchrun:
    """A process of the script for each GPU of each machine, or for each processor where there are no GPUs.

    Each machine has the rank that it has for us: what rank 0 saves is on our rank 0. torchrun's own way to go on with
    fewer machines (``--rdzv-backend c10d``) is not used. It notices a machine that is gone only when the script fails
    of it, which takes up to half an hour where nothing answers any more; it gives ranks anew; and the script begins
    with what it began with the first time. The agents know within seconds, and bring the newest checkpoint.
    """

    module: str | None = "torch.distributed.run"
    missing = (
        "add torch to the project's dependencies (requirements.txt, pyproject.toml or the script's header), or use an"
        " image that has it"
    )
    restarts = True

    def command(self, start: ScriptStart) -> list[str]:
        """``python -m torch.distributed.run … SCRIPT ARGUMENTS``; a program that is not a Python script is run by it
        as it is."""
        node, python = start.node, start.python
        program = list(start.argv if python is None else start.argv[1:])
        flags = []
        while python is not None and program and program[0].startswith("-"):
            flags.append(program.pop(0))
        return [
            python if python is not None else "python3",
            *flags,
            *("-m", "torch.distributed.run"),
            f"--nproc-per-node={start.host.processes}",
            f"--nnodes={node.count}",
            f"--node-rank={node.rank}",
            "--rdzv-backend=static",
            f"--rdzv-endpoint={node.head}:{node.engine_port}",
            f"--rdzv-id={node.group_id}",
            f"--rdzv-conf=timeout={JOIN_SECONDS}",
            "--max-restarts=0",
            # Else the others are told this machine's name, which nobody may be able to resolve.
            f"--local-addr={node.address}",
            *node.options,
            *(("--no-python",) if python is None else ()),
            *program,
        ]

    def variables(self, start: ScriptStart) -> Mapping[str, str]:
        """torchrun sets ranks and the master's address itself."""
        # torchrun's own choice would be 1, with a warning, where nobody has made one.
        return {"OMP_NUM_THREADS": str(max(1, start.host.cpus // start.host.processes))}
