"""A run that is a service of a Compose project, by a real engine and the Compose that this machine has."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from runctl.agent.end_reason import EndReason
from tests.agent import engine as engines
from tests.agent.driver import Agent
from tests.agent.engine import BASE, Engine

pytestmark = [pytest.mark.linux, pytest.mark.root, pytest.mark.docker, pytest.mark.compose]

SIDE = "import time\nprint('side is up', flush=True)\ntime.sleep(600)\n"
FILE = """\
services:
  trainer:
    image: base:py
    network_mode: none
    depends_on: [store]
    environment:
      FROM_FILE: "yes"
    command: ["python3", "-u", "-c", "print('own command')"]
  store:
    image: base:py
    init: true
    network_mode: none
    command: ["python3", "-u", "-c", {side}]
""".replace("{side}", json.dumps(SIDE))


def service(name: str = "trainer", file: str = "compose.yaml", **more: object) -> dict[str, object]:
    return {"compose": name, "compose_file": file, **more}


def test_a_script_runs_in_the_service_and_the_others_beside_it(machine: Agent, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "in").write_text("from the volume")
    code = (
        "import os, sys, time\ntime.sleep(2)\n"
        "print(sys.argv[1:], os.getcwd(), os.environ['FROM_FILE'], repr(os.environ['TOKEN']))\n"
        "print(open('/data/in').read())\nsys.exit(7)\n"
    )
    machine.sync({"compose.yaml": FILE, "a/train.py": code})
    machine.start(
        "r",
        "a/train.py",
        "x y",
        "$HOME",
        container=service(),
        env={"TOKEN": "se$cret ${X}"},
        mounts=[{"source": str(data), "target": "/data"}],
    )
    end = machine.ended("r")
    assert (end.reason, end.exit_code) == (EndReason.FAILED, 7), machine.log("r")
    output = machine.output("r")
    assert "['x y', '$HOME'] /workspace yes 'se$cret ${X}'" in output
    assert "from the volume" in output
    assert any(line.startswith("store") and line.endswith("| side is up") for line in output), output
    assert not any("own command" in line for line in output)


def test_the_services_own_command_is_the_run_and_its_output_keeps_bytes_and_order(machine: Agent) -> None:
    code = "import os\nfor i in range(500): os.write(1, b'o%d\\xff\\n' % i); os.write(2, b'\\re%d' % i)"
    own = json.dumps(["sh", "-c", f'python3 -c "{code}"; echo "own command" >/dev/stderr'])
    file = FILE.replace(json.dumps(["python3", "-u", "-c", "print('own command')"]), own)
    assert file != FILE
    machine.sync({"compose.yaml": file})
    machine.start("r", "", is_command=True, container=service(user="4321:4321"))
    end = machine.ended("r")
    assert (end.reason, end.exit_code) == (EndReason.COMPLETED, 0), machine.log("r")
    spoken = b"".join(b"o%d\xff\n\re%d" % (i, i) for i in range(500)) + b"own command\n"
    log = machine.frames("r")[0]
    assert spoken in log, machine.log("r")
    assert b"Starting runctl-" not in log


def test_services_that_cannot_be_started_end_the_run_with_what_compose_said(machine: Agent) -> None:
    # Without an init of Docker's the engine itself cannot start it.
    side = f'["python3", "-u", "-c", {json.dumps(SIDE)}]'
    file = FILE.replace("    init: true\n", "").replace(side, '["/no/such/program"]')
    assert "/no/such/program" in file
    machine.sync({"compose.yaml": file, "train.py": "print('ran')\n"})
    machine.start("r", "train.py", container=service())
    end = machine.ended("r")
    assert end.reason is EndReason.IMAGE_FAILED
    assert "the services could not be started" in end.message
    assert "/no/such/program" in end.message
    assert any("/no/such/program" in line for line in machine.output("r")), machine.log("r")


def test_it_is_given_what_the_file_takes_from_its_surroundings_and_builds_as_train_does(
    machine: Agent,
) -> None:
    # A newer client without its plug-in buildx, such as this computer may have, cannot use BuildKit.
    machine.env["PATH"] = "/usr/bin:/bin:/usr/sbin:/sbin"
    file = FILE.replace("image: base:py", "build: .", 1).replace('"yes"', '"${LR:-0.5} ${TAG-none} ${PWD}"')
    dockerfile = "FROM base:py\nCOPY --chmod=755 train.py /workspace/train.py\n"
    code = "import os, stat\nprint(os.environ['FROM_FILE'], oct(os.stat('train.py').st_mode)[-3:])\n"
    machine.sync({"compose.yaml": file, "Dockerfile": dockerfile, "train.py": code})
    machine.start("r", "train.py", container=service(), compose_env={"LR": "0.1 $x 'y\" #z"})
    end = machine.ended("r")
    assert (end.reason, end.exit_code) == (EndReason.COMPLETED, 0), machine.log("r")
    assert any(
        line.startswith("0.1 $x 'y\" #z none /") and line.endswith("/work 755")
        for line in machine.output("r")
    ), machine.log("r")
    kept = machine.state / "runs/r/1"
    assert not any(b"0.1 $x" in path.read_bytes() for path in kept.glob("*.json"))


def test_stop_lets_the_training_below_a_shell_save_while_the_side_cars_stay(machine: Agent) -> None:
    code = (
        "import signal, sys, time\nsignals = []\n"
        "signal.signal(signal.SIGTERM, lambda *_: signals.append(1))\n"
        "print('up')\nwhile not signals: time.sleep(0.05)\n"
        "time.sleep(2)\nprint('saved after', len(signals))\n"
    )
    beats = json.dumps("import time\nwhile True: print('beat', time.time(), flush=True); time.sleep(0.1)\n")
    file = FILE.replace(json.dumps(SIDE), beats)
    script = "python3 -u train.py\necho ended with $?\nexit 4\n"
    machine.sync({"compose.yaml": file, "train.py": code, "train.sh": script})
    machine.start("r", "train.sh", container=service(), grace_seconds=20.0)
    machine.says("r", "up")
    seen = machine.stop("r")
    assert seen.end is not None
    assert (seen.end.reason, seen.end.exit_code) == (EndReason.STOPPED, 4)
    output = machine.output("r")
    assert output.index("saved after 1") < output.index("ended with 0")
    asked = machine.log("r").index("SIGTERM, then")
    assert machine.log("r")[asked:].count("| beat") >= 5


def test_stop_lets_a_training_save_that_began_while_others_still_wait_for_it(machine: Agent) -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), print('saved'), sys.exit(4)))\n"
        "print('up')\nwhile True: time.sleep(0.05)\n"
    )
    file = (
        FILE.replace(
            "    depends_on: [store]\n",
            '    healthcheck: {test: ["CMD", "false"], interval: 1s, retries: 600}\n',
        )
        + "    depends_on: {trainer: {condition: service_healthy}}\n"
    )
    machine.sync({"compose.yaml": file, "train.py": code})
    machine.start("r", "train.py", container=service(), grace_seconds=20.0)
    machine.says("r", "up")
    seen = machine.stop("r")
    assert seen.end is not None
    assert (seen.end.reason, seen.end.exit_code) == (EndReason.STOPPED, 4), machine.log("r")
    assert "saved" in machine.output("r")


def test_nothing_is_left_when_the_supervisor_was_killed(machine: Agent, engine: Engine) -> None:
    code = (
        "import os, sys, time\nprint('up')\n"
        "while not os.path.exists('/runctl/output/go'): time.sleep(0.05)\nsys.exit(9)\n"
    )
    machine.sync({"compose.yaml": FILE, "train.py": code})
    machine.start("r", "train.py", container=service())
    machine.says("r", "up")
    os.kill(machine.supervisor("r"), signal.SIGKILL)
    (machine.state / "runs/r/output/go").touch()
    end = machine.ended("r")
    assert (end.reason, end.exit_code) == (EndReason.FAILED, 9)
    assert engine.docker("ps", "--all", "--quiet") == ""


def test_a_side_car_that_dies_is_told_and_named_in_a_failure(machine: Agent) -> None:
    file = FILE.replace("time.sleep(600)", "raise SystemExit(3)")
    machine.sync({"compose.yaml": file, "train.py": "import time\ntime.sleep(7)\nraise SystemExit(1)\n"})
    machine.start("r", "train.py", container=service())
    end = machine.ended("r")
    assert end.reason is EndReason.FAILED
    assert "side-car store with exit code 3" in end.message
    assert "side-car store has ended with exit code 3" in machine.log("r")


def test_a_file_that_is_broken_says_what_is_wrong(machine: Agent) -> None:
    machine.sync({"compose.yaml": "services:\n  trainer:\n    imgae: x\n", "train.py": ""})
    machine.start("r", "train.py", container=service())
    end = machine.ended("r")
    assert end.reason is EndReason.IMAGE_FAILED
    assert "compose.yaml cannot be used" in end.message
    assert "imgae" in end.message


def test_a_service_that_is_unknown_is_told_those_that_are(machine: Agent) -> None:
    machine.sync({"compose.yaml": FILE, "train.py": ""})
    machine.start("r", "train.py", container=service("trainre"))
    end = machine.ended("r")
    assert end.reason is EndReason.IMAGE_FAILED
    assert "no service trainre; it has" in end.message
    assert "trainer" in end.message


def test_a_side_car_that_cannot_start_ends_the_run_before_it_begins(machine: Agent) -> None:
    file = FILE.replace('"python3", "-u", "-c", "import time', '"no-such-program", "import time')
    file = file.replace("    init: true\n", "")  # an init would start, and then not find it
    assert file != FILE
    machine.sync({"compose.yaml": file, "train.py": "print('ran')\n"})
    machine.start("r", "train.py", container=service())
    end = machine.ended("r")
    assert end.reason is EndReason.IMAGE_FAILED, machine.log("r")
    assert "no-such-program" in end.message


def test_the_synced_project_goes_over_what_the_service_has(machine: Agent, engine: Engine) -> None:
    engines.derived(
        engine, BASE, "own:1", ["COPY t /workspace/train.py", "COPY t /workspace/kept"], {"t": "kept"}
    )
    without_command = FILE.replace("""    command: ["python3", "-u", "-c", "print('own command')"]\n""", "")
    assert without_command != FILE
    machine.sync(
        {
            "compose.yaml": without_command.replace("image: base:py", "image: own:1", 1),
            "train.py": "print(open('kept').read())\n",
        }
    )
    machine.start("r", "train.py", container=service(code="mount"))
    assert machine.ended("r").reason is EndReason.COMPLETED, machine.log("r")
    assert "kept" in machine.output("r")


def test_a_machine_without_compose_says_so_before_anything_starts(machine: Agent, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("docker", "sh", "env"):
        found = next(
            Path(folder, name) for folder in os.environ["PATH"].split(":") if Path(folder, name).exists()
        )
        (programs / name).symlink_to(found)
    machine.env = {**machine.env, "PATH": str(programs)}
    machine.sync({"compose.yaml": FILE, "train.py": ""})
    error = machine.refused("r", "train.py", container=service())
    assert error["code"] == "no-compose"
