"""What is this computer's own: stdin of every kind, root through sudo, folders and variables."""

from __future__ import annotations

import os
import pty
import threading
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from runctl.core.errors import MachineError, PermissionDenied
from runctl.transport.interface import CommandTimeout
from runctl.transport.local import LocalTransport


def cat(source: Any) -> bytes:
    out = bytearray()
    assert LocalTransport().stream(["cat"], stdin=source, on_stdout=out.extend, on_stderr=out.extend) == 0
    return bytes(out)


def test_stdin_may_be_the_null_device() -> None:
    with Path("/dev/null").open("rb") as source:
        assert cat(source) == b""


def test_stdin_may_be_something_that_only_knows_how_to_read() -> None:
    class Pieces:
        def __init__(self) -> None:
            self.left = [b"one ", b"two ", b"three"]

        def read(self, size: int) -> bytes:
            return self.left.pop(0) if self.left else b""

        def fileno(self) -> int:
            raise OSError

    assert cat(Pieces()) == b"one two three"


def test_stdin_may_be_a_terminal() -> None:
    keyboard, terminal = pty.openpty()
    with os.fdopen(terminal, "rb") as source, os.fdopen(keyboard, "wb", buffering=0) as sink:
        sink.write(b"typed\n\x04")
        assert cat(source) == b"typed\n"


def test_what_is_typed_arrives_before_the_end_of_stdin() -> None:
    read, write = os.pipe()
    seen = bytearray()

    def on_stdout(data: bytes) -> None:
        seen.extend(data)
        if seen == b"question\n":
            os.write(write, b"answer\n")

    script = "echo question; read -r reply; echo $reply; exit 3"
    with os.fdopen(read, "rb") as source:
        code = LocalTransport().stream(
            ["sh", "-c", script], stdin=source, on_stdout=on_stdout, on_stderr=seen.extend
        )
    os.close(write)
    assert (code, bytes(seen)) == (3, b"question\nanswer\n")


def test_a_command_may_end_while_stdin_is_still_open() -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as source, os.fdopen(write, "wb"):
        code = LocalTransport().stream(["false"], stdin=source, on_stdout=print, on_stderr=print)
    assert code == 1


def test_what_a_child_writes_before_it_ends_is_not_lost_when_a_grandchild_stays(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = 'sleep 300 & echo $! >"$1"; head -c 300000 /dev/zero'
    done = LocalTransport().run(["sh", "-c", script, "sh", str(pid)])
    os.kill(int(pid.read_text()), 9)
    assert len(done.stdout) == 300_000


def test_ctrl_c_ends_the_command(tmp_path: Path) -> None:
    pid = tmp_path / "pid"

    def interrupt(data: bytes) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LocalTransport().stream(
            ["sh", "-c", 'echo $$ >"$1"; echo; exec sleep 300', "sh", str(pid)],
            on_stdout=interrupt,
            on_stderr=interrupt,
        )
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()


def test_a_command_that_closes_its_outputs_is_waited_for() -> None:
    began = time.monotonic()
    assert LocalTransport().run(["sh", "-c", "exec >&- 2>&-; sleep 0.5; exit 9"]).exit_code == 9
    assert time.monotonic() - began >= 0.5


def test_such_a_command_is_ended_by_the_timeout_too() -> None:
    from datetime import timedelta

    with pytest.raises(CommandTimeout):
        LocalTransport().run(["sh", "-c", "exec >&- 2>&-; sleep 300"], timeout=timedelta(seconds=0.3))


def test_variables_and_the_folder_are_the_ones_given(tmp_path: Path) -> None:
    transport = LocalTransport(env={"RUNCTL_AGENT_STATE": "/x y"}, directory=tmp_path)
    done = transport.run(["sh", "-c", 'pwd; echo "$RUNCTL_AGENT_STATE"'])
    assert done.stdout.decode().splitlines() == [str(tmp_path), "/x y"]
    transport.put(b"z", PurePosixPath("relative"))
    assert (tmp_path / "relative").read_bytes() == b"z"


def test_a_file_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="file"):
        LocalTransport().put(b"", PurePosixPath(tmp_path / "file" / "below"))


@pytest.fixture
def sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """We are not root, and sudo is the script that is given."""

    def install(script: str) -> None:
        program = tmp_path / "bin" / "sudo"
        program.parent.mkdir()
        program.write_text("#!/bin/sh\n" + script)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        monkeypatch.setattr(os, "geteuid", lambda: 1000)

    return install


def test_root_comes_from_sudo_that_must_not_ask(sudo: Callable[[str], None]) -> None:
    sudo('printf "%s|" "$@"\n')
    assert LocalTransport().run(["id", "-u"], as_root=True).stdout == b"-n|-H|--|id|-u|"


def test_a_sudo_that_wants_a_password_is_a_matter_of_permission(sudo: Callable[[str], None]) -> None:
    sudo('echo "sudo: a password is required" >&2; exit 1\n')
    with pytest.raises(PermissionDenied) as caught:
        LocalTransport().run(["id"], as_root=True)
    assert "NOPASSWD" in caught.value.hint


def test_many_threads_may_use_it(tmp_path: Path) -> None:
    outputs: list[bytes] = []
    threads = [
        threading.Thread(target=lambda n=n: outputs.append(LocalTransport().run(["echo", str(n)]).stdout))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outputs) == [f"{n}\n".encode() for n in range(8)]
