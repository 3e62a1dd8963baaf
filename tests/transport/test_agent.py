"""The agent's client with the real agent, over each transport."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, ClassVar

import pytest

from runctl.agent import package
from runctl.agent.encoding import dumps
from runctl.agent.end_reason import EndReason
from runctl.agent.spec import LogFrame, RunSpec, RunState
from runctl.core.errors import MachineError, Unreachable
from runctl.core.files import cache_folder
from runctl.core.progress import Silent
from runctl.transport.agent import AgentClient
from runctl.transport.interface import Completed, Transport
from runctl.transport.local import LocalTransport

pytestmark = pytest.mark.linux


@pytest.fixture
def client(transport: Transport, tmp_path: Path) -> Iterator[AgentClient]:
    """An agent with a state folder of its own."""
    it = AgentClient(
        transport,
        agent_file=lambda: package.build(cache_folder() / "agent"),
        state_directory=str(tmp_path / "state"),
    )
    yield it
    for each in it.attempts():
        if each.end is None:
            it.stop(each.run_id, force=True)


def give_code(client: AgentClient, source: str) -> RunSpec:
    """A project of one script, sent as a sync sends it."""
    data = source.encode()
    sha256 = hashlib.sha256(data).hexdigest()
    entries = json.dumps({"train.py": ["f", False, len(data), sha256]}, separators=(",", ":")).encode()
    request = {
        "project": "demo",
        "digest": hashlib.sha256(entries).hexdigest(),
        "manifest": base64.b64encode(gzip.compress(entries)).decode(),
    }
    pack = gzip.compress(json.dumps([[sha256, len(data)]]).encode() + b"\n" + data)
    with client.trees(request["project"], None) as talk:
        assert not talk.manifest(request)["have"]
        assert talk.apply(request, pack, len(pack))["applied"]
    return RunSpec(run_id=f"run-{os.urandom(4).hex()}", script="train.py", project="demo")


def counting(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    created: list[tuple[str, ...]] = []
    real = transport.run

    def run(argv: Sequence[str], **options: Any) -> Completed:
        created.append(tuple(argv))
        return real(argv, **options)

    monkeypatch.setattr(transport, "run", run)
    return created


def test_what_may_be_secret_passes_as_such(client: AgentClient, monkeypatch: pytest.MonkeyPatch) -> None:
    private: list[bool] = []
    real = client.transport.run

    def run(argv: Sequence[str], **options: Any) -> Completed:
        private.append(options.get("private", False))
        return real(argv, **options)

    client.version()
    monkeypatch.setattr(client.transport, "run", run)
    for env in ({}, {"API_KEY": "secret"}):
        with pytest.raises(MachineError):
            client.start(RunSpec(run_id="run-x", script="train.py", project="never-sent", env=env))
    client.entrust("run-x", secrets={"token": "c2VjcmV0"})
    client.forget_entrusted("run-x")
    assert private == [False, True, True, False]


def test_the_agent_is_installed_by_the_first_call_and_costs_nothing_afterwards(
    client: AgentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.version()["protocol"] == 1
    calls = counting(client.transport, monkeypatch)
    client.version()
    assert len(calls) == 1
    assert [path.suffix for path in (Path(client.state_directory) / "bin").glob("agent-*")] == [".pyz"]


def test_a_run_can_be_started_followed_and_ended(client: AgentClient) -> None:
    spec = give_code(client, "import time\nfor n in range(5):\n    print('step', n)\n    time.sleep(0.2)\n")
    client.version()
    assert client.start(spec).run_id == spec.run_id
    log = bytearray()
    last = client.logs(spec.run_id, on_bytes=log.extend)
    assert last.end is not None
    assert (last.end.reason, last.end.exit_code) == (EndReason.COMPLETED, 0), log.decode()
    assert [line for line in log.decode().splitlines() if line.startswith("step")] == [
        f"step {n}" for n in range(5)
    ]
    assert len(log) == last.end.log_bytes
    assert client.status(spec.run_id).state is RunState.ENDED
    assert spec.run_id in {each.run_id for each in client.attempts()}


def test_a_log_is_read_from_an_offset_without_following(client: AgentClient) -> None:
    spec = give_code(client, "print('x' * 100_000, flush=True)\nimport time\ntime.sleep(120)\n")
    client.start(spec)
    log = bytearray()
    limit = time.monotonic() + 30
    while len(log) < 100_000:
        assert time.monotonic() < limit
        last = client.logs(spec.run_id, offset=len(log), follow=False, on_bytes=log.extend)
        assert last.end is None
    assert b"x" * 100_000 in log
    ended = client.stop(spec.run_id, grace=timedelta(seconds=5))
    assert ended.end is not None
    assert ended.end.reason is EndReason.STOPPED


def test_the_agents_error_keeps_its_code_and_hint(client: AgentClient) -> None:
    with pytest.raises(MachineError) as caught:
        client.status("run-unknown")
    assert caught.value.code not in {"machine", "bad-answer"}
    with pytest.raises(MachineError, match="run-unknown"):
        client.logs("run-unknown", on_bytes=lambda _: None)


@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_a_payload_follows_the_request(transport: Transport, tmp_path: Path, kind: str) -> None:
    """With a stand-in for the agent that measures what it gets."""
    agent = tmp_path / "echo.pyz"
    agent.write_text(
        "import sys, json, hashlib\n"
        "request = json.loads(sys.stdin.buffer.readline())\n"
        "rest = sys.stdin.buffer.read()\n"
        "print(json.dumps({'ok': [sys.argv[1], request, len(rest), hashlib.sha256(rest).hexdigest()]}))\n"
    )
    data = os.urandom(200_000)
    client = AgentClient(transport, agent_file=agent, state_directory=str(tmp_path / "state"))
    payload: bytes | BinaryIO = data if kind == "bytes" else io.BytesIO(data)
    answer = client.call("apply", {"a": "line\nbreak"}, payload=payload)
    assert answer == ["apply", {"a": "line\nbreak"}, 200_000, hashlib.sha256(data).hexdigest()]


def test_a_machine_without_python_is_told_so(transport: Transport, tmp_path: Path) -> None:
    agent = tmp_path / "agent.pyz"
    agent.write_text("")
    client = AgentClient(transport, agent_file=agent, state_directory=str(tmp_path), python="no-python-here")
    with pytest.raises(MachineError) as caught:
        client.version()
    assert caught.value.code == "no-python"
    assert "install python3" in caught.value.hint


def test_an_agent_that_crashes_is_quoted(tmp_path: Path) -> None:
    agent = tmp_path / "agent.pyz"
    agent.write_text("raise SystemExit('the disk is on fire')\n")
    client = AgentClient(
        LocalTransport(), agent_file=agent, state_directory=str(tmp_path), python=sys.executable
    )
    with pytest.raises(MachineError, match="the disk is on fire"):
        client.version()


def test_a_state_folder_that_only_root_can_make_is_made_by_root_for_the_user(tmp_path: Path) -> None:
    class Refusing(LocalTransport):
        """The login user may not write there, as in /var/lib; root may."""

        rooted: ClassVar[list[tuple[str, ...]]] = []

        def run(self, argv: Sequence[str], **options: Any) -> Completed:
            if options.get("as_root"):
                self.rooted.append(tuple(argv))
            elif argv[0] == "sh":
                return Completed(tuple(argv), 1, b"1000\n1001\n", b"")
            return super().run(argv, **options)

    agent = tmp_path / "agent.pyz"
    agent.write_text("print('{\"ok\": {}}')\n")
    state = tmp_path / "state"
    AgentClient(Refusing(), agent_file=agent, state_directory=str(state)).version()
    assert Refusing.rooted == [
        ("install", "-d", "-m", "0755", "-o", "1000", "-g", "1001", "--", str(state), f"{state}/bin")
    ]


def test_a_state_folder_that_nobody_can_make_is_one_line(tmp_path: Path) -> None:
    class Refusing(LocalTransport):
        """The disk is read-only: each folder is refused with a line of its own."""

        def run(self, argv: Sequence[str], **options: Any) -> Completed:
            if options.get("as_root"):
                return Completed(tuple(argv), 1, b"", b"state: read-only\nstate/bin: read-only\n")
            return Completed(tuple(argv), 1, b"1000\n1001\n", b"")

    agent = tmp_path / "agent.pyz"
    agent.write_text("")
    client = AgentClient(Refusing(), agent_file=agent, state_directory="/state")
    with pytest.raises(MachineError) as caught:
        client.install()
    assert caught.value.message == "cannot make /state on the machine: state/bin: read-only"
    assert "XDG_DATA_HOME" in caught.value.hint


class Breaking(Transport):
    """Follows a log that is in memory, and loses the connection where it is told to."""

    name: ClassVar[str] = "breaking"
    streams: ClassVar[bool] = True

    def __init__(self, log: bytes, breaks: Iterator[int], code: int | None = None) -> None:
        """With ``code`` it is the agent that ends first, with this exit code."""
        self.log = log
        self.code = code
        self.breaks = breaks
        self.asked: list[int] = []

    def run(self, argv: Sequence[str], **options: Any) -> Completed:
        raise AssertionError(argv)

    def stream(
        self,
        argv: Sequence[str],
        *,
        stdin: BinaryIO | None = None,
        on_stdout: Callable[[bytes], None],
        on_stderr: Callable[[bytes], None],
        as_root: bool = False,
        private: bool = False,
    ) -> int:
        assert stdin is not None
        offset = json.loads(stdin.read())["offset"]
        self.asked.append(offset)
        end = {"reason": "COMPLETED", "ended_at": 1.0, "log_bytes": len(self.log)}
        rest = self.log[offset:]
        frames = dumps(LogFrame(offset, len(rest), RunState.RUNNING)).encode() + b"\n" + rest
        last = {"offset": len(self.log), "length": 0, "state": "ENDED", "end": end, "last": True}
        frames += json.dumps(last).encode() + b"\n"
        with contextlib.suppress(StopIteration):
            on_stdout(frames[: next(self.breaks)])
            if self.code is not None:
                return self.code
            raise Unreachable("the connection broke")
        on_stdout(frames)
        return 0

    def put(self, data: bytes | BinaryIO, target: PurePosixPath, *, mode: int = 0o644) -> None:
        raise AssertionError(target)

    def get(self, source: PurePosixPath, sink: BinaryIO) -> int:
        raise AssertionError(source)


class Waiting:
    """A clock on which sleeping is all that happens."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> Any:
        raise AssertionError

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def follow(transport: Breaking, tmp_path: Path, **options: Any) -> tuple[bytes, Notes]:
    (tmp_path / "agent.pyz").write_text("")
    notes, seen = Notes(), bytearray()
    client = AgentClient(transport, agent_file=tmp_path / "agent.pyz", clock=Waiting(), progress=notes)
    client.logs("run-1", on_bytes=seen.extend, **options)
    return bytes(seen), notes


