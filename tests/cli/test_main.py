"""The program as a shell starts it: start-up, exit codes, signals, broken pipes."""

from __future__ import annotations

import contextlib
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

from runctl.cli.main import run
from runctl.core import errors
from runctl.core.files import cache_folder

START = "from runctl.cli.main import main; main()"
"""What the installed script does."""


def start(*arguments: str) -> list[str]:
    return [sys.executable, "-c", START, *arguments]


def completed(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        start(*arguments),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
        env={**os.environ, **(env or {})},
    )


def modules_after(*arguments: str) -> set[str]:
    """The top-level modules outside the standard library, and ours, that a command line has imported."""
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: print('\\n'.join(sys.modules), file=sys.stderr))\n"
        f"sys.argv[1:] = {list(arguments)!r}\n{START}"
    )
    # -S leaves out what site-packages' own .pth files import, editable installs' finders for one.
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    return (
        {name.partition(".")[0] for name in done.stderr.split()} - set(sys.stdlib_module_names) - {"__main__"}
    )


@pytest.mark.parametrize("word", ["--version", "--help", "-h"])
def test_version_and_help_import_nothing_but_the_standard_library(word: str) -> None:
    assert modules_after(word) == {"runctl"}


@pytest.mark.parametrize("argv", ["aws --help", "aws ebs --help", "sandbox --help", "-v --help", "config -h"])
def test_help_of_groups_imports_click_alone(argv: str) -> None:
    assert modules_after(*argv.split()) == {"runctl", "click"}


def test_a_command_that_asks_nobody_imports_no_aws_and_no_rich() -> None:
    assert not modules_after("config", "show") & {"boto3", "botocore", "rich", "moto", "textual"}
    assert not modules_after("aws", "create", "--help") & {"boto3", "botocore", "rich", "moto", "textual"}


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
    assert err.startswith("error: unexpected ZeroDivisionError: by zero\nhint: this is a fault in runctl")
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
    assert said.startswith("error: this computer: no space left on device\nhint: make room")


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


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_completion_script(shell: str) -> None:
    done = completed("completion", shell)
    assert done.returncode == 0
    assert f"_RUNCTL_COMPLETE={shell}_complete" in done.stdout


@pytest.mark.parametrize(
    ("argv", "offered"),
    [
        ("runctl ", {"aws", "local", "runs", "doctor"}),
        ("runctl aws te", {"terminate"}),
        ("runctl aws ebs ", {"create", "list", "attach", "detach", "delete"}),
        ("runctl --region x aws ebs d", {"detach", "delete"}),
        ("runctl aws list --every", {"--everyone"}),
        ("runctl aws list --outp", {"--output"}),
        ("runctl aws exec x --transport s", {"ssh", "ssm"}),
        ("runctl config set aws.re", {"aws.region"}),
    ],
)
def test_bash_is_offered_what_fits(argv: str, offered: set[str]) -> None:
    parts = argv.split(" ")
    done = completed(
        env={
            "_RUNCTL_COMPLETE": "bash_complete",
            "COMP_WORDS": argv,
            "COMP_CWORD": str(len(parts) - 1),
        }
    )
    assert offered <= {line.partition(",")[2] for line in done.stdout.split()}


def test_a_real_bash_completes_with_the_script(tmp_path: Path) -> None:
    program = tmp_path / "runctl"
    program.write_text(f"#!{sys.executable}\n{START}\n")
    program.chmod(0o755)
    asked = (
        'eval "$(runctl completion bash)"; COMP_WORDS=(runctl aws ebs att); COMP_CWORD=3; '
        '_runctl_completion runctl; echo "${COMPREPLY[*]}"'
    )
    done = subprocess.run(
        ["bash", "-c", asked],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
    )
    assert (done.stdout, done.stderr) == ("attach\n", "")


def test_completion_of_commands_imports_click_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_RUNCTL_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "runctl aws ")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert modules_after() == {"runctl", "click"}


