"""A project reaches a machine through the real agent, over real transports."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runctl.agent.package import build
from runctl.core.errors import MachineError
from runctl.project.root import project_name
from runctl.project.sync import sync
from runctl.testing.sshd import running
from runctl.transport.agent import AgentClient
from runctl.transport.interface import Transport
from runctl.transport.local import LocalTransport
from runctl.transport.ssh import SshTransport
from runctl.transport.ssh_connection import SshTarget
from tests.project.files import repository, write


@pytest.fixture(params=["local", pytest.param("ssh", marks=pytest.mark.sshd)])
def transport(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Transport]:
    if request.param == "local":
        yield LocalTransport()
        return
    with tempfile.TemporaryDirectory(prefix="rt") as name, running(tmp_path / "sshd") as server:
        folder = Path(name)
        over_ssh = SshTransport(
            SshTarget("127.0.0.1", server.user, "i-0123456789abcdef0", server.port),
            runtime_dir=folder,
            known_hosts=folder / "known hosts",
            identity=server.identity,
        )
        yield over_ssh
        over_ssh.close()


def test_a_project_arrives_whole_and_then_only_what_changed(transport: Transport, tmp_path: Path) -> None:
    state = tmp_path / "state"
    client = AgentClient(transport, agent_file=build(tmp_path / "agent"), state_directory=str(state))
    data = os.urandom(2_500_000)
    root = repository(
        tmp_path / "proj", {"train.py": "print(1)", "weights.bin": data, "run.sh": "#!/bin/sh\n"}
    )
    (root / "run.sh").chmod(0o755)
    (root / "latest").symlink_to("weights.bin")

    first = sync(root, client, "m", cache=tmp_path / "cache")
    write(root, {"train.py": "print(2)"})
    second = sync(root, client, "m", cache=tmp_path / "cache")
    third = sync(root, client, "m", cache=tmp_path / "cache")

    tree = (state / "projects" / project_name(root) / "current").resolve(strict=True)
    assert tree.name == second.digest == third.digest
    assert {path.name for path in tree.iterdir()} == {"train.py", "weights.bin", "run.sh", "latest"}
    assert (tree / "weights.bin").read_bytes() == data
    assert (tree / "train.py").read_text() == "print(2)"
    assert (tree / "run.sh").stat().st_mode & 0o100
    assert (first.files_sent, second.files_sent, third.unchanged) == (3, 1, True)
    assert second.bytes_sent < 2000


def test_what_the_agent_says_comes_back_as_its_own_error(tmp_path: Path) -> None:
    state = tmp_path / "state"
    client = AgentClient(LocalTransport(), agent_file=build(tmp_path / "agent"), state_directory=str(state))
    root = write(tmp_path / "proj", {"train.py": "print(1)"})
    write(state, {f"projects/{project_name(root)}": "a file where the folder should be"})

    with pytest.raises(MachineError) as caught:
        sync(root, client, "m", cache=tmp_path / "cache")

    assert caught.value.code == "tree-failed"
    assert caught.value.hint