@pytest.mark.parametrize("code", [None, 137, 255])
def test_a_follower_goes_on_after_broken_connections_without_losing_or_repeating_a_byte(
    tmp_path: Path, code: int | None
) -> None:
    log = os.urandom(3000)
    transport = Breaking(log, iter([0, 10, 200, 1500, 90, 2000]), code)
    seen, notes = follow(transport, tmp_path)
    assert seen == log
    assert transport.asked == sorted(transport.asked)
    # The last break comes after the whole log: an exit code is no reason then to ask for it once more.
    assert len(notes.notes) == (6 if code is None else 5)
    assert "trying again from byte" in notes.notes[-1]


def test_a_follower_gives_up_when_nothing_arrives_for_too_long(tmp_path: Path) -> None:
    def always() -> Iterator[int]:
        while True:
            yield 0

    transport = Breaking(b"never", always())
    with pytest.raises(Unreachable, match="broke"):
        follow(transport, tmp_path, patience=timedelta(minutes=1))
    assert 5 < len(transport.asked) < 15


@pytest.mark.sshd
@pytest.mark.root
def test_following_survives_the_death_of_the_connection(tmp_path: Path, connect: Any) -> None:
    from runctl.testing.sshd import running

    with running(tmp_path / "sshd") as server:
        client = AgentClient(
            connect(server),
            agent_file=lambda: package.build(cache_folder() / "agent"),
            state_directory=str(tmp_path / "state"),
        )
        spec = give_code(
            client, "import time\nfor n in range(40):\n    print('step', n)\n    time.sleep(0.05)\n"
        )
        client.start(spec)
        log, killed = bytearray(), list[int]()

        def on_bytes(data: bytes) -> None:
            log.extend(data)
            if not killed and b"step 3\n" in log:
                children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
                killed.extend(map(int, children))
                for pid in killed:
                    os.kill(pid, signal.SIGKILL)

        last = client.logs(spec.run_id, on_bytes=on_bytes)
    assert killed
    assert last.end is not None
    assert [line for line in log.decode().splitlines() if line.startswith("step")] == [
        f"step {n}" for n in range(40)
    ]
