"""A run in a container, by a real Docker engine."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runctl.agent.spec import EndReason, RunState
from tests.agent import engine as engines
from tests.agent.driver import Agent, until
from tests.agent.engine import Engine

pytestmark = [pytest.mark.linux, pytest.mark.root, pytest.mark.docker]

BASE = "base:py"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One engine for the module."""
    one = engines.start(tmp_path_factory.mktemp("engine"))
    try:
        engines.python_image(one, BASE)
        yield one
    finally:
        engines.stop(one)


@pytest.fixture
def machine(agent: Agent, engine: Engine) -> Iterator[Agent]:
    """The agent, with that engine; no container is left afterwards."""
    agent.env = {"DOCKER_HOST": engine.host}
    yield agent
    agent.end_everything()
    agent.started.clear()
    left = engine.docker("ps", "--all", "--quiet").split()
    for container in left:
        engine.docker("rm", "--force", container)
    assert left == []


def image(name: str = BASE, **more: str) -> dict[str, str]:
    return {"image": name, **more}


def test_a_script_runs_in_an_image_that_is_on_the_machine(machine: Agent) -> None:
    machine.sync({"training/train.py": "import json, os, sys\nprint(json.dumps([sys.argv, os.getcwd()]))\n"})
    machine.start("r", "training/train.py", "a b", "$HOME", "", container=image())
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
    machine.start("r", "train.py", container=image(code="image"))
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
    machine.start("r", "train.py", container=image("127.0.0.1:1/no/such:image"))
    end = machine.ended("r")
    assert end.reason is EndReason.IMAGE_FAILED
    assert "could not be pulled" in end.message


def test_an_image_without_python_fails_the_image(machine: Agent) -> None:
    machine.sync({"train.py": ""})
    machine.start("r", "train.py", container=image(python="python9"))
    end = machine.ended("r")
    assert end.reason is EndReason.IMAGE_FAILED
    assert "python9" in end.message


def test_the_scripts_exit_code_is_the_runs(machine: Agent) -> None:
    machine.sync({"train.py": "import sys\nsys.exit(37)\n"})
    machine.start("r", "train.py", container=image())
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
    machine.start("r", "train.py", container=image(), mounts=[{"source": str(data), "target": "/data"}])
    assert machine.ended("r").reason is EndReason.COMPLETED, machine.log("r")
    assert machine.output("r")[-1] == "in /data"
    assert (data / "out.txt").read_text() == "out"
    assert (machine.state / "runs/r/output/model").read_text() == "m"


def test_a_read_only_mount_cannot_be_written(machine: Agent, tmp_path: Path) -> None:
    machine.sync({"train.py": "try:\n    open('/data/x', 'w')\nexcept OSError as e: print(e.errno)\n"})
    mount = {"source": str(tmp_path), "target": "/data", "read_only": True}
    machine.start("r", "train.py", container=image(), mounts=[mount])
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
    machine.start("r", "train.py", container=image(), env={"TOKEN": "se cret\n'x'"})
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
    machine.start("r", "train.py", container=image())
    assert machine.ended("r").reason is EndReason.COMPLETED, machine.log("r")


def test_shared_memory_is_a_share_of_the_machines(machine: Agent) -> None:
    machine.sync({"train.py": "import os\ns = os.statvfs('/dev/shm')\nprint(s.f_blocks * s.f_frsize)\n"})
    machine.start("r", "train.py", container=image())
    machine.ended("r")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert abs(int(machine.output("r")[-1]) - memory / 4) < 2 << 20


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
    machine.start("r", "train.py", container=image())
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

    start("script", "train.sh", container=image())
    start("root", "train.sh", container=image(user="0:0"))
    start("other", "train.sh", container=image(user="4321:4321"), timeout_seconds=8.0)
    start("entry", "", is_command=True, container={"image": "shell:form", "user": ""})
    start("orphan", "sh", "-c", "python3 -u train.py; true", is_command=True, container=image(code="mount"))
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
    machine.start("r", "train.py", container=image())
    machine.says("r", "up")
    seen = machine.stop("r", grace_seconds=0.5)
    assert seen.end is not None
    assert (seen.end.reason, seen.end.signal) == (EndReason.STOPPED, signal.SIGKILL)


