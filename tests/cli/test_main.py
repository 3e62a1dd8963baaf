"""The program as a shell starts it: start-up, exit codes, signals, broken pipes."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runctl.cli.framework.failures import report
from runctl.cli.main import run
from runctl.core import errors
from runctl.core.files import cache_folder
from tests.cli.process import START, completed, modules_after, start


@pytest.mark.parametrize("word", ["--version", "--help", "-h"])
def test_version_and_help_import_nothing_but_the_standard_library(word: str) -> None:
    assert modules_after(word) == {"runctl"}


@pytest.mark.parametrize("argv", ["aws --help", "aws ebs --help", "sandbox --help", "-v --help", "config -h"])
def test_help_of_groups_imports_click_alone(argv: str) -> None:
    assert modules_after(*argv.split()) == {"runctl", "click"}


def test_a_command_that_asks_nobody_imports_no_aws_and_no_rich() -> None:
    assert not modules_after("config", "show") & {"boto3", "botocore", "rich", "moto", "textual"}
    assert not modules_after("aws", "create", "--help") & {"boto3", "botocore", "rich", "moto", "textual"}
    assert not modules_after("sandbox", "interrupt", "--help") & {
        "boto3",
        "botocore",
        "rich",
        "moto",
        "textual",
    }


def test_the_version_goes_to_stdout() -> None:
    done = completed("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("runctl ")
    assert done.stdout == completed("-q", "--version").stdout


def test_a_broken_configuration_stops_no_help_init_validate_or_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".runctl.toml").write_text("[aws\n")
    for argv in ("--help", "aws --help", "aws create --help", "completion zsh", "version", "config show"):
        assert completed(*argv.split()).returncode == 0, argv
    validated = completed("config", "validate")
    assert validated.returncode == 3
    assert ".runctl.toml:1: not valid TOML" in validated.stdout
    assert ".runctl.toml:1: not valid TOML" in completed("doctor", "local").stdout
    assert completed("aws", "list").returncode == 3
    assert completed("init", "--force").returncode == 0
    assert completed("config", "validate").returncode == 0


def every_error() -> list[type[errors.RunctlError]]:
    found = [errors.RunctlError]
    for kind in found:
        found += [
            sub for sub in kind.__subclasses__() if sub.__module__ == errors.__name__ and sub not in found
        ]
    return found


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_class_of_error_becomes_its_exit_code_and_json(
    kind: type[errors.RunctlError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from runctl.cli.main import run
    from runctl.machines.session import Session

    error = (
        kind("vol-1", "a", "b") if kind is errors.ZoneMismatch else kind("what happened", hint="what to do")
    )

    def fail(session: Session) -> None:
        raise error

    monkeypatch.setattr(Session, "read_config", fail)
    assert run(["config", "validate", "--output", "json"]) == kind.exit_code
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err) == {"error": {"code": error.code, "message": error.message, "hint": error.hint}}


def test_exit_codes_are_the_documented_ones() -> None:
    codes = {kind.__name__: kind.exit_code for kind in every_error()}
    assert codes == {
        "RunctlError": 1,
        "UsageError": 2,
        "ConfigError": 3,
        "CredentialsError": 4,
        "PermissionDenied": 4,
        "NotFound": 5,
        "BudgetExceeded": 1,
        "CapacityError": 6,
        "QuotaExceeded": 6,
        "Unreachable": 7,
        "HostKeyChanged": 7,
        "HostKeyUnknown": 7,
        "OutcomeUnknown": 7,
        "InstanceEnded": 7,
        "Conflict": 1,
        "ZoneMismatch": 1,
        "Unsupported": 1,
        "ProviderError": 1,
        "ProjectError": 1,
        "MachineError": 1,
        "Interrupted": 130,
    }


@pytest.mark.parametrize(("flags", "traceback"), [((), False), (("--verbose",), True)])
def test_an_unexpected_error_is_one_line_and_its_traceback_only_under_verbose(
    flags: tuple[str, ...],
    traceback: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from runctl.cli.main import run
    from runctl.machines.session import Session

    def fail(session: Session) -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr(Session, "read_config", fail)
    assert run(["config", "validate", *flags]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: unexpected ZeroDivisionError: by zero\nhint: this is a bug in runctl")
    assert ("Traceback" in err) is traceback


def test_nobody_reading_stdout_is_quiet() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        for argv in (["--help"], ["config", "show"]):
            done = subprocess.run(
                start(*argv), stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False
            )
            assert (done.returncode, done.stderr) == (141, "")
    finally:
        os.close(write)


def test_a_full_disk_behind_stdout_is_an_error_and_no_traceback() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            start("config", "show"), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "error: the result could not be written: No space left on device\n"


def test_a_full_disk_of_this_computer_is_no_fault_of_runctl(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from runctl.cli.main import run
    from runctl.machines.session import Session

    def fail(session: Session) -> None:
        Path("/dev/full").write_text("x")

    monkeypatch.setattr(Session, "read_config", fail)
    assert run(["config", "validate"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: this computer: no space left on device\nhint: free some space")


def test_a_broken_pipe_that_is_not_stdout_is_a_fault_and_not_hidden(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from runctl.cli.main import run
    from runctl.machines.session import Session

    def fail(session: Session) -> None:
        raise BrokenPipeError("a socket somewhere")

    monkeypatch.setattr(Session, "read_config", fail)
    assert run(["config", "validate"]) == 1
    assert "unexpected BrokenPipeError" in capsys.readouterr().err


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_descriptors_that_are_closed_do_no_harm(closed: str, tmp_path: Path) -> None:
    line = shlex.join(start("init", "--force"))
    done = subprocess.run(
        ["sh", "-c", f"{line} {closed}"], cwd=tmp_path, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_it_with_130_and_one_line(number: signal.Signals, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = (
        "import time, pathlib\n"
        "from runctl.machines.session import Session\n"
        # A signal just before a sleep is looked at after it: many short ones, as Python has no way around that.
        f"def wait(cli):\n    pathlib.Path({str(ready)!r}).touch()\n    for _ in range(600): time.sleep(0.1)\n"
        f"Session.read_config = wait\n{START}"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "config", "validate"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 30
        while not ready.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out, err) == (130, "", "error: interrupted\n")


def test_it_runs_as_a_module_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runctl", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == completed("--version").stdout


def test_nothing_about_the_work_follows_the_result_on_a_terminal() -> None:
    import pty

    leader, follower = pty.openpty()
    process = subprocess.Popen(start("doctor", "local"), stdin=follower, stdout=follower, stderr=follower)
    os.close(follower)
    shown = b""
    # On Linux reading fails once nobody has the other side open.
    with contextlib.suppress(OSError):
        while piece := os.read(leader, 1 << 16):
            shown += piece
    os.close(leader)
    assert process.wait(60) in {0, 1}
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r", "\n").split("\n")
    last = [line for line in lines if line.strip()][-1]
    assert last.endswith(("works", "failed"))


def test_a_file_of_this_computer_that_cannot_be_used_is_no_fault_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    assert run(["config", "set", "--user", "aws.spot", "true"]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: {tmp_path}/file/runctl: not a directory\n")
    assert "XDG_CONFIG_HOME puts runctl's own files elsewhere" in err


@pytest.mark.parametrize("number", [errno.EISDIR, errno.ENOSPC])
def test_an_error_that_names_a_file_by_its_descriptor_is_shown(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(OSError(number, os.strerror(number), 4), []) == 1
    assert os.strerror(number).lower() in capsys.readouterr().err.lower()


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    folder = cache_folder()
    assert not folder.is_relative_to(tmp_path)
    assert folder == cache_folder()
    assert folder.is_dir()
