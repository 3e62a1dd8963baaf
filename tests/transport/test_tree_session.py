"""A session about a project's trees, with the real agent, over each transport."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from runctl.agent import package
from runctl.core.errors import MachineError, Unreachable
from runctl.core.files import cache_folder
from runctl.transport.agent import AgentClient
from runctl.transport.interface import Completed, Transport
from runctl.transport.local import LocalTransport
from runctl.transport.tree_session import StreamedTreeSession

pytestmark = pytest.mark.linux


@pytest.fixture
def client(transport: Transport, tmp_path: Path) -> AgentClient:
    return AgentClient(
        transport,
        agent_file=lambda: package.build(cache_folder() / "agent"),
        state_directory=str(tmp_path / "state"),
        python=sys.executable,
    )


def tree(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The request and the pack for a tree of one file."""
    sha256 = hashlib.sha256(data).hexdigest()
    entries = json.dumps({"train.py": ["f", 0, len(data), sha256]}, separators=(",", ":")).encode()
    request = {
        "project": "demo",
        "digest": hashlib.sha256(entries).hexdigest(),
        "manifest": base64.b64encode(gzip.compress(entries)).decode(),
    }
    return request, gzip.compress(json.dumps([[sha256, len(data)]]).encode() + b"\n" + data)


def test_a_machine_without_the_agent_gets_it_and_then_the_tree(client: AgentClient, tmp_path: Path) -> None:
    request, pack = tree(b"print(1)")

    with client.trees("demo", None) as session:
        assert session.status() == {"have": False, "current": False}
        assert session.manifest(request) == {"have": False, "known": True, "missing": "all"}
        assert session.apply(request, pack, len(pack))["applied"]

    found = tmp_path / "state" / "projects" / "demo" / "current" / "train.py"
    assert found.read_bytes() == b"print(1)"
    with client.trees("demo", request["digest"]) as session:
        assert session.status() == {"have": True, "current": True}


def test_an_error_of_the_agent_ends_the_question_and_not_the_talk(client: AgentClient) -> None:
    request, pack = tree(b"print(1)")

    with client.trees("demo", None) as session:
        with pytest.raises(MachineError) as caught:
            session.apply(request, pack[:-20], len(pack) - 20)
        assert caught.value.code == "bad-pack"
        with pytest.raises(MachineError) as caught:
            session.manifest({**request, "digest": "x"})
        assert caught.value.code == "bad-request"
        assert session.apply(request, pack, len(pack))["applied"]


def test_a_name_that_is_none_is_refused(client: AgentClient) -> None:
    with client.trees("../demo", "0" * 64) as session, pytest.raises(MachineError) as caught:
        session.status()

    assert caught.value.code == "bad-request"


def test_a_talk_in_which_nothing_is_asked_leaves_nothing_running(client: AgentClient) -> None:
    with client.trees("demo", None):
        pass

    assert not [thread for thread in threading.enumerate() if thread.name == "runctl-sync"]


def test_a_command_that_has_answered_is_not_waited_for() -> None:
    left = threading.Event()

    def converse(stdin: BinaryIO, on_stdout: Callable[[bytes], None]) -> Completed:
        on_stdout(b'{"ok":{"have":true,"current":true}}\n')
        assert stdin.read() == b""
        left.wait()
        return Completed(("sync",), 0, b"", b"")

    with StreamedTreeSession(converse, lambda call: call()) as session:
        assert session.status() == {"have": True, "current": True}
    left.set()


def test_a_machine_without_python_is_told_so(tmp_path: Path) -> None:
    client = AgentClient(
        LocalTransport(),
        agent_file=lambda: package.build(cache_folder() / "agent"),
        state_directory=str(tmp_path / "state"),
        python="no-such-python",
    )

    with client.trees("demo", None) as session, pytest.raises(MachineError) as caught:
        session.status()

    assert caught.value.code == "no-python"


@pytest.mark.parametrize("moment", ["before the look", "before the answer"])
def test_a_connection_that_breaks_is_an_error_of_the_question(moment: str) -> None:
    def converse(stdin: BinaryIO, on_stdout: Callable[[bytes], None]) -> Completed:
        if moment == "before the answer":
            on_stdout(b'{"ok":{"have":false,')
            on_stdout(b'"current":false}}\n')
            stdin.read(1)
        raise Unreachable("the connection broke")

    with StreamedTreeSession(converse, lambda call: call()) as session, pytest.raises(Unreachable):
        session.manifest({"project": "demo", "digest": "0" * 64})


def test_a_pack_that_nobody_reads_to_its_end_does_not_hang() -> None:
    def converse(stdin: BinaryIO, on_stdout: Callable[[bytes], None]) -> Completed:
        on_stdout(b'{"ok":{"have":false,"current":false}}\n')
        stdin.read(10)
        return Completed(("sync",), 1, b"", b"killed")

    with (
        StreamedTreeSession(converse, lambda call: call()) as session,
        pytest.raises(MachineError, match="killed"),
    ):
        session.apply({"project": "demo"}, b"x" * 5_000_000, 5_000_000)
