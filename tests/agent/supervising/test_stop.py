"""What ends a run on the host: a request, a time limit, and what the script and its family make of it."""

from __future__ import annotations

import json
import signal
import subprocess
import time

import pytest

from runctl.agent.end_reason import EndReason
from runctl.agent.spec import RunState
from tests.agent.driver import FAMILY, SLEEPER, Agent, alive, family, until

pytestmark = pytest.mark.linux


STUBBORN = (
    "import signal, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('up')\n"
    "while True: time.sleep(0.1)\n"
)


def test_stop_asks_first_and_lets_the_script_save(agent: Agent) -> None:
    agent.sync(
        {
            "train.py": (
                "import os, signal, sys, time\n"
                "def save(*_):\n"
                "    time.sleep(0.5)\n"
                "    open(os.environ['RUNCTL_CHECKPOINT_DIR'] + '/last', 'w').write('saved')\n"
                "    sys.exit(3)\n"
                "signal.signal(signal.SIGTERM, save)\nprint('up')\nwhile True: time.sleep(0.05)\n"
            )
        }
    )
    agent.start("r", "train.py")
    agent.says("r", "up")
    seen = agent.stop("r")
    assert seen.end is not None
    assert (seen.end.reason, seen.end.exit_code) == (EndReason.STOPPED, 3)
    assert (agent.state / "runs/r/checkpoints/last").read_text() == "saved"


def test_stop_kills_what_ignores_it_when_the_grace_is_over(agent: Agent) -> None:
    agent.sync({"train.py": STUBBORN})
    agent.start("r", "train.py")
    agent.says("r", "up")
    pid = agent.running("r").pid
    began = time.monotonic()
    seen = agent.stop("r", grace_seconds=1.0)
    assert time.monotonic() - began >= 1.0
    assert seen.end is not None
    assert (seen.end.reason, seen.end.signal) == (EndReason.STOPPED, signal.SIGKILL)
    assert pid is not None
    assert not alive(pid)


def test_force_does_not_wait(agent: Agent) -> None:
    agent.sync({"train.py": STUBBORN})
    agent.start("r", "train.py", grace_seconds=600.0)
    agent.says("r", "up")
    began = time.monotonic()
    assert agent.stop("r", force=True).state is RunState.ENDED
    assert time.monotonic() - began < 20


