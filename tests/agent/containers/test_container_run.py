"""A container's run to its end: stopped, its log, and what happens when the supervisor or the engine goes away."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time

import pytest

from runctl.agent.end_reason import EndReason
from runctl.agent.spec import RunState
from tests.agent import engine as engines
from tests.agent.driver import Agent, alive, until
from tests.agent.engine import BASE, Engine, in_image

pytestmark = [pytest.mark.linux, pytest.mark.root, pytest.mark.docker]


def test_stop_lets_it_save_and_removes_the_container(machine: Agent, engine: Engine) -> None:
    machine.sync(
        {
            "train.py": (
                "import signal, sys, time\n"
                "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.3), print('saved'), sys.exit(4)))\n"
                "print('up')\nwhile True: time.sleep(0.05)\n"
            )
        }
    )
    machine.start("r", "train.py", container=in_image())
    machine.says("r", "up")
    seen = machine.stop("r")
    assert seen.end is not None
    assert (seen.end.reason, seen.end.exit_code) == (EndReason.STOPPED, 4)
    assert machine.output("r")[-1] == "saved"
    assert engine.docker("ps", "--all", "--quiet") == ""


SAVES_SLOWLY = """\
import signal, sys, time
signals = 0
def count(*_):
    global signals
    signals += 1
signal.signal(signal.SIGTERM, count)
print("up", flush=True)
while not signals: time.sleep(0.05)
time.sleep(1)
print("saved after", signals, "SIGTERM", flush=True)
"""


def test_below_whatever_stands_first_in_the_container_the_training_can_save(
    machine: Agent, engine: Engine
) -> None:
    entry = ["WORKDIR /workspace", "COPY train.py .", "ENTRYPOINT python3 -u train.py; true"]
    engines.derived(engine, BASE, "shell:form", entry, {"train.py": SAVES_SLOWLY})
    machine.sync(
        {"train.py": SAVES_SLOWLY, "train.sh": "#!/bin/sh\nset -e\npython3 -u train.py\necho last\n"}
    )

    def start(name: str, script: str, *args: str, **more: object) -> None:
        machine.start(name, script, *args, grace_seconds=20.0, **more)

    start("script", "train.sh", container=in_image())
    start("root", "train.sh", container=in_image(user="0:0"))
    start("other", "train.sh", container=in_image(user="4321:4321"), timeout_seconds=8.0)
    start("entry", "", is_command=True, container={"image": "shell:form", "user": ""})
    start(
        "orphan", "sh", "-c", "python3 -u train.py; true", is_command=True, container=in_image(code="mount")
    )
    runs = ["script", "root", "other", "entry", "orphan"]
    for name in runs:
        machine.says(name, "up")
    os.kill(machine.supervisor("orphan"), signal.SIGKILL)
    for name in ("orphan", "script", "root", "entry"):
        assert machine.stop(name).end is not None
    for name in runs:
        end = machine.ended(name)
        assert "saved after 1 SIGTERM" in machine.output(name), (name, machine.log(name))
        assert end.reason is (EndReason.TIME_LIMIT if name == "other" else EndReason.STOPPED), (name, end)
        assert "had to be killed" not in end.message
    assert machine.output("script")[-1] == "last"


def test_stop_kills_what_ignores_it(machine: Agent) -> None:
    machine.sync(
        {
            "train.py": (
                "import signal, time\n"
                "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
                "print('up')\n"
                "time.sleep(600)\n"
            )
        }
    )
    machine.start("r", "train.py", container=in_image())
    machine.says("r", "up")
    seen = machine.stop("r", grace_seconds=0.5)
    assert seen.end is not None
    assert (seen.end.reason, seen.end.signal) == (EndReason.STOPPED, signal.SIGKILL)


def test_stop_works_while_the_image_is_built(machine: Agent, engine: Engine) -> None:
    machine.sync({"Dockerfile": f"FROM {BASE}\nRUN sleep 600\n", "train.py": ""})
    machine.start("r", "train.py", container={"dockerfile": "Dockerfile"})
    until(lambda: "sleep 600" in machine.log("r"), "the build")
    began = time.monotonic()
    seen = machine.stop("r")
    assert seen.end is not None
    assert seen.end.reason is EndReason.STOPPED
    assert time.monotonic() - began < 30
    # The build's own container is the engine's: it removes it when nobody waits for the build any more.
    until(lambda: not engine.docker("ps", "--all", "--quiet"), "the end of the build's container")


def test_a_time_limit_ends_it(machine: Agent) -> None:
    machine.sync({"train.py": "import time\ntime.sleep(600)\n"})
    machine.start("r", "train.py", container=in_image(), timeout_seconds=1.0)
    assert machine.ended("r").reason is EndReason.TIME_LIMIT


SPEAKS = """\
import os, sys, time
for i in range(3000):
    os.write(1, b"out %d\\n" % i); os.write(2, b"err %d\\n" % i)