def offered(argv: str) -> list[str]:
    """What bash is offered for the last word."""
    count = len(argv.split(" ")) - 1
    done = completed(env={"_RUNCTL_COMPLETE": "bash_complete", "COMP_WORDS": argv, "COMP_CWORD": str(count)})
    assert done.returncode == 0, done.stderr
    return [line.partition(",")[2] for line in done.stdout.split()]


def test_runs_are_offered_by_name_and_id_from_the_local_state() -> None:
    from runctl.core.database import Database
    from runctl.core.files import state_file

    database = Database(state_file())
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO runs (id, name, provider, instance_id, project, script, args, state, attempt, created_at,"
            " mounts) VALUES ('run-abc', 'baseline', 'aws', 'i-1', 'p', 'train.py', '[]', 'ended', 1, '2026', '[]')"
        )
    database.close()
    assert offered("runctl runs show ru") == ["run-abc"]
    assert set(offered("runctl runs logs ")) == {"latest", "baseline", "run-abc"}
    assert offered("runctl aws monitor i-1 b") == ["baseline"]


def test_what_commands_have_shown_is_offered_until_it_has_ended() -> None:
    from runctl.cli.framework.completion_memory import INSTANCES, SNAPSHOTS, VOLUMES, Seen, remember

    machine = Seen("i-0123456789abcdef0", "digits", "g5.xlarge, running")
    dead = Seen("i-0fedcba9876543210", "digits-old", "g5.xlarge, running")
    remember(INSTANCES, [machine, dead], provider="aws", region="us-east-1")
    remember(
        INSTANCES, [Seen(dead.id, dead.name, "terminated", is_over=True)], provider="aws", region="us-east-1"
    )
    remember(VOLUMES, [Seen("vol-0123456789abcdef0", "datasets", "100 GiB")], provider="aws", region=None)

    remember(SNAPSHOTS, [Seen("snap-0123456789abcdef0", "nightly", "100 GiB")], provider="aws", region=None)

    assert offered("runctl aws ebs restore ni") == ["nightly"]
    assert offered("runctl aws terminate i-") == [machine.id]
    assert offered("runctl aws train dig") == ["digits"]
    assert offered("runctl aws ebs show da") == ["datasets"]
    assert offered("runctl aws create --ebs-volume vol-") == ["vol-0123456789abcdef0"]
    assert "g5.xlarge" in offered("runctl aws create g5.")

    remember(INSTANCES, [], provider="aws", region="eu-west-1", everything=True)
    assert offered("runctl aws terminate dig") == ["digits"]
    remember(INSTANCES, [], provider="aws", region="us-east-1", everything=True)
    assert offered("runctl aws terminate dig") == []


def test_names_of_another_account_or_sandbox_are_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    from runctl.cli.framework.completion_memory import INSTANCES, Seen, remember

    remember(INSTANCES, [Seen("i-1", "digits", "")], provider="aws", region=None)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert offered("runctl aws terminate dig") == []


@pytest.mark.parametrize(
    "damaged", ["", "[]", '{"aws||": {"instances": [{"id": "i-2"}]}}', '{"aws||": {"instances": 5}}', "{"]
)
def test_a_damaged_memory_offers_nothing_and_is_written_anew(damaged: str) -> None:
    from runctl.cli.framework.completion_memory import INSTANCES, Seen, remember, seen
    from runctl.core.files import cache_folder

    cache_folder().mkdir(parents=True, exist_ok=True)
    (cache_folder() / "completion.json").write_text(damaged)
    assert seen(INSTANCES) == []
    remember(INSTANCES, [Seen("i-1", None, "")], provider="aws", region=None)
    assert [thing.id for thing in seen(INSTANCES)] == ["i-1"]


def test_completion_without_any_state_offers_nothing_and_makes_no_file() -> None:
    from runctl.core.files import state_file

    done = completed(
        env={"_RUNCTL_COMPLETE": "bash_complete", "COMP_WORDS": "runctl aws status i-", "COMP_CWORD": "3"}
    )
    assert (done.stdout.strip(), done.stderr) == ("", "")
    assert not state_file().exists()


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


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    folder = cache_folder()
    assert not folder.is_relative_to(tmp_path)
    assert folder == cache_folder()
    assert folder.is_dir()
