"""What every way to a machine must do, in the same words for all of them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import signal
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path, PurePosixPath

import pytest

from runctl.core.errors import MachineError, NotFound
from runctl.transport.interface import CommandTimeout, Transport

AWKWARD = (
    "",
    " ",
    "two words",
    "'single'",
    '"double"',
    "$HOME",
    "`id`",
    "$(id)",
    "\\",
    "line\nbreak",
    "trailing\n",
    "*",
    "?[a-z]",
    "~",
    "--help",
    "-n",
    "--",
    "a;b|c&d>e<f",
    "!!",
    "#no",
    "grün 漢字 🚀",
    "%s %d",
    "{a,b}",
    "tab\there",
)
SHOW = "import sys,json;sys.stdout.write(json.dumps(sys.argv[1:]))"


def wait_until(condition: Callable[[], bool], seconds: float = 15) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    return False


def test_every_argument_arrives_as_it_is(transport: Transport) -> None:
    done = transport.run(["python3", "-c", SHOW, *AWKWARD])
    import json

    assert tuple(json.loads(done.stdout)) == AWKWARD


def test_a_program_that_is_named_like_a_builtin_is_still_a_program(transport: Transport) -> None:
    assert transport.run(["printf", "%b", "a\\tb"]).stdout == b"a\tb"
    assert transport.run(["cd", "/"]).exit_code == 127


@pytest.mark.parametrize("code", [0, 1, 42, 127, 255])
def test_an_exit_code_is_the_commands_own(transport: Transport, code: int) -> None:
    assert transport.run(["sh", "-c", 'exit "$1"', "sh", str(code)]).exit_code == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_a_signal_is_128_and_its_number(transport: Transport, number: signal.Signals) -> None:
    done = transport.run(["sh", "-c", f"kill -{number.value} $$"])
    assert (done.exit_code, done.stdout, done.stderr) == (128 + number, b"", b"")


def test_an_unknown_program_is_127(transport: Transport) -> None:
    done = transport.run(["no-such-program-here"])
    assert done.exit_code == 127
    assert b"no-such-program-here" in done.stderr


def test_a_file_that_is_no_program_is_126(transport: Transport, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("echo no\n")
    plain.chmod(0o644)
    assert transport.run([str(plain)]).exit_code == 126


def test_both_outputs_come_apart_and_without_a_newline_of_ours(transport: Transport) -> None:
    done = transport.run(["sh", "-c", "printf out; printf err >&2"])
    assert (done.stdout, done.stderr) == (b"out", b"err")
    assert done.argv == ("sh", "-c", "printf out; printf err >&2")


def test_every_byte_value_survives_both_ways(transport: Transport) -> None:
    data = bytes(range(256)) * 5 + b"\x1erunctl-\x00"
    assert transport.run(["cat"], stdin=data).stdout == data


def test_a_command_may_show_the_arguments_of_every_process(transport: Transport) -> None:
    done = transport.run(
        ["sh", "-c", "for each in /proc/[0-9]*; do tr '\\0' ' ' < $each/cmdline; done 2>/dev/null; echo end"]
    )
    assert (done.exit_code, done.stdout.endswith(b"end\n")) == (0, True)


def test_five_megabytes_of_noise_arrive_whole(transport: Transport, tmp_path: Path) -> None:
    noise = os.urandom(5_000_000)
    (tmp_path / "noise").write_bytes(noise)
    done = transport.run(["sh", "-c", 'cat "$1"; tail -c 100000 "$1" >&2', "sh", str(tmp_path / "noise")])
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(noise).digest()
    assert done.stderr == noise[-100_000:]


def test_a_megabyte_of_stdin_arrives_whole(transport: Transport) -> None:
    noise = os.urandom(1_000_000)
    done = transport.run(["sha256sum"], stdin=noise)
    assert done.stdout.split()[0].decode() == hashlib.sha256(noise).hexdigest()


def test_a_command_that_does_not_read_its_stdin_ends_as_it_would(transport: Transport) -> None:
    done = transport.run(["sh", "-c", "exec <&-; echo done; exit 3"], stdin=b"x" * 300_000)
    assert (done.exit_code, done.stdout) == (3, b"done\n")


def test_without_stdin_a_reader_sees_the_end(transport: Transport) -> None:
    assert transport.run(["cat"]).stdout == b""


def test_commands_start_in_the_home_folder(transport: Transport) -> None:
    done = transport.run(["sh", "-c", 'pwd; echo "$HOME"'])
    assert done.stdout.decode().splitlines() == [str(Path.home()), str(Path.home())]


def test_root_is_root(transport: Transport) -> None:
    assert transport.run(["id", "-u"], as_root=True).stdout == b"0\n"


def test_a_timeout_ends_the_command_and_its_children(transport: Transport, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = 'trap "" TERM; echo $$ >"$1"; sleep 300 & echo $! >>"$1"; wait; sleep 300'
    with pytest.raises(CommandTimeout):
        transport.run(["sh", "-c", script, "sh", str(pids)], timeout=timedelta(seconds=1))
    for pid in pids.read_text().split():
        wait_until(lambda pid=int(pid): not alive(pid))  # type: ignore[misc]


def test_a_timeout_that_is_not_reached_changes_nothing(transport: Transport) -> None:
    assert transport.run(["echo", "ok"], timeout=timedelta(seconds=60)).stdout == b"ok\n"


def test_a_process_left_behind_is_not_waited_for(transport: Transport, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    began = time.monotonic()
    done = transport.run(["sh", "-c", 'sleep 300 & echo $! >"$1"; echo started', "sh", str(pid)])
    os.kill(int(pid.read_text()), signal.SIGKILL)
    assert (done.stdout, done.exit_code) == (b"started\n", 0)
    assert time.monotonic() - began < 20


def test_a_stream_hands_over_output_while_the_command_runs(transport: Transport, tmp_path: Path) -> None:
    go = tmp_path / "go"
    seen: list[bytes] = []

    def on_stdout(data: bytes) -> None:
        seen.append(data)
        go.touch()

    script = 'echo first; until [ -e "$1" ]; do sleep 0.05; done; echo second; printf problem >&2; exit 5'
    errors: list[bytes] = []
    code = transport.stream(["sh", "-c", script, "sh", str(go)], on_stdout=on_stdout, on_stderr=errors.append)
    assert (code, b"".join(seen), b"".join(errors)) == (5, b"first\nsecond\n", b"problem")


def test_a_stream_reads_stdin_to_its_end_from_a_file(transport: Transport, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(200_000))
    out = bytearray()
    with source.open("rb") as file:
        code = transport.stream(["cat"], stdin=file, on_stdout=out.extend, on_stderr=lambda _: None)
    assert (code, bytes(out)) == (0, source.read_bytes())


def test_a_stream_reads_stdin_to_its_end_from_a_pipe(transport: Transport) -> None:
    read, write = os.pipe()
    noise = os.urandom(300_000)

    def fill() -> None:
        with os.fdopen(write, "wb") as sink:
            sink.write(noise)

    writer = threading.Thread(target=fill)
    writer.start()
    out = bytearray()
    with os.fdopen(read, "rb") as source:
        transport.stream(["cat"], stdin=source, on_stdout=out.extend, on_stderr=lambda _: None)
    writer.join()
    assert bytes(out) == noise


def test_a_callback_that_raises_ends_the_command(transport: Transport, tmp_path: Path) -> None:
    pid = tmp_path / "pid"

    def refuse(data: bytes) -> None:
        raise LookupError(data.decode())

    script = 'echo $$ >"$1"; echo enough; exec sleep 300'
    with pytest.raises(LookupError, match="enough"):
        transport.stream(["sh", "-c", script, "sh", str(pid)], on_stdout=refuse, on_stderr=refuse)
    wait_until(lambda: not alive(int(pid.read_text())))


@pytest.mark.parametrize("size", [0, 1, 30_000, 1_000_000])
def test_a_file_arrives_whole_with_its_mode(transport: Transport, tmp_path: Path, size: int) -> None:
    target = tmp_path / "new folder" / "it's a $file"
    data = os.urandom(size)
    transport.put(data, PurePosixPath(target), mode=0o750)
    assert target.read_bytes() == data
    assert stat.S_IMODE(target.stat().st_mode) == 0o750


def test_a_file_is_replaced_and_nothing_is_left_beside_it(transport: Transport, tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    transport.put(io.BytesIO(b"new"), PurePosixPath(target))
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_source_that_breaks_leaves_the_old_file(transport: Transport, tmp_path: Path) -> None:
    class Broken(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: object) -> int:
            raise OSError("the disk went away")

    target = tmp_path / "file"
    target.write_bytes(b"old")
    with pytest.raises((OSError, MachineError), match="the disk went away"):
        transport.put(io.BufferedReader(Broken()), PurePosixPath(target))
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_cannot_take_a_folders_place(transport: Transport, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(MachineError, match="folder"):
        transport.put(b"data", PurePosixPath(tmp_path / "folder"))
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_file_comes_back_whole(transport: Transport, tmp_path: Path) -> None:
    source = tmp_path / "-dash and $dollar"
    source.write_bytes(os.urandom(200_000))
    sink = io.BytesIO()
    assert transport.get(PurePosixPath(source), sink) == 200_000
    assert sink.getvalue() == source.read_bytes()


def test_a_file_that_is_not_there_is_not_found(transport: Transport, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nothing-here"):
        transport.get(PurePosixPath(tmp_path / "nothing-here"), io.BytesIO())


def test_a_folder_cannot_be_read_as_a_file(transport: Transport, tmp_path: Path) -> None:
    with pytest.raises(MachineError):
        transport.get(PurePosixPath(tmp_path), io.BytesIO())


def test_twenty_commands_at_once_keep_their_outputs_apart(transport: Transport) -> None:
    def one(n: int) -> bytes:
        return transport.run(
            ["sh", "-c", 'sleep 0.3; cat; printf " %s" "$1"', "sh", str(n)], stdin=b"in"
        ).stdout

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(one, range(20))) == [f"in {n}".encode() for n in range(20)]


def test_it_can_be_used_again_after_close(transport: Transport) -> None:
    transport.run(["true"])
    transport.close()
    assert transport.run(["echo", "again"]).stdout == b"again\n"
