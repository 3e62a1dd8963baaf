"""A provider from somebody else's package: installed beside runctl, and used with nothing of runctl changed for it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from runctl.testing.sshd import Sshd, free_port, running
from tests.docs.pages import blocks
from tests.e2e.command_line import CommandLine, Outcome, until, write_project
from tests.examples.conftest import make_environment

pytestmark = [pytest.mark.sshd, pytest.mark.root, pytest.mark.linux]

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "examples" / "provider"
TRAIN = """\
import pathlib, os, sys, time
print("args", sys.argv[1:], flush=True)
pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"], "last.txt").write_text("saved")
go = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else None
while go is not None and not go.exists():
    time.sleep(0.05)
print("done", flush=True)
"""


@dataclass
class Installed(CommandLine):
    """``runctl`` of an environment of its own."""

    program: Path = Path("runctl")

    def __call__(self, *argv: object, stdin: str | bytes | None = None, timeout: float = 120) -> Outcome:
        """Run to the end."""
        arguments = tuple(str(argument) for argument in argv)
        done = subprocess.run(
            [self.program, *arguments],
            cwd=self.cwd,
            env={**os.environ, **self.env},
            input=stdin.encode() if isinstance(stdin, str) else stdin or b"",
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        return Outcome(arguments, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment that has runctl and the package, as its user would install them."""
    folder = tmp_path_factory.mktemp("hosts") / "venv"
    return make_environment(folder, str(REPOSITORY), str(PACKAGE), "pytest")


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    with running(tmp_path / "sshd") as server:
        yield server


@pytest.fixture
def runctl(python: Path, sshd: Sshd, packed_agents: Path, tmp_path: Path) -> Installed:
    """In a project, with a configuration that names a machine that answers and one that does not."""
    project = write_project(tmp_path / "project", {"train.py": TRAIN})
    env = {f"XDG_{each}_HOME": str(tmp_path / each.lower()) for each in ("DATA", "CONFIG", "CACHE", "STATE")}
    for variable, folder in (("HOME", tmp_path / "home"), ("XDG_RUNTIME_DIR", tmp_path / "run")):
        folder.mkdir(mode=0o700)
        env[variable] = str(folder)
    cache = tmp_path / "cache" / "runctl"
    cache.mkdir(parents=True)
    (cache / "agent").symlink_to(packed_agents)
    config = tmp_path / "config" / "runctl" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(
        f"""\
[hosts.machines.gpu-box]
address = "127.0.0.1"
user = "{sshd.user}"
port = {sshd.port}
identity_file = "{sshd.identity}"
state_directory = "{tmp_path / "machine"}"

[hosts.machines.switched-off]
address = "127.0.0.1"
port = {free_port()}
"""
    )
    return Installed(project, env, python.with_name("runctl"))


def test_the_machines_are_listed_with_those_that_do_not_answer(runctl: Installed) -> None:
    found = {each["id"]: each for each in runctl("hosts", "list", "--output", "json").ok().json}
    assert found["gpu-box"]["state"] == "running"
    assert found["gpu-box"]["provider"] == "hosts"
    assert found["gpu-box"]["price_per_hour"] == "0.00"
    assert found["switched-off"]["state"] == "unreachable"
    assert "Connection refused" in found["switched-off"]["state_reason"]
    assert "gpu-box" in runctl("hosts", "status", "gpu-box").ok().out


def test_a_script_is_trained_there_and_its_run_can_be_looked_at(runctl: Installed, tmp_path: Path) -> None:
    words = ("--instance", "gpu-box", "--results", "out", "--wait", "--output", "json")
    launched = runctl("hosts", "launch", "train.py", *words).ok().json
    trained = launched["run"]

    assert (Path(launched["results"]["folder"]) / "checkpoints" / "last.txt").read_text() == "saved"
    assert launched["given_back"] is False
    assert (trained["provider"], trained["instance_id"], trained["end_reason"]) == (
        "hosts",
        "gpu-box",
        "COMPLETED",
    )
    run = trained["id"]
    assert "done" in runctl("runs", "logs", run).ok().out
    assert [each["id"] for each in runctl("runs", "list", "--output", "json").ok().json] == [run]
    assert runctl("runs", "show", run, "--output", "json").ok().json["cost"] == "0.00"
    runctl("cp", f"{run}:checkpoints", tmp_path / "checkpoints").ok()
    assert (tmp_path / "checkpoints" / "last.txt").read_text() == "saved"


def test_a_run_goes_on_without_a_connection(runctl: Installed, sshd: Sshd, tmp_path: Path) -> None:
    go = tmp_path / "go"
    run = runctl("hosts", "train", "gpu-box", "train.py", "--quiet", "--", go).ok().out.strip()
    assert run in runctl("hosts", "processes", "gpu-box").ok().out
    children = Path(f"/proc/{sshd.pid}/task/{sshd.pid}/children").read_text().split()
    for connection in children:
        os.kill(int(connection), signal.SIGKILL)
    go.touch()

    assert "done" in runctl("hosts", "monitor", "gpu-box", timeout=60).ok().out
    ended = until(lambda: runctl("runs", "show", run, "--output", "json").ok().json["end_reason"])
    assert ended == "COMPLETED"