def test_stop_works_while_the_image_is_built(machine: Agent) -> None:
    machine.sync({"Dockerfile": f"FROM {BASE}\nRUN sleep 600\n", "train.py": ""})
    machine.start("r", "train.py", container={"dockerfile": "Dockerfile"})
    until(lambda: "sleep 600" in machine.log("r"), "the build")
    began = time.monotonic()
    seen = machine.stop("r")
    assert seen.end is not None
    assert seen.end.reason is EndReason.STOPPED
    assert time.monotonic() - began < 30


def test_a_time_limit_ends_it(machine: Agent) -> None:
    machine.sync({"train.py": "import time\ntime.sleep(600)\n"})
    machine.start("r", "train.py", container=image(), timeout_seconds=1.0)
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
    machine.start("script", "t.py", container=image())
    machine.start("user", "t.py", container=image(user="4321:4321"))
    machine.start("shell", "", is_command=True, container=image("speaks:shell"))
    machine.start("exec", "", is_command=True, container=image("speaks:exec"))
    machine.start("killed", "t.py", container=image())
    runs = ["script", "user", "shell", "exec", "killed"]
    for name in runs:
        until(lambda name=name: b"step 2/3" in machine.frames(name)[0], f"{name}'s live output")  # type: ignore[misc]
    live = json.loads((machine.folder("killed") / "status.json").read_text())
    os.kill(live["follower"]["pid"], signal.SIGKILL)
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
    machine.start("r", "train.py", container=image())
    machine.says("r", "up")
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
    machine.start("r", "train.py", container=image())
    container = until(lambda: machine.running("r").container_id, "the container")
    engine.docker("rm", "--force", container)
    end = machine.ended("r")
    assert end.reason in (EndReason.LOST, EndReason.FAILED)
    assert end.exit_code in (None, 137)


def test_an_entry_point_that_is_no_wrapper_does_not_take_the_scripts_place(
    machine: Agent, engine: Engine
) -> None:
    engines.derived(engine, BASE, "serving:1", ['ENTRYPOINT ["python3", "-c", "print(\'serving\')"]'], {})
    machine.sync({"train.py": "print('training')\n"})
    machine.start("r", "train.py", container=image("serving:1"))
    machine.ended("r")
    assert machine.output("r")[-1] == "training"


def test_an_entry_point_that_wraps_is_kept(machine: Agent, engine: Engine) -> None:
    files = {"entry.sh": '#!/bin/sh\nexport PREPARED=yes\nexec "$@"\n'}
    lines = ["COPY entry.sh /entry.sh", 'ENTRYPOINT ["/entry.sh"]']
    engines.derived(engine, BASE, "wrapped:1", lines, files)
    machine.sync({"train.py": "import os\nprint(os.environ.get('PREPARED'))\n"})
    machine.start("r", "train.py", container=image("wrapped:1"))
    machine.ended("r")
    assert machine.output("r")[-1] == "yes"


def test_a_mount_that_would_hide_the_project_is_refused(machine: Agent, tmp_path: Path) -> None:
    machine.sync({"train.py": ""})
    error = machine.refused(
        "r", "train.py", container=image(), mounts=[{"source": str(tmp_path), "target": "/workspace"}]
    )
    assert error["code"] == "bad-mount"