def test_a_forced_stop_overtakes_a_patient_one(agent: Agent) -> None:
    agent.sync({"train.py": STUBBORN})
    agent.start("r", "train.py", grace_seconds=600.0)
    agent.says("r", "up")
    with subprocess.Popen(
        agent.command("stop"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=agent.environment
    ) as patient:
        assert patient.stdin is not None
        patient.stdin.write(b'{"run_id": "r"}')
        patient.stdin.close()
        until(lambda: agent.status("r").state is RunState.STOPPING, "the first stop")
        agent.stop("r", force=True)
        assert patient.stdout is not None
        answer = json.loads(patient.stdout.read())
    assert answer["ok"]["state"] == "ENDED"


def test_stopping_twice_changes_nothing(agent: Agent) -> None:
    agent.sync({"train.py": SLEEPER})
    agent.start("r", "train.py")
    agent.running("r")
    assert agent.stop("r").end == agent.stop("r").end


def test_stopping_a_run_that_has_completed_leaves_it_completed(agent: Agent) -> None:
    agent.sync({"train.py": "print(1)\n"})
    agent.start("r", "train.py")
    agent.ended("r")
    end = agent.stop("r").end
    assert end is not None
    assert end.reason is EndReason.COMPLETED


SAVES_SLOWLY = """\
import os, signal, sys, time
signals = 0
def count(*_):
    global signals
    signals += 1
signal.signal(signal.SIGTERM, count)
print("up", flush=True)
while not signals: time.sleep(0.05)
time.sleep(float(sys.argv[1]) if sys.argv[1:] else 1)
print("saved after", signals, "SIGTERM", flush=True)
"""
SPAWNS = "import subprocess, sys\nraise SystemExit(subprocess.call([sys.executable, *sys.argv[1:]]))\n"
FORWARDS = """\
import signal, subprocess, sys
child = subprocess.Popen([sys.executable, "train.py"])
signal.signal(signal.SIGTERM, lambda *_: child.terminate())
raise SystemExit(child.wait())
"""
POOL = """\
import multiprocessing, time
if __name__ == "__main__":
    exec(open("train.py").read().split("while")[0])
    workers = [multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,)) for _ in range(2)]
    for one in workers: one.start()
    while not signals: time.sleep(0.05)
    print("saved after", signals, "SIGTERM, workers alive:", sum(one.is_alive() for one in workers), flush=True)
    for one in workers: one.kill()
"""
WAYS = {
    "shell": "set -e\npython3 train.py\necho last\n",
    "exec": "exec python3 train.py\n",
    "nested": "sh -c 'bash -c \"python3 train.py; true\"; true'\n",
    "tee": "python3 train.py | tee log.txt\n",
    "substitution": "exec > >(tee log.txt) 2>&1\npython3 train.py\n",
    "background": "python3 train.py & wait\nwait\n",
    "trap": "trap 'kill -TERM $child; wait $child' TERM\npython3 train.py & child=$!\nwait $child\nwait $child\n",
    "time": "nohup env A=1 timeout 600 python3 train.py\n",
    "launcher": "python3 spawns.py train.py\n",
    "forwards": "python3 forwards.py\n",
}


def test_whatever_stands_above_the_training_it_gets_sigterm_once_and_can_save(agent: Agent) -> None:
    files = {"train.py": SAVES_SLOWLY, "spawns.py": SPAWNS, "forwards.py": FORWARDS, "pool.py": POOL}
    agent.sync({**files, **{f"{name}.sh": text for name, text in WAYS.items()}})
    runs = [*WAYS, "pool"]
    for name in runs:
        agent.start(name, f"{name}.sh" if name in WAYS else "pool.py", grace_seconds=20.0)
    for name in runs:
        agent.says(name, "up")
    request = {"reason": "STOPPED", "grace_seconds": 20.0, "requested_at": 0.0, "message": "stopped"}
    for name in runs:
        (agent.folder(name) / "stop.json").write_text(json.dumps(request))
    ends = {name: agent.ended(name) for name in runs}
    for name, end in ends.items():
        assert "saved after 1 SIGTERM" in agent.log(name), (name, agent.log(name))
        assert (end.reason, end.message) == (EndReason.STOPPED, "stopped"), (name, end)
    assert agent.output("shell")[-1] == "last"
    assert agent.output("pool")[-1].endswith("workers alive: 2")


def test_stop_reaches_children_and_daemons(agent: Agent) -> None:
    agent.sync({"train.py": FAMILY + "time.sleep(1000)\n"})
    agent.start("r", "train.py")
    pids = family(agent, "r")
    assert all(map(alive, pids))
    agent.stop("r")
    assert not any(map(alive, pids))


def test_what_outlives_the_script_is_ended(agent: Agent) -> None:
    agent.sync({"train.py": FAMILY})
    agent.start("r", "train.py")
    assert agent.ended("r").reason is EndReason.COMPLETED
    assert not any(map(alive, family(agent, "r")))
    assert "outlived the script" in agent.log("r")


def test_stop_works_while_the_run_is_being_set_up(agent: Agent) -> None:
    agent.sync(
        {
            "train.py": "print('never')\n",
            "slow/pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = 'b'\nbackend-path = ['.']\n",
            "slow/b.py": "import time\ntime.sleep(1000)\n",
        }
    )
    needs = {"kind": "package", "path": "slow/pyproject.toml", "folder": "slow"}
    agent.start("r", "train.py", dependencies=needs)
    until(lambda: "installing" in agent.status("r").phase, "the installation")
    began = time.monotonic()
    seen = agent.stop("r")
    assert seen.end is not None
    assert seen.end.reason is EndReason.STOPPED
    assert time.monotonic() - began < 30
    assert "never" not in agent.log("r")


def test_a_time_limit_ends_the_run(agent: Agent) -> None:
    agent.sync({"train.py": STUBBORN})
    agent.start("r", "train.py", timeout_seconds=1.0, grace_seconds=0.5)
    end = agent.ended("r")
    assert (end.reason, end.signal) == (EndReason.TIME_LIMIT, signal.SIGKILL)
    assert "1 s" in end.message
