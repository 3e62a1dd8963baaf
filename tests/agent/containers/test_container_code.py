"""The run's code in a container: what the image has, what is mounted, what is put over it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runctl.agent.end_reason import EndReason
from tests.agent import engine as engines
from tests.agent.driver import Agent
from tests.agent.engine import BASE, Engine, in_image

pytestmark = [pytest.mark.linux, pytest.mark.root, pytest.mark.docker]


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
    machine.start("r", "train.py", container=in_image("over:1", code="mount"))
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
        container=in_image("copied:1", user="1234:1234"),
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
    machine.start("r", "train.py", container=in_image("pyc:1", code="mount"))
    assert machine.ended("r").reason is EndReason.COMPLETED, machine.log("r")
    assert machine.output("r")[-1] == "X 2"


def test_a_file_that_cannot_take_a_folders_place_says_so(machine: Agent, engine: Engine) -> None:
    engines.derived(engine, BASE, "clash:1", ["COPY f /workspace/x/f"], {"f": "f"})
    machine.sync({"train.py": "", "x": "a file"})
    machine.start("r", "train.py", container=in_image("clash:1", code="mount"))
    end = machine.ended("r")
    assert end.reason is EndReason.IMAGE_FAILED
    assert "cannot be put over /workspace" in end.message
    assert engine.docker("ps", "--all", "--quiet") == ""


def test_the_projects_code_is_mounted_where_the_image_has_nothing(machine: Agent) -> None:
    machine.sync({"train.py": "open('made', 'w').write('x')\n"})
    machine.start("r", "train.py", container=in_image(code="mount"))
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
    options = {"image": "mounted:1", "code": "mount", "docker_args": [f"-v{other}:/workspace/other:ro"]}
    machine.start("r", "train.py", container=options, mounts=[mount])
    assert machine.ended("r").reason is EndReason.COMPLETED, machine.log("r")
    assert machine.output("r")[-1] == "the volume's", machine.log("r")
    assert (data / "x").read_text() == "the volume's"
    assert list(other.iterdir()) == []
