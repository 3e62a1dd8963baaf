"""Programs that are forked behave as those that are started: their output, their end, signals."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.command_line import until
from tests.forked import client

FOREVER = "import time\nprint('up', flush=True)\nwhile True: time.sleep(0.1)\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    (tmp_path / "train.py").write_text(FOREVER)
    return tmp_path


def test_a_command_has_its_folder_its_variables_and_its_exit_code(folder: Path) -> None:
    code, out, err = client.run(
        ["config", "show", "--output", "json"], cwd=folder, env={**os.environ, "RUNCTL_PROJECT_NAME": "mine"}
    )
    assert (code, err) == (0, b""), err
    assert b'"mine"' in out
    assert client.run(["no-such-command"], cwd=folder, env=os.environ)[0] == 2


def test_one_that_is_killed_ends_as_killed_and_so_does_its_shim(folder: Path) -> None:
    argv = ["local", "train", "train.py", "--wait"]
    for number, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        process = client.start(argv, cwd=folder, env=os.environ)
        until(lambda process=process: b"up" in process.stdout.readline(), what="the script")  # type: ignore[misc]
        process.send_signal(number)
        process.communicate(60)
        assert process.returncode == code
    shim = client.on_path(folder / "bin") / "runctl"
    with subprocess.Popen(
        [shim, *argv], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as called:
        assert called.stdout is not None
        while b"up" not in called.stdout.readline():
            pass
        called.kill()
    # It is the command that has ended, not what it was watching.
    runs = client.run(["runs", "list", "--quiet"], cwd=folder, env=os.environ)[1].decode().split()
    assert len(runs) == 3
    for run in runs:
        assert client.run(["runs", "stop", run, "--force"], cwd=folder, env=os.environ)[0] == 0


def test_one_that_is_held_does_nothing_before_it_may(folder: Path) -> None:
    process = client.start(["--version"], cwd=folder, env=os.environ, held=True)
    os.kill(process.pid, 0)
    assert process.poll() is None
    process.go()
    out, _ = process.communicate(60)
    assert (process.returncode, out.startswith(b"runctl ")) == (0, True)


def test_one_that_takes_too_long_leaves_nothing_open(folder: Path) -> None:
    """Python says later of a pipe that was left open that it was, in whatever test there is then."""
    process = client.start(["--version"], cwd=folder, env=os.environ)
    with pytest.raises(subprocess.TimeoutExpired):
        process.communicate(0)
    assert (process.stdout.closed, process.stderr.closed) == (True, True)


def test_whoever_goes_away_at_once_disturbs_nobody(folder: Path) -> None:
    for _ in range(3):
        gone = client.Forked({"argv": ["--version"]}, cwd=folder, env=os.environ, stdin=0, held=True)
        gone._connection.close()
        gone.stdout.close()
        gone.stderr.close()
    assert client.run(["--version"], cwd=folder, env=os.environ)[0] == 0
