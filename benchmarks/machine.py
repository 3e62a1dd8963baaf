"""This computer as a machine: the agent on it, by way of sshd or directly, with a state folder of its own."""

from __future__ import annotations

import shutil
import sys
import uuid
from pathlib import Path
from typing import Any

from benchmarks.sshd import SYSTEM_PATH, Server
from runctl.agent import package
from runctl.agent.spec import AttemptStatus, RunSpec
from runctl.project.sync import sync
from runctl.transport.agent import AgentClient
from runctl.transport.interface import Transport
from runctl.transport.local import LocalTransport
from runctl.transport.ssh import SshTransport
from runctl.transport.ssh_connection import SshTarget


def missing(*programs: str) -> str:
    """A reason not to measure, or an empty string."""
    absent = [program for program in programs if shutil.which(program, path=SYSTEM_PATH) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


def agent_over_ssh(server: Server, folder: Path, state: Path) -> AgentClient:
    """The agent at the other end of an ssh connection to this computer."""
    transport = SshTransport(
        SshTarget("127.0.0.1", server.user, "benchmark", server.port),
        runtime_dir=folder / "run",
        known_hosts=folder / "ours_known_hosts",
        identity=server.identity,
        host_keys=lambda: [server.host_key],
    )
    server.leaving.callback(transport.close)
    return agent(transport, folder, state)


def agent_directly(folder: Path, state: Path) -> AgentClient:
    """The agent as the local provider has it."""
    return agent(LocalTransport(), folder, state)


def agent(transport: Transport, folder: Path, state: Path) -> AgentClient:
    """The agent, packed from these sources."""
    return AgentClient(
        transport,
        agent_file=lambda: package.build(folder / "package"),
        state_directory=str(state),
        python=sys.executable,
    )


def start_script(client: AgentClient, folder: Path, text: str, **more: Any) -> AttemptStatus:
    """A run of this program has been started on the host; ``more`` is what else its `RunSpec` says."""
    project = folder / f"project-{uuid.uuid4().hex[:8]}"
    project.mkdir()
    (project / "train.py").write_text(text)
    synced = sync(project, client, "benchmark", cache=folder / "cache")
    run_id = f"run-{uuid.uuid4().hex[:10]}"
    return client.start(RunSpec(run_id, "train.py", project=synced.project, tree=synced.digest, **more))