os.write(1, bytes(range(256)) + b"x" * 100000 + b"\\xc3")
time.sleep(0.2)
os.write(2, b"\\xa9")
for i in range(3): os.write(2, b"\\rstep %d/3" % i)
while not os.path.exists("/runctl/output/go"): time.sleep(0.05)
open("/dev/stderr", "w").write("\\nreopened\\n")
os.write(1, b"last, without a newline")
"""
SPOKEN = (
    b"".join(b"out %d\nerr %d\n" % (i, i) for i in range(3000))
    + bytes(range(256))
    + b"x" * 100000
    + b"\xc3\xa9\rstep 0/3\rstep 1/3\rstep 2/3\nreopened\nlast, without a newline"
)


def test_the_log_has_the_scripts_bytes_in_their_order_as_they_are_written(
    machine: Agent, engine: Engine
) -> None:
    shell = ["WORKDIR /workspace", "COPY t.py .", "ENTRYPOINT python3 t.py"]
    engines.derived(engine, BASE, "speaks:shell", shell, {"t.py": SPEAKS})
    form = ["WORKDIR /workspace", "COPY t.py .", 'ENTRYPOINT ["/usr/bin/env"]', 'CMD ["python3", "t.py"]']
    engines.derived(engine, BASE, "speaks:exec", form, {"t.py": SPEAKS})
    machine.sync({"t.py": SPEAKS})
    machine.start("script", "t.py", container=in_image())
    machine.start("user", "t.py", container=in_image(user="4321:4321"))
    machine.start("shell", "", is_command=True, container=in_image("speaks:shell"))
    machine.start("exec", "", is_command=True, container=in_image("speaks:exec"))
    machine.start("killed", "t.py", container=in_image())
    runs = ["script", "user", "shell", "exec", "killed"]
    for name in runs:
        until(lambda name=name: b"step 2/3" in machine.frames(name)[0], f"{name}'s live output")  # type: ignore[misc]
    live = json.loads((machine.folder("killed") / "status.json").read_text())
    os.kill(live["follower"]["pid"], signal.SIGKILL)
    # Until it is gone it may still take from the pipe what is then lost with it.
    until(lambda: not alive(live["follower"]["pid"]), "its end")
    for name in runs:
        (machine.state / f"runs/{name}/output/go").touch()
    for name in runs:
        end = machine.ended(name)
        log, _ = machine.frames(name)
        assert end.reason is EndReason.COMPLETED, (name, log[-2000:])
        assert SPOKEN in log, (name, log[-2000:])
        assert (len(log), hashlib.sha256(log).hexdigest()) == (end.log_bytes, end.log_sha256)


def test_a_container_keeps_its_exit_code_when_the_supervisor_is_killed(
    machine: Agent, engine: Engine
) -> None:
    machine.sync(
        {
            "train.py": (
                "import os, sys, time\n"
                "print('up')\n"
                "while not os.path.exists('/runctl/output/go'): time.sleep(0.05)\n"
                "print('done')\n"
                "sys.exit(9)\n"
            )
        }
    )
    machine.start("r", "train.py", container=in_image())
    machine.says("r", "up")
    # The script may have spoken before its supervisor has written down that it runs.
    until(lambda: machine.status("r").state is RunState.RUNNING, "the run")
    os.kill(machine.supervisor("r"), signal.SIGKILL)
    until(lambda: "supervisor is gone" in machine.status("r").phase, "the loss")
    assert machine.status("r").state is RunState.RUNNING
    (machine.state / "runs/r/output/go").touch()
    end = machine.ended("r")
    assert (end.reason, end.exit_code) == (EndReason.FAILED, 9)
    assert machine.output("r")[-2:] == ["up", "done"]
    assert engine.docker("ps", "--all", "--quiet") == ""


def test_a_container_that_somebody_removes_is_lost(machine: Agent, engine: Engine) -> None:
    machine.sync({"train.py": "import time\nprint('up')\ntime.sleep(600)\n"})
    machine.start("r", "train.py", container=in_image())
    container = until(lambda: machine.running("r").container_id, "the container")
    engine.docker("rm", "--force", container)
    end = machine.ended("r")
    assert end.reason in (EndReason.LOST, EndReason.FAILED)
    assert end.exit_code in (None, 137)


def test_an_engine_that_is_stopped_for_good_ends_the_run_as_lost(
    agent: Agent, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It kills its containers, and comes back no more."""
    item = engines.start(tmp_path_factory.mktemp("own"))
    try:
        engines.python_image(item, BASE)
        agent.env = {"DOCKER_HOST": item.host, "RUNCTL_ENGINE_GONE_SECONDS": "3"}
        agent.sync({"train.py": "import time\nprint('up')\ntime.sleep(600)\n"})
        agent.start("r", "train.py", container=in_image())
        agent.says("r", "up")
        item.process.terminate()
        item.process.wait(60)
        end = agent.ended("r")
        assert end.reason is EndReason.LOST
        assert "the Docker engine is gone" in end.message
    finally:
        if item.process.poll() is None:
            engines.stop(item)


