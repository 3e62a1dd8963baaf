"""``local exec`` as a shell starts it, on this computer, with nothing in between faked."""

from __future__ import annotations

import subprocess
import sys

import pytest

START = (sys.executable, "-m", "runctl", "local", "exec")


def executed(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*START, *arguments], input=stdin, capture_output=True, timeout=60, check=False)


def test_bytes_go_in_and_come_out_as_they_are() -> None:
    data = bytes(range(256)) * 1000
    done = executed("--", "cat", stdin=data)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == data


def test_stdout_stderr_and_the_exit_code_are_the_commands_own() -> None:
    done = executed("--", "sh", "-c", "echo out; echo err >&2; exit 41")
    assert (done.returncode, done.stdout, done.stderr) == (41, b"out\n", b"err\n")


@pytest.mark.parametrize(
    "arguments", [("",), ("--help", "--output", "json"), ("--", "-q"), ("$HOME `id`", "a\nb", "'\"\\")]
)
def test_arguments_arrive_exactly(arguments: tuple[str, ...]) -> None:
    show = "import sys; print(sys.argv[1:])"
    done = executed("--", sys.executable, "-c", show, *arguments)
    assert done.stdout.decode() == f"{list(arguments)}\n"


def test_a_command_that_is_not_there_fails_and_says_so() -> None:
    done = executed("--", "no-such-program-anywhere")
    assert done.returncode != 0
    assert b"no-such-program-anywhere" in done.stderr


def test_a_reader_that_goes_away_ends_the_command() -> None:
    with subprocess.Popen(
        [*START, "--", "yes"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(2) == b"y\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=30) == 141
