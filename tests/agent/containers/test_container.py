"""A run in a container, by a real Docker engine."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from runctl.agent.end_reason import EndReason
from tests.agent import engine as engines
from tests.agent.driver import Agent
from tests.agent.engine import BASE, Engine, in_image

pytestmark = [pytest.mark.linux, pytest.mark.root, pytest.mark.docker]


def test_a_script_runs_in_an_image_that_is_on_the_machine(machine: Agent) -> None:
    machine.sync({"training/train.py": "import json, os, sys\nprint(json.dumps([sys.argv, os.getcwd()]))\n"})
    machine.start("r", "training/train.py", "a b", "$HOME", "", container=in_image())
    end = machine.ended("r")
    assert (end.reason, end.exit_code) == (EndReason.COMPLETED, 0), machine.log("r")
    assert json.loads(machine.output("r")[0]) == [["training/train.py", "a b", "$HOME", ""], "/workspace"]


def test_an_image_is_built_from_the_project(machine: Agent, engine: Engine) -> None:
    digest = machine.sync(
        {
            "docker/Dockerfile": f"FROM {BASE}\nCOPY . /workspace\nENV MARK=built\n",
            "train.py": "import os\nprint(os.environ['MARK'])\n",
        }
    )
    machine.start("r", "train.py", container={"dockerfile": "docker/Dockerfile"})
    assert machine.ended("r").reason is EndReason.COMPLETED, machine.log("r")
    assert machine.output("r")[-1] == "built"
    assert "as it is in the image" in machine.log("r")
    assert f"runctl/project:{digest[:12]}" in engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}")


def test_an_image_without_the_project_gets_it_mounted(machine: Agent) -> None:
    machine.sync(
        {"Dockerfile": f"FROM {BASE}\n", "train.py": "open('out.txt', 'w').write('x')\nprint('ran')\n"}
    )
    machine.start("r", "train.py", container={"dockerfile": "Dockerfile"})
    assert machine.ended("r").reason is EndReason.COMPLETED, machine.log("r")
    assert "the synced project is mounted at /workspace" in machine.log("r")
    assert (machine.folder("r") / "work" / "out.txt").read_text() == "x"


def test_code_that_must_be_in_the_image_and_is_not_fails_the_image(machine: Agent) -> None:
    machine.sync({"train.py": "print(1)\n"})
    machine.start("r", "train.py", container=in_image(code="image"))
    end = machine.ended("r")
    assert end.reason is EndReason.IMAGE_FAILED
    assert "/workspace/train.py" in end.message


def test_a_dockerfile_that_does_not_build_says_why(machine: Agent) -> None:
    machine.sync({"Dockerfile": f"FROM {BASE}\nRUN echo the reason; exit 3\n", "train.py": ""})
    machine.start("r", "train.py", container={"dockerfile": "Dockerfile"})
    end = machine.ended("r")
    assert end.reason is EndReason.IMAGE_FAILED
    assert "the reason" in end.message


def test_an_image_that_does_not_exist_fails_the_image(machine: Agent) -> None:
    machine.sync({"train.py": ""})
    machine.start("r", "train.py", container=in_image("127.0.0.1:1/no/such:image"))
    end = machine.ended("r")
    assert end.reason is EndReason.IMAGE_FAILED
    assert "could not be pulled" in end.message


def test_an_image_without_python_fails_the_image(machine: Agent) -> None:
    machine.sync({"train.py": ""})
    machine.start("r", "train.py", container=in_image(python="python9"))
    end = machine.ended("r")
    assert end.reason is EndReason.IMAGE_FAILED
    assert "python9" in end.message


def test_the_scripts_exit_code_is_the_runs(machine: Agent) -> None:
    machine.sync({"train.py": "import sys\nsys.exit(37)\n"})
    machine.start("r", "train.py", container=in_image())
    end = machine.ended("r")
    assert (end.reason, end.exit_code) == (EndReason.FAILED, 37)


def test_what_it_writes_to_a_mount_is_on_the_machine(machine: Agent, tmp_path: Path) -> None:
    data = tmp_path / "mnt, with comma"
    data.mkdir()
    (data / "in.txt").write_text("in")
    machine.sync(
        {
            "train.py": (
                "import os\nprint(open('/data/in.txt').read(), os.environ['RUNCTL_DATA_DIR'])\n"
                "open('/data/out.txt', 'w').write('out')\n"
                "open(os.environ['RUNCTL_OUTPUT_DIR'] + '/model', 'w').write('m')\n"
            )
        }
    )
    machine.start("r", "train.py", container=in_image(), mounts=[{"source": str(data), "target": "/data"}])
    assert machine.ended("r").reason is EndReason.COMPLETED, machine.log("r")
    assert machine.output("r")[-1] == "in /data"
    assert (data / "out.txt").read_text() == "out"
    assert (machine.state / "runs/r/output/model").read_text() == "m"


def test_it_finds_what_sagemaker_gives(machine: Agent) -> None:
    machine.sync(
        {
            "train.py": (
                "import json, os, socket\n"
                "host = os.environ['SM_CURRENT_HOST']\n"
                "print(host, socket.gethostbyname(host) != '', json.loads(os.environ['SM_HPS'])['epochs'])\n"
                "open(os.environ['SM_MODEL_DIR'] + '/model', 'w').write('m')\n"
                "open('/opt/ml/checkpoints/step1', 'w').write('c')\n"
            )
        }
    )
    machine.start(
        "r", "train.py", "--epochs", "5", contract="sagemaker", container=in_image(user="1234:1234")
    )

    assert machine.ended("r").reason is EndReason.COMPLETED, machine.log("r")

    assert machine.output("r")[-1] == "algo-1 True 5"
    run = machine.state / "runs/r"
    assert (run / "checkpoints/step1").read_text() == "c"
    assert {path.name for path in (run / "output").iterdir()} >= {"model", "data", "success"}
    assert (run / "output/model/model").read_text() == "m"


def test_a_read_only_mount_cannot_be_written(machine: Agent, tmp_path: Path) -> None:
    machine.sync({"train.py": "try:\n    open('/data/x', 'w')\nexcept OSError as e: print(e.errno)\n"})
    mount = {"source": str(tmp_path), "target": "/data", "read_only": True}
    machine.start("r", "train.py", container=in_image(), mounts=[mount])
    machine.ended("r")
    assert machine.output("r")[-1] == "30"


def test_variables_reach_it_and_are_on_no_command_line(machine: Agent) -> None:
    machine.sync(
        {
            "train.py": (
                "import os, time\n"
                "print(repr(os.environ['TOKEN']), os.environ['RUNCTL_RUN_ID'])\n"
                "time.sleep(600)\n"
            )
        }
    )
    machine.start("r", "train.py", container=in_image(), env={"TOKEN": "se cret\n'x'"})
    machine.says("r", "se cret")
    assert machine.output("r")[-1] == repr("se cret\n'x'") + " r"
    done = subprocess.run(["ps", "-axww", "-o", "args="], capture_output=True, text=True, check=True)
    assert "se cret" not in done.stdout


def test_it_can_write_where_it_may_and_knows_a_home(machine: Agent) -> None:
    machine.sync(
        {
            "train.py": (
                "import getpass, pathlib\n"
                "(pathlib.Path.home() / '.cache').mkdir()\n"
                "print(getpass.getuser())\n"
            )
        }
    )
    machine.start("r", "train.py", container=in_image())
    assert machine.ended("r").reason is EndReason.COMPLETED, machine.log("r")


def test_shared_memory_is_a_share_of_the_machines(machine: Agent) -> None:
    machine.sync({"train.py": "import os\ns = os.statvfs('/dev/shm')\nprint(s.f_blocks * s.f_frsize)\n"})
    machine.start("r", "train.py", container=in_image())
    machine.ended("r")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert abs(int(machine.output("r")[-1]) - memory / 4) < 2 << 20


def test_an_entry_point_that_is_no_wrapper_does_not_take_the_scripts_place(
    machine: Agent, engine: Engine
) -> None:
    engines.derived(engine, BASE, "serving:1", ['ENTRYPOINT ["python3", "-c", "print(\'serving\')"]'], {})
    machine.sync({"train.py": "print('training')\n"})
    machine.start("r", "train.py", container=in_image("serving:1"))
    machine.ended("r")
    assert machine.output("r")[-1] == "training"


def test_an_entry_point_that_wraps_is_kept(machine: Agent, engine: Engine) -> None:
    files = {"entry.sh": '#!/bin/sh\nexport PREPARED=yes\nexec "$@"\n'}
    lines = ["COPY entry.sh /entry.sh", 'ENTRYPOINT ["/entry.sh"]']
    engines.derived(engine, BASE, "wrapped:1", lines, files)
    machine.sync({"train.py": "import os\nprint(os.environ.get('PREPARED'))\n"})
    machine.start("r", "train.py", container=in_image("wrapped:1"))
    machine.ended("r")
    assert machine.output("r")[-1] == "yes"


def test_a_mount_that_would_hide_the_project_is_refused(machine: Agent, tmp_path: Path) -> None:
    machine.sync({"train.py": ""})
    error = machine.refused(
        "r", "train.py", container=in_image(), mounts=[{"source": str(tmp_path), "target": "/workspace"}]
    )
    assert error["code"] == "bad-mount"


def test_a_machine_without_docker_says_so_before_anything_starts(agent: Agent, tmp_path: Path) -> None:
    agent.env = {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    agent.sync({"train.py": ""})
    error = agent.refused("r", "train.py", container=in_image())
    assert error["code"] == "no-docker"
    assert "--no-docker" in error["hint"]


def test_a_command_runs_in_place_of_a_script(machine: Agent) -> None:
    machine.sync({"pkg/__init__.py": "", "pkg/train.py": "import sys\nprint('module', sys.argv[1:])\n"})
    argv = ["-m", "pkg.train", "a b"]
    machine.start("r", "python3", *argv, is_command=True, container=in_image(code="mount"))
    assert machine.ended("r").reason is EndReason.COMPLETED, machine.log("r")
    assert machine.output("r")[-1] == "module ['a b']"


def test_what_the_image_starts_by_itself_runs_without_a_script(machine: Agent, engine: Engine) -> None:
    lines = ['ENTRYPOINT ["python3", "-c"]', "CMD [\"print('own')\"]"]
    engines.derived(engine, BASE, "own:1", lines, {})
    machine.start("r", "", is_command=True, container=in_image("own:1"))
    assert machine.ended("r").reason is EndReason.COMPLETED, machine.log("r")
    assert machine.output("r")[-1] == "own"


def test_an_entry_point_that_does_not_exist_is_named(machine: Agent, engine: Engine) -> None:
    machine.sync({"train.py": "print(1)\n"})
    machine.start("r", "train.py", container={"image": BASE, "entrypoint": ["/no/such"]})
    end = machine.ended("r")
    assert end.reason is EndReason.IMAGE_FAILED
    assert "--entrypoint /no/such" in end.message
    assert engine.docker("ps", "--all", "--quiet") == ""


def test_a_script_without_extension_runs_by_its_first_line(machine: Agent) -> None:
    machine.sync({"run": "#!/usr/bin/env python3\nimport sys\nprint('py', sys.argv)\n"})
    machine.start("r", "run", "x", container=in_image())
    assert machine.ended("r").reason is EndReason.COMPLETED, machine.log("r")
    assert machine.output("r")[-1] == "py ['run', 'x']"


def test_gpus_that_are_asked_for_and_missing_keep_the_run_from_starting(machine: Agent) -> None:
    machine.sync({"train.py": ""})
    error = machine.refused("r", "train.py", container=in_image(gpus="all"))
    assert error["code"] == "no-gpu"
    # A plan asks before anything is sent.
    assert machine.call("check", {"container": in_image(gpus="all")}).error["code"] == "no-gpu"
    assert machine.call("check", {"container": in_image()}).ok == {}
    assert "no NVIDIA GPU" in error["message"]


def test_options_size_and_user_reach_the_container(machine: Agent) -> None:
    code = (
        "import os, socket\ns = os.statvfs('/dev/shm')\n"
        "print(s.f_blocks * s.f_frsize >> 20, os.getuid(), os.getgid(), socket.gethostname())\n"
    )
    machine.sync({"train.py": code})
    options = {"image": BASE, "shm_mib": 96, "user": "1234:5678", "docker_args": ["--hostname=named"]}
    machine.start("r", "train.py", container=options)
    assert machine.ended("r").reason is EndReason.COMPLETED, machine.log("r")
    assert machine.output("r")[-1] == "96 1234 5678 named"


def test_a_container_that_reaches_its_memory_limit_is_out_of_memory(machine: Agent, engine: Engine) -> None:
    if "WARNING: No memory limit support" in engine.docker("info"):
        pytest.skip("only on machines with the memory controller")
    machine.sync({"train.py": "x = []\nwhile True: x.append(bytearray(1 << 20))\n"})
    machine.start("r", "train.py", container={"image": BASE, "docker_args": ["--memory=48m"]})
    end = machine.ended("r")
    assert end.reason is EndReason.OUT_OF_MEMORY, machine.log("r")
    assert "memory limit of 48 MiB" in end.message


def test_gpus_that_docker_cannot_give_are_refused_when_asked_for_and_told_otherwise(
    machine: Agent, tmp_path: Path
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "nvidia-smi").write_text("#!/bin/sh\necho '0, NVIDIA A10G, 23028, 0, 0, 550.54'\n")
    (programs / "nvidia-smi").chmod(0o755)
    machine.env = {**machine.env, "PATH": f"{programs}:{os.environ['PATH']}"}
    machine.sync({"train.py": "print('ran')\n"})
    error = machine.refused("a", "train.py", container=in_image(gpus="1"))
    assert error["code"] == "no-gpu"
    assert "has a GPU, but Docker cannot give them" in error["message"]
    machine.start("b", "train.py", container=in_image())
    assert machine.ended("b").reason is EndReason.COMPLETED, machine.log("b")
    assert "warning: the machine has a GPU, but Docker cannot give them to a container" in machine.log("b")