def test_commands_and_files_go_there(runctl: Installed, tmp_path: Path) -> None:
    done = runctl(
        "hosts",
        "exec",
        "gpu-box",
        "--",
        "sh",
        "-c",
        'cat; printf "%s" "$1"; exit 7',
        "sh",
        "a  b",
        stdin="in ",
    )
    assert (done.code, done.out) == (7, "in a  b")

    (tmp_path / "data.txt").write_text("data")
    runctl("cp", tmp_path / "data.txt", f"gpu-box:{tmp_path}/there.txt").ok()
    assert (tmp_path / "there.txt").read_text() == "data"


def test_the_shell_is_offered_commands_and_machines(runctl: Installed) -> None:
    def offered(*argv: str) -> list[str]:
        env = {"_RUNCTL_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(("runctl", *argv))}
        done = replace(runctl, env={**runctl.env, **env, "COMP_CWORD": str(len(argv))})().ok()
        return [line.partition(",")[2] for line in done.out.splitlines()]

    assert "hosts" in offered("ho")
    assert {"train", "exec", "list", "ssh"} <= set(offered("hosts", ""))
    runctl("hosts", "status", "gpu-box").ok()
    assert offered("hosts", "train", "gpu") == ["gpu-box"]


def test_a_wrong_name_is_one_clear_error(runctl: Installed) -> None:
    done = runctl("hosts", "train", "gpu-bax", "train.py", "--output", "json")
    assert done.code == 5
    assert done.error["message"] == "there is no host 'gpu-bax' in the configuration"
    assert done.error["hint"] == 'did you mean "gpu-box"?'


def test_a_machine_that_is_switched_off_is_one_clear_error(runctl: Installed) -> None:
    done = runctl("hosts", "train", "switched-off", "train.py", "--output", "json")
    assert (done.code, done.error["code"]) == (7, "unreachable")
    assert "Connection refused" in done.error["message"]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("hosts", "create", "--instance-type", "any"), "these machines are there already"),
        (("hosts", "terminate", "gpu-box"), "these machines are there already"),
        (("hosts", "stop", "gpu-box"), "does not switch these machines on or off"),
        (
            ("hosts", "train", "gpu-box", "train.py", "--ebs-mount", "data-volume:/data"),
            "these machines have no volumes",
        ),
    ],
)
def test_what_these_machines_have_not_got_is_said_with_the_reason(
    runctl: Installed, command: tuple[str, ...], reason: str
) -> None:
    done = runctl(*command, "--output", "json")
    assert (done.code, done.error["code"]) == (1, "unsupported")
    assert reason in done.error["message"]


def test_its_section_is_checked_and_shown(runctl: Installed, tmp_path: Path) -> None:
    runctl("config", "set", "--user", "hosts.machines.spare.address", "10.0.0.9").ok()
    shown = runctl("config", "show", "--output", "json").ok().json["hosts.machines"]["value"]
    assert set(shown) == {"gpu-box", "switched-off", "spare"}
    assert shown["spare"] == {"address": "10.0.0.9"}
    file = tmp_path / "config" / "runctl" / "config.toml"
    file.write_text('[hosts.machines.gpu-box]\nadress = "10.0.0.5"\n')
    (problem,) = runctl("config", "validate", "--output", "json").json["problems"]
    assert (problem["key"], problem["line"]) == ("hosts.machines.gpu-box.adress", 2)
    assert 'did you mean "address"?' in problem["message"]


def test_help_and_the_doctor_know_it(runctl: Installed) -> None:
    assert re.search(
        r"^  hosts +Train on machines that you have already\.", runctl("--help").ok().out, re.MULTILINE
    )
    checks = runctl("doctor", "hosts", "--output", "json").json
    found = {each["name"]: each["status"] for each in checks if each["part"] == "hosts"}
    assert found == {"gpu-box": "ok", "switched-off": "warning"}


def test_the_packages_own_tests_pass_where_it_is_installed(python: Path) -> None:
    done = subprocess.run(
        [
            python,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            str(PACKAGE / "tests"),
            "-c",
            str(PACKAGE / "pyproject.toml"),
        ],
        cwd=PACKAGE,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_shows_what_the_package_has() -> None:
    sources = [path.read_text() for path in (*PACKAGE.rglob("*.py"), PACKAGE / "pyproject.toml")]
    page = REPOSITORY / "docs" / "write-a-provider.md"
    shown = [block for block in blocks(page.read_text()) if block.language in {"python", "toml"}]
    for block in shown:
        parts = [part.strip("\n") for part in block.body.split("...\n")]
        assert any(all(part in source for part in parts) for source in sources), (
            f"line {block.line}: {block.body}"
        )