def test_a_machine_without_docker_says_so_before_anything_starts(agent: Agent, tmp_path: Path) -> None:
    agent.env = {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    agent.sync({"train.py": ""})
    error = agent.refused("r", "train.py", container=image())
    assert error["code"] == "no-docker"
    assert "--no-docker" in error["hint"]


def test_a_command_runs_in_place_of_a_script(machine: Agent) -> None:
    machine.sync({"pkg/__init__.py": "", "pkg/train.py": "import sys\nprint('module', sys.argv[1:])\n"})
    words = ["-m", "pkg.train", "a b"]
    machine.start("r", "python3", *words, is_command=True, container=image(code="mount"))
    assert machine.ended("r").reason is EndReason.COMPLETED, machine.log("r")
    assert machine.output("r")[-1] == "module ['a b']"


def test_what_the_image_starts_by_itself_runs_without_a_script(machine: Agent, engine: Engine) -> None:
    lines = ['ENTRYPOINT ["python3", "-c"]', "CMD [\"print('own')\"]"]
    engines.derived(engine, BASE, "own:1", lines, {})
    machine.start("r", "", is_command=True, container=image("own:1"))
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
    machine.start("r", "run", "x", container=image())
    assert machine.ended("r").reason is EndReason.COMPLETED, machine.log("r")
    assert machine.output("r")[-1] == "py ['run', 'x']"


def test_gpus_that_are_asked_for_and_missing_keep_the_run_from_starting(machine: Agent) -> None:
    machine.sync({"train.py": ""})
    error = machine.refused("r", "train.py", container=image(gpus="all"))
    assert error["code"] == "no-gpu"
    # A plan asks before anything is sent.
    assert machine.call("check", {"container": image(gpus="all")}).error["code"] == "no-gpu"
    assert machine.call("check", {"container": image()}).ok == {}
    assert "no NVIDIA GPU" in error["message"]


def test_options_size_and_user_reach_the_container(machine: Agent) -> None:
    code = (
        "import os, socket\ns = os.statvfs('/dev/shm')\n"
        "print(s.f_blocks * s.f_frsize >> 20, os.getuid(), os.getgid(), socket.gethostname())\n"
    )
    machine.sync({"train.py": code})
    wishes = {"image": BASE, "shm_mib": 96, "user": "1234:5678", "docker_args": ["--hostname=named"]}
    machine.start("r", "train.py", container=wishes)
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


KEPT = [
    "COPY keep.txt /workspace/keep.txt",
    "COPY train.py /workspace/train.py",
    "COPY train.py /workspace/a/old.py",
]


def test_the_synced_project_is_put_over_the_image_and_hides_nothing_of_it(
    machine: Agent, engine: Engine
) -> None:
    engines.derived(engine, BASE, "over:1", KEPT, {"keep.txt": "kept", "train.py": "print('old')\n"})
    script = (
        "import os, a.new\nprint(open('keep.txt').read(), sorted(os.listdir('a'))[:2])\n"
        "open('made', 'w').close()\nprint(os.stat('train.py').st_uid == os.getuid())\n"
    )
    machine.sync({"train.py": script, "a/new.py": "print('new')\n"})
    machine.start("r", "train.py", container=image("over:1", code="mount"))
    assert machine.ended("r").reason is EndReason.COMPLETED, machine.log("r")
    assert machine.output("r")[-3] == "new"
    assert (
        machine.output("r")[-2].startswith("kept ['__pycache__', 'new.py'")
        or "old.py" in machine.output("r")[-2]
    )
    assert machine.output("r")[-1] == "True"
    assert "put over what the image has at /workspace" in machine.log("r")


def test_the_projects_folder_of_an_image_is_the_runs_to_write_to(
    machine: Agent, engine: Engine, tmp_path: Path
) -> None:
    lines = ["COPY train.py /workspace/a/train.py", "COPY notes /workspace/notes"]
    script = (
        "import os\nos.makedirs('logs/version_0')\nopen('train.log', 'w').close()\nopen('notes', 'a').write('+')\n"
        "os.remove('a/train.py')\nprint(open('notes').read(), os.listdir('data'), os.getuid())\n"
    )
    data = tmp_path / "data"
    data.mkdir()
    (data / "theirs").touch()
    engines.derived(engine, BASE, "copied:1", lines, {"train.py": script, "notes": "kept"})
    machine.sync({"a/train.py": script})
    machine.start(
        "r",
        "a/train.py",
        container=image("copied:1", user="1234:1234"),
        mounts=[{"source": str(data), "target": "/workspace/data"}],
    )
    assert machine.ended("r").reason is EndReason.COMPLETED, machine.log("r")
    assert "kept+ ['theirs'] 1234" in machine.output("r")
    assert (
        'goes with the container: "logs", "train.log". Results belong into RUNCTL_OUTPUT_DIR'
        in machine.log("r")
    )
    assert (data / "theirs").stat().st_uid == os.getuid()


def test_a_compiled_file_of_the_image_is_not_taken_for_the_projects(machine: Agent, engine: Engine) -> None:
    lines = [
        "COPY m.py /workspace/m.py",
        "RUN touch -d 1980-01-01 /workspace/m.py 2>/dev/null; python3 -m compileall -q /workspace",
    ]
    engines.derived(engine, BASE, "pyc:1", lines, {"m.py": "X = 1\n"})
    machine.sync({"train.py": "import m\nprint('X', m.X)\n", "m.py": "X = 2\n"})
    machine.start("r", "train.py", container=image("pyc:1", code="mount"))
    assert machine.ended("r").reason is EndReason.COMPLETED, machine.log("r")
    assert machine.output("r")[-1] == "X 2"


def test_a_file_that_cannot_take_a_folders_place_says_so(machine: Agent, engine: Engine) -> None:
    engines.derived(engine, BASE, "clash:1", ["COPY f /workspace/x/f"], {"f": "f"})
    machine.sync({"train.py": "", "x": "a file"})
    machine.start("r", "train.py", container=image("clash:1", code="mount"))
    end = machine.ended("r")
    assert end.reason is EndReason.IMAGE_FAILED
    assert "cannot be put over /workspace" in end.message
    assert engine.docker("ps", "--all", "--quiet") == ""


def test_the_projects_code_is_mounted_where_the_image_has_nothing(machine: Agent) -> None:
    machine.sync({"train.py": "open('made', 'w').write('x')\n"})
    machine.start("r", "train.py", container=image(code="mount"))
    assert machine.ended("r").reason is EndReason.COMPLETED, machine.log("r")
    assert "mounted at /workspace" in machine.log("r")
    assert (machine.folder("r") / "work" / "made").read_text() == "x"


def test_dev_mode_runs_an_edit_without_a_build_and_builds_when_more_has_changed(
    machine: Agent, engine: Engine
) -> None:
    dockerfile = f"FROM {BASE}\nCOPY . /workspace\nRUN python3 -c \"open('/built', 'w').write('made')\"\n"

    def run(run_id: str, text: str, parts: dict[str, str], **files: str) -> str:
        machine.sync({"Dockerfile": dockerfile, "train.py": text, **files})
        container = {
            "dockerfile": "Dockerfile",
            "code": "mount",
            "dev_parts": parts,
            "dev_notes": ["line 3 ran"],
        }
        machine.start(run_id, "train.py", container=container)
        assert machine.ended(run_id).reason is EndReason.COMPLETED, machine.log(run_id)
        return str(machine.status(run_id).image)

    first = run("a", "print(open('/built').read(), 1)\n", {"the Dockerfile": "x"}, **{"old.py": ""})
    assert "no image of this project has been built" in machine.log("a")
    second = run("b", "print(open('/built').read(), 2)\n", {"the Dockerfile": "x"})
    assert second == first
    assert machine.output("b")[-1] == "made 2"
    log = machine.log("b")
    assert "is used without a build" in log
    assert "line 3 ran" in log
    assert "still in the image if it had them: old.py" in log
    third = run("c", "print(open('/built').read(), 3)\n", {"the Dockerfile": "y"})
    assert third != first
    assert "the image is built: the Dockerfile changed" in machine.log("c")
    engine.docker("rmi", "--force", third)
    run("d", "print(4)\n", {"the Dockerfile": "y"})
    assert "is gone from the machine" in machine.log("d")


def test_the_project_is_not_written_onto_what_is_mounted_in_it(
    machine: Agent, engine: Engine, tmp_path: Path
) -> None:
    engines.derived(engine, BASE, "mounted:1", ["COPY f /workspace/f"], {"f": "f"})
    data = tmp_path / "data"
    data.mkdir()
    (data / "x").write_text("the volume's")
    machine.sync({"train.py": "print(open('data/x').read())\n", "data/x": "the project's", "other/y": ""})
    other = tmp_path / "other"
    other.mkdir()
    mount = {"source": str(data), "target": "/workspace/data"}
    wishes = {"image": "mounted:1", "code": "mount", "docker_args": [f"-v{other}:/workspace/other:ro"]}
    machine.start("r", "train.py", container=wishes, mounts=[mount])
    assert machine.ended("r").reason is EndReason.COMPLETED, machine.log("r")
    assert machine.output("r")[-1] == "the volume's", machine.log("r")
    assert (data / "x").read_text() == "the volume's"
    assert list(other.iterdir()) == []


def test_an_engine_that_is_stopped_for_good_ends_the_run_as_lost(
    agent: Agent, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It kills its containers, and comes back no more."""
    one = engines.start(tmp_path_factory.mktemp("own"))
    try:
        engines.python_image(one, BASE)
        agent.env = {"DOCKER_HOST": one.host, "RUNCTL_ENGINE_GONE_SECONDS": "3"}
        agent.sync({"train.py": "import time\nprint('up')\ntime.sleep(600)\n"})
        agent.start("r", "train.py", container=image())
        agent.says("r", "up")
        one.process.terminate()
        one.process.wait(60)
        end = agent.ended("r")
        assert end.reason is EndReason.LOST
        assert "the Docker engine is gone" in end.message
    finally:
        if one.process.poll() is None:
            engines.stop(one)


def test_an_engine_that_is_restarted_meanwhile_is_borne_with(
    agent: Agent, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Live restore: the container goes on while its engine is away, and so does its log."""
    folder = tmp_path_factory.mktemp("own")
    one = engines.start(folder, "--live-restore")
    try:
        engines.python_image(one, BASE)
        agent.env = {"DOCKER_HOST": one.host}
        script = (
            "import os, time\nfor i in range(60): print('line', i); time.sleep(0.1)\nraise SystemExit(5)\n"
        )
        agent.sync({"train.py": script})
        agent.start("r", "train.py", container=image())
        agent.says("r", "line 3")
        one.process.terminate()
        one.process.wait(60)
        one = engines.start(folder, "--live-restore")
        end = agent.ended("r")
        assert (end.reason, end.exit_code) == (EndReason.FAILED, 5), agent.log("r")
        numbers = [int(line.split()[1]) for line in agent.output("r") if line.startswith("line")]
        assert numbers == list(range(60))
        assert end.message.endswith("; the Docker engine was away for a while")
    finally:
        engines.stop(one)


def test_a_run_that_its_engine_took_along_says_so(
    agent: Agent, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("own")
    one = engines.start(folder)
    try:
        engines.python_image(one, BASE)
        agent.env = {"DOCKER_HOST": one.host}
        agent.sync({"train.py": "import time\nprint('up')\ntime.sleep(600)\n"})
        agent.start("r", "train.py", container=image())
        agent.says("r", "up")
        one.process.terminate()
        one.process.wait(60)
        one = engines.start(folder)
        end = agent.ended("r")
        assert end.reason is EndReason.FAILED
        assert "the Docker engine had ended, and with it its containers" in end.message
    finally:
        engines.stop(one)


def test_gpus_that_docker_cannot_give_are_refused_when_asked_for_and_told_otherwise(
    machine: Agent, tmp_path: Path
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "nvidia-smi").write_text("#!/bin/sh\necho '0, NVIDIA A10G, 23028, 0, 0, 550.54'\n")
    (programs / "nvidia-smi").chmod(0o755)
    machine.env = {**machine.env, "PATH": f"{programs}:{os.environ['PATH']}"}
    machine.sync({"train.py": "print('ran')\n"})
    error = machine.refused("a", "train.py", container=image(gpus="1"))
    assert error["code"] == "no-gpu"
    assert "has a GPU, but Docker cannot give them" in error["message"]
    machine.start("b", "train.py", container=image())
    assert machine.ended("b").reason is EndReason.COMPLETED, machine.log("b")
    assert "warning: the machine has a GPU, but Docker cannot give them to a container" in machine.log("b")