def test_an_engine_that_is_restarted_meanwhile_is_borne_with(
    agent: Agent, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Live restore: the container goes on while its engine is away, and so does its log."""
    folder = tmp_path_factory.mktemp("own")
    item = engines.start(folder, "--live-restore")
    try:
        engines.python_image(item, BASE)
        agent.env = {"DOCKER_HOST": item.host}
        script = (
            "import os, time\nfor i in range(60): print('line', i); time.sleep(0.1)\nraise SystemExit(5)\n"
        )
        agent.sync({"train.py": script})
        agent.start("r", "train.py", container=in_image())
        agent.says("r", "line 3")
        item.process.terminate()
        item.process.wait(60)
        item = engines.start(folder, "--live-restore")
        end = agent.ended("r")
        assert (end.reason, end.exit_code) == (EndReason.FAILED, 5), agent.log("r")
        numbers = [int(line.split()[1]) for line in agent.output("r") if line.startswith("line")]
        assert numbers == list(range(60))
        assert end.message.endswith("; the Docker engine was away for a while")
    finally:
        engines.stop(item)


def test_a_run_that_its_engine_took_along_says_so(
    agent: Agent, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("own")
    item = engines.start(folder)
    try:
        engines.python_image(item, BASE)
        agent.env = {"DOCKER_HOST": item.host}
        agent.sync({"train.py": "import time\nprint('up')\ntime.sleep(600)\n"})
        agent.start("r", "train.py", container=in_image())
        agent.says("r", "up")
        item.process.terminate()
        item.process.wait(60)
        item = engines.start(folder)
        end = agent.ended("r")
        assert end.reason is EndReason.FAILED
        assert "the Docker engine had ended, and with it its containers" in end.message
    finally:
        engines.stop(item)
