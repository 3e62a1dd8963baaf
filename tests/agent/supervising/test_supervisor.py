"""A run whose supervisor ends, or whose machine has started anew."""

from __future__ import annotations

import hashlib
import json
import os
import signal

import pytest

from runctl.agent.end_reason import EndReason
from runctl.agent.spec import RunState
from tests.agent.driver import FAMILY, SLEEPER, Agent, alive, family, until

pytestmark = pytest.mark.linux


def test_a_supervisor_that_is_told_to_end_gives_the_script_its_grace(agent: Agent) -> None:
    agent.sync(
        {
            "train.py": (
                "import signal, sys, time\n"
                "signal.signal(signal.SIGTERM, lambda *_: (print('saved'), sys.exit(0)))\n"
                "print('up')\n"
                "while True: time.sleep(0.05)\n"
            )
        }
    )
    agent.start("r", "train.py")
    agent.says("r", "up")
    os.kill(agent.supervisor("r"), signal.SIGTERM)
    end = agent.ended("r")
    assert (end.reason, end.message) == (
        EndReason.STOPPED,
        "somebody on the machine ended the run's supervisor (SIGTERM)",
    )
    assert agent.output("r") == ["up", "saved"]


def test_sigterm_is_the_notice_on_a_computer_where_there_is_no_other(agent: Agent) -> None:
    agent.sync(
        {
            "train.py": (
                "import os, signal, sys, time\n"
                "def save(*_):\n"
                "    open(os.environ['RUNCTL_CHECKPOINT_DIR'] + '/step-7.json', 'w').write('{}')\n"
                "    sys.exit(0)\n"
                "signal.signal(signal.SIGTERM, save)\n"
                "print('up')\n"
                "while True: time.sleep(0.05)\n"
            )
        }
    )
    agent.start("r", "train.py", notice_by="sigterm")
    agent.says("r", "up")
    os.kill(agent.supervisor("r"), signal.SIGTERM)
    end = agent.ended("r")
    assert end.reason is EndReason.INTERRUPTED
    assert end.message == "SIGTERM to the run's supervisor, the notice on this machine"
    assert end.hand_off is not None
    assert (end.hand_off.checkpoint, end.hand_off.step) == ("step-7.json", 7)
    assert not end.hand_off.is_rehearsal
    assert {"heard", "signalled", "script_ended", "verified"} <= set(end.hand_off.stages)


def test_a_killed_supervisor_does_not_end_the_script_nor_its_log(agent: Agent) -> None:
    agent.sync(
        {
            "train.py": (
                "import os, time\n"
                "print('up')\n"
                "while not os.path.exists(os.environ['RUNCTL_OUTPUT_DIR'] + '/go'): time.sleep(0.05)\n"
                "print('done')\n"
            )
        }
    )
    agent.start("r", "train.py")
    agent.says("r", "up")
    os.kill(agent.supervisor("r"), signal.SIGKILL)
    until(lambda: not alive(agent.supervisor("r")), "the supervisor's death")
    seen = agent.status("r")
    assert seen.state is RunState.RUNNING
    assert "supervisor is gone" in seen.phase
    (agent.state / "runs/r/output/go").touch()
    end = agent.ended("r")
    assert end.reason is EndReason.LOST
    assert "killed" in end.message
    assert agent.output("r") == ["up", "done"]
    assert (end.log_bytes, end.log_sha256) == (
        len(agent.log("r").encode()),
        hashlib.sha256(agent.log("r").encode()).hexdigest(),
    )


def test_a_script_without_its_supervisor_can_be_stopped(agent: Agent) -> None:
    agent.sync({"train.py": FAMILY + "time.sleep(1000)\n"})
    agent.start("r", "train.py")
    pids = [*family(agent, "r"), agent.running("r").pid or 0]
    os.kill(agent.supervisor("r"), signal.SIGKILL)
    until(lambda: not alive(agent.supervisor("r")), "the supervisor's death")
    seen = agent.stop("r")
    assert seen.end is not None
    assert seen.end.reason is EndReason.STOPPED
    assert not any(map(alive, pids))


def test_a_run_of_an_earlier_boot_is_lost(agent: Agent) -> None:
    agent.sync({"train.py": SLEEPER})
    agent.start("r", "train.py")
    agent.running("r")
    path = agent.folder("r") / "status.json"
    os.kill(agent.supervisor("r"), signal.SIGKILL)
    live = json.loads(path.read_text())
    os.kill(live["script"]["pid"], signal.SIGKILL)
    for who in ("supervisor", "script", "follower"):
        live[who]["boot"] = "another"
    path.write_text(json.dumps(live))
    end = agent.status("r").end
    assert end is not None
    assert end.reason is EndReason.LOST
    assert "restarted" in end.message


def test_another_process_with_the_same_number_is_not_the_supervisor(agent: Agent) -> None:
    agent.sync({"train.py": SLEEPER})
    agent.start("r", "train.py")
    agent.running("r")
    path = agent.folder("r") / "status.json"
    live = json.loads(path.read_text())
    for who in ("supervisor", "script"):
        os.kill(live[who]["pid"], signal.SIGKILL)
        live[who] = {**live[who], "pid": os.getpid()}
    path.write_text(json.dumps(live))
    assert agent.status("r").pid is None
    # What carries its output ends a moment after the script, and the run is not over before that.
    assert agent.ended("r").reason is EndReason.LOST
    agent.stop("r")
    assert alive(os.getpid())
