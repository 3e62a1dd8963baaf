"""A run's output on its way into the log."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import subprocess
from pathlib import Path

import pytest

from runctl.agent.attempt.redirect import PROGRAMS, SOURCE_SHA256
from runctl.agent.end_reason import EndReason
from runctl.agent.machine import processes
from tests.agent.driver import Agent, until

ORPHAN = "[runctl] the program that its first line or its header names is not in the image: ./orphan\n"
SOURCE = Path(__file__).parents[3] / "scripts/redirect/redirect.c"


def test_a_file_that_is_opened_anew_truncates_no_log_and_the_order_stays(agent: Agent) -> None:
    agent.sync({"t.sh": 'for i in 1 2 3; do echo out $i; echo err $i > /dev/stderr; done\nprintf "\\303"\n'})
    agent.start("r", "t.sh")
    agent.ended("r")
    log = agent.frames("r")[0]
    assert b"out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n\xc3" in log


@pytest.mark.linux
def test_a_machine_that_tells_everybody_to_end_has_told_the_training_and_its_log_goes_on(
    agent: Agent,
) -> None:
    agent.sync(
        {
            "t.py": (
                "import signal, time\n"
                "told = []\nsignal.signal(signal.SIGTERM, lambda *_: told.append(1))\n"
                "print('up')\nwhile not told: time.sleep(0.05)\n"
                "time.sleep(1)\nprint('saved after', len(told))\n"
            )
        }
    )
    agent.start("r", "t.py")
    agent.says("r", "up")
    follower = until(lambda: agent.live("r")["follower"], "the copying process")["pid"]
    script = agent.running("r").pid or 0
    for pid in (follower, agent.supervisor("r"), script):
        os.kill(pid, signal.SIGTERM)
    agent.ended("r")
    assert agent.output("r") == ["up", "saved after 1"]


@pytest.mark.linux
def test_a_copying_process_that_is_killed_is_followed_by_another(agent: Agent) -> None:
    # What a process holds that is killed is lost: it holds nothing while the script waits.
    waits_once = (
        "import os, pathlib, time\n"
        "go = pathlib.Path(os.environ['RUNCTL_OUTPUT_DIR'], 'go')\n"
        "for i in range(60):\n"
        "    print('line', i)\n"
        "    while i == 3 and not go.exists(): time.sleep(0.05)\n"
    )
    agent.sync({"t.py": waits_once})
    agent.start("r", "t.py")
    agent.says("r", "line 3")
    follower = processes.identity(agent.live("r")["follower"]["pid"])
    assert follower is not None
    os.kill(follower.pid, signal.SIGKILL)
    # Until it is gone, the kernel may still give it what is written meanwhile.
    until(lambda: not processes.alive(follower), "the end of the copying process")
    (agent.state / "runs" / "r" / "output" / "go").touch()
    assert agent.ended("r").reason is EndReason.COMPLETED
    assert agent.output("r") == [f"line {i}" for i in range(60)]


def test_the_program_that_containers_start_with_is_built_from_its_source() -> None:
    assert hashlib.sha256(SOURCE.read_bytes()).hexdigest() == SOURCE_SHA256, (
        "python scripts/redirect/build.py"
    )


@pytest.mark.linux
@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["printenv", "a.b"], 0, "kept\n"),
        (["sh", "-c", "echo out; echo err >&2"], 0, "out\nerr\n"),
        (["nosuch"], 127, "[runctl] there is no program in the image: nosuch\n"),
        (
            ["./orphan"],
            127,
            ORPHAN,
        ),
        (["/etc/passwd"], 126, "[runctl] the program cannot be started: /etc/passwd\n"),
    ],
)
def test_a_program_is_started_with_its_output_as_one_stream(
    tmp_path: Path, argv: list[str], code: int, said: str
) -> None:
    program, log = tmp_path / "redirect", tmp_path / "log"
    program.write_bytes(base64.b64decode(PROGRAMS[os.uname().machine]))
    program.chmod(0o755)
    (tmp_path / "orphan").write_text("#!/no/such/interpreter\n")
    (tmp_path / "orphan").chmod(0o755)
    log.touch()
    env = {"a.b": "kept", "PATH": "/nowhere::/usr/bin:/bin"}
    done = subprocess.run([program, log, *argv], env=env, cwd=tmp_path, check=False)
    assert (done.returncode, log.read_text()) == (code, said)
