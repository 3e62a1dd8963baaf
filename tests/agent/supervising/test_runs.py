"""A run on the host, from start to end, by the real agent and with real processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from runctl.agent.end_reason import EndReason
from runctl.agent.spec import RunState
from tests.agent.driver import SLEEPER, Agent, alive, until

pytestmark = pytest.mark.linux


def test_a_script_runs_with_its_arguments_exactly_as_given(agent: Agent) -> None:
    agent.sync({"train.py": "import json, sys\nprint(json.dumps(sys.argv))\n"})
    arguments = ["--epochs", "5", "a b", "", "$HOME", "'\"", "*", "ü\n", "--", "-x"]
    agent.start("r", "train.py", *arguments)
    assert agent.ended("r").reason is EndReason.COMPLETED
    assert json.loads(agent.output("r")[0]) == ["train.py", *arguments]


def test_start_answers_before_the_script_ends(agent: Agent) -> None:
    agent.sync({"train.py": SLEEPER})
    seen = agent.start("r", "train.py")
    assert seen.state in (RunState.SETTING_UP, RunState.RUNNING)
    assert agent.running("r").pid is not None


def test_the_scripts_exit_code_is_the_runs(agent: Agent) -> None:
    agent.sync({"train.py": "import sys\nsys.exit(37)\n"})
    agent.start("r", "train.py")
    end = agent.ended("r")
    assert (end.reason, end.exit_code, end.signal) == (EndReason.FAILED, 37, None)


def test_a_signal_is_told_from_an_exit_code(agent: Agent) -> None:
    agent.sync({"train.py": "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"})
    agent.start("r", "train.py")
    end = agent.ended("r")
    assert (end.reason, end.exit_code, end.signal) == (EndReason.FAILED, None, signal.SIGSEGV)
    assert "SIGSEGV" in end.message


def test_the_word_completed_in_a_log_completes_nothing(agent: Agent) -> None:
    agent.sync({"train.py": "print('COMPLETED successfully')\nraise SystemExit(1)\n"})
    agent.start("r", "train.py")
    assert agent.ended("r").reason is EndReason.FAILED


def test_the_same_spec_again_is_the_same_attempt(agent: Agent) -> None:
    agent.sync({"train.py": SLEEPER})
    agent.start("r", "train.py")
    first = agent.running("r")
    agent.start("r", "train.py")
    assert agent.status("r").pid == first.pid


def test_another_spec_under_the_same_name_is_refused(agent: Agent) -> None:
    agent.sync({"train.py": "print(1)\n"})
    agent.start("r", "train.py")
    error = agent.call("start", {"spec": {"run_id": "r", "script": "train.py", "args": ["other"]}}).error
    assert error["code"] == "run-exists"


def test_attempts_of_a_run_share_checkpoints_but_not_the_log(agent: Agent) -> None:
    agent.sync(
        {"train.py": "import os\nprint(os.environ['RUNCTL_ATTEMPT'], os.environ['RUNCTL_CHECKPOINT_DIR'])\n"}
    )
    agent.start("r", "train.py")
    agent.ended("r")
    agent.start("r", "train.py", attempt=2)
    agent.ended("r")
    assert agent.output("r") == [f"2 {agent.state}/runs/r/checkpoints"]


def test_a_further_attempt_goes_on_from_the_runs_own_newest_checkpoint(agent: Agent) -> None:
    script = (
        "import os, sys, zipfile\n"
        "print('from', repr(os.environ['RUNCTL_RESUME_FROM']), sys.argv[1:])\n"
        "path = os.path.join(os.environ['RUNCTL_CHECKPOINT_DIR'], os.environ['RUNCTL_ATTEMPT'] + '.pt')\n"
        "with zipfile.ZipFile(path, 'w') as file:\n    file.writestr('weights', '1')\n"
    )
    agent.sync({"train.py": script})
    template = ["--resume", "{checkpoint}"]
    agent.start("r", "train.py", resume_args=template)
    assert agent.ended("r").reason is EndReason.COMPLETED
    first = agent.output("r")
    status = agent.start("r", "train.py", attempt=2, resume_args=template)
    agent.ended("r")
    path = f"{agent.status('r').checkpoint_dir}/1.pt"
    assert (first, agent.output("r")) == (["from '' []"], [f"from {path!r} ['--resume', {path!r}]"])
    assert status.attempt == 2


def test_two_runs_at_once_are_told_apart(agent: Agent) -> None:
    agent.sync({"train.py": SLEEPER})
    agent.start("a", "train.py")
    agent.start("b", "train.py")
    agent.running("a")
    agent.running("b")
    assert agent.stop("a").state is RunState.ENDED
    assert agent.status("b").state is RunState.RUNNING


def test_a_run_has_a_copy_of_the_project_to_itself(agent: Agent) -> None:
    agent.sync(
        {
            "train.py": "open('out.txt', 'w').write('x')\nopen('data.txt', 'a').write('mine')\n",
            "data.txt": "shared",
        }
    )
    agent.start("a", "train.py")
    assert agent.ended("a").reason is EndReason.COMPLETED
    agent.start("b", "train.py")
    assert agent.ended("b").reason is EndReason.COMPLETED
    assert (agent.folder("b") / "work" / "data.txt").read_text() == "sharedmine"


def test_a_sync_during_a_run_changes_nothing_under_it(agent: Agent) -> None:
    waiting = (
        "import os, pathlib, time\n"
        "while not pathlib.Path(os.environ['RUNCTL_OUTPUT_DIR'], 'go').exists(): time.sleep(0.05)\n"
        "import later\n"
    )
    agent.sync({"train.py": waiting, "later.py": "print('old')\n"})
    agent.start("r", "train.py")
    agent.running("r")
    agent.sync({"train.py": "print(1)\n", "later.py": "print('new')\n"})
    (agent.state / "runs" / "r" / "output" / "go").touch()
    agent.ended("r")
    assert agent.output("r") == ["old"]


def test_the_script_is_told_where_to_save(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "ckpt-7.json").write_text("{}")
    names = ["RUN_ID", "ATTEMPT", "CHECKPOINT_DIR", "OUTPUT_DIR", "DATA_DIR", "RESUME_FROM"]
    agent.sync({"train.py": f"import os\nfor n in {names}: print(os.environ['RUNCTL_' + n])\n"})
    agent.start("r", "train.py", resume_from=str(tmp_path / "ckpt-7.json"))
    agent.ended("r")
    run = agent.state / "runs" / "r"
    assert agent.output("r") == [
        "r",
        "1",
        f"{run}/checkpoints",
        f"{run}/output",
        f"{run}/1/work",
        str(tmp_path / "ckpt-7.json"),
    ]
    assert (run / "checkpoints").is_dir()
    assert (run / "output").is_dir()


def test_variables_reach_the_script_and_nobody_else(agent: Agent) -> None:
    agent.sync({"train.py": "import os, time\nprint(os.environ['TOKEN'])\ntime.sleep(60)\n"})
    agent.start("r", "train.py", env={"TOKEN": "se cret\nwith 'lines'"})
    agent.says("r", "se cret")
    for answer in (
        agent.call("status", {"run_id": "r"}),
        agent.call("list"),
        agent.call("version"),
    ):
        assert "se cret" not in json.dumps(answer.ok)
    assert stat.S_IMODE((agent.folder("r") / "spec.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((agent.folder("r") / "log").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("files", "request_", "code", "said"),
    [
        ({"x.jl": "1"}, {"script": "x.jl"}, 127, "there is no program julia on the machine"),
        (
            {"x.py": ""},
            {"script": "x.py", "interpreter": ["nosuch", "-x"]},
            127,
            "there is no program nosuch on",
        ),
        ({"x": "#!/no/such\n"}, {"script": "x"}, 127, "there is no program /no/such on the machine"),
        (
            {"a": ""},
            {"script": "nosuch", "is_command": True},
            127,
            "there is no program nosuch on the machine",
        ),
        (
            {"x": ("#!/no/such\n", True)},
            {"script": "./x", "is_command": True},
            127,
            "./x is there, but not the program that its #! line names",
        ),
        (
            {"x": "text"},
            {"script": "./x", "is_command": True},
            126,
            "./x cannot be started: Permission denied",
        ),
    ],
)
def test_a_program_that_is_not_there_fails_the_run_as_a_shell_would(
    agent: Agent, files: dict[str, Any], request_: dict[str, Any], code: int, said: str
) -> None:
    agent.sync(files)
    agent.start("r", **request_)
    end = agent.ended("r")
    assert (end.reason, end.exit_code) == (EndReason.FAILED, code)
    assert said in end.message
    assert "running with" not in agent.log("r")


def test_a_script_whose_name_begins_with_a_dash_is_no_option(agent: Agent) -> None:
    agent.sync({"-x.py": "import sys; print(sys.argv)\n", "-c.sh": "echo shell $1\n"})
    agent.start("a", "-x.py", "-v")
    agent.start("b", "-c.sh", "-v")
    assert agent.ended("a").reason is agent.ended("b").reason is EndReason.COMPLETED
    assert agent.output("a") + agent.output("b") == ["['./-x.py', '-v']", "shell -v"]


@pytest.mark.parametrize("how", ["ended", "killed"])
def test_the_values_of_a_runs_variables_leave_the_machine_with_its_end(agent: Agent, how: str) -> None:
    agent.sync({"t.py": "import time\nprint('up')\ntime.sleep(600)\n"})
    spec: dict[str, Any] = {"script": "t.py", "env": {"TOKEN": "tops3cret", "EMPTY": ""}}
    agent.env = {"PIP_INDEX_URL": "https://user:tops3cret@index.example/simple"}
    agent.start("r", **spec)
    agent.says("r", "up")
    if how == "ended":
        agent.stop("r")
    else:
        script = agent.running("r").pid or 0
        os.kill(agent.supervisor("r"), signal.SIGKILL)
        os.kill(script, signal.SIGKILL)
        until(lambda: not alive(script), "the script's death")
        agent.env = {}
        agent.sync({"next.py": "print('next')\n"}, "another")
        agent.start("next", "next.py", project="another")
    files = [path for path in agent.folder("r").rglob("*") if path.is_file() and "work" not in path.parts]
    assert len(files) > 3
    assert [path.name for path in files if b"tops3cret" in path.read_bytes()] == []
    kept = json.loads((agent.folder("r") / "spec.json").read_text())
    assert kept["env"] == {"TOKEN": "", "EMPTY": ""}
    assert agent.start("r", **spec).state is RunState.ENDED


def test_a_scripts_environment_names_nothing_of_the_agents(agent: Agent) -> None:
    agent.sync(
        {"t.py": "import os\nprint(*sorted(n for n in os.environ if n.startswith('RUNCTL_')), sep='\\n')\n"}
    )
    agent.start("r", "t.py")
    agent.ended("r")
    assert agent.output("r") == [
        *("RUNCTL_ATTEMPT", "RUNCTL_CHECKPOINT_DIR", "RUNCTL_DATA_DIR", "RUNCTL_OUTPUT_DIR"),
        *("RUNCTL_PROCESS_MARK", "RUNCTL_PROGRESS_FILE", "RUNCTL_RESUME_FROM", "RUNCTL_RUN_ID"),
    ]


def test_a_shell_script_and_an_executable_run_too(agent: Agent) -> None:
    agent.sync({"go.sh": 'echo "sh $1"\n', "tool": ('#!/bin/sh\necho "tool $1"\n', True)})
    agent.start("a", "go.sh", "x y")
    agent.ended("a")
    agent.start("b", "tool", "x y")
    agent.ended("b")
    assert agent.output("a") + agent.output("b") == ["sh x y", "tool x y"]


def test_a_deep_script_starts_in_the_projects_root(agent: Agent) -> None:
    agent.sync({"a/b/train.py": "import os, sys\nprint(os.path.basename(os.getcwd()), sys.argv[0])\n"})
    agent.start("r", "a/b/train.py")
    agent.ended("r")
    assert agent.output("r") == ["work a/b/train.py"]


def test_a_working_folder_can_be_named(agent: Agent) -> None:
    agent.sync({"train.py": "import os\nprint(os.getcwd())\n", "sub/x": ""})
    agent.start("r", "train.py", workdir="sub")
    agent.ended("r")
    assert agent.output("r") == [str(agent.folder("r") / "work" / "sub")]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"script": "none.py"}, "no-such-script"),
        ({"script": "../train.py"}, "bad-script"),
        ({"script": "/etc/passwd"}, "bad-script"),
        ({"script": "notes.txt"}, "bad-script"),
        ({"script": "train.py", "project": "other"}, "no-such-tree"),
        ({"script": "train.py", "tree": "0" * 64}, "no-such-tree"),
        ({"script": "train.py", "run_id": "../x"}, "bad-request"),
        ({"script": "train.py", "args": ["a\0b"]}, "bad-request"),
        ({"script": "train.py", "workdir": "nowhere"}, "no-such-workdir"),
        ({"script": "train.py", "timeout_seconds": 0.0}, "bad-request"),
        ({"script": "train.py", "mounts": [{"source": "/nowhere-at-all", "target": "/d"}]}, "bad-mount"),
        ({"script": "train.py", "mounts": [{"source": "/tmp", "target": "d"}]}, "bad-mount"),
        ({"script": "train.py", "mounts": [{"source": "/tmp", "target": "/etc"}]}, "bad-mount"),
        ({"script": "train.py", "mounts": [{"source": "/tmp", "target": "/d"}] * 2}, "bad-mount"),
        (
            {
                "script": "train.py",
                "mounts": [{"source": "/tmp", "target": "/d", "volume_id": "vol-0123456789"}],
            },
            "bad-mount",
        ),
        ({"script": "train.py", "container": {"image": "x", "dockerfile": "y"}}, "bad-request"),
    ],
)
def test_a_run_that_cannot_work_is_refused_and_leaves_nothing(
    agent: Agent, change: dict[str, object], code: str
) -> None:
    agent.sync({"train.py": "print(1)\n", "notes.txt": "no script"})
    spec = {"run_id": "r", **change}
    error = agent.call("start", {"spec": spec}).error
    assert error["code"] == code, error
    assert not list(agent.state.glob("runs/*"))


def test_a_link_out_of_the_project_is_no_script(agent: Agent) -> None:
    digest = agent.sync({"train.py": "print(1)\n"})
    tree = agent.state / "projects" / "project" / "trees" / digest
    tree.chmod(0o755)
    (tree / "out.py").symlink_to("/etc/passwd")
    assert agent.refused("r", "out.py")["code"] == "bad-script"


def test_a_run_that_nobody_knows_is_an_error(agent: Agent) -> None:
    for verb in ("status", "stop", "logs"):
        assert agent.call(verb, {"run_id": "nobody"}).error["code"] == "no-such-run"


def test_resources_are_the_real_ones(agent: Agent) -> None:
    agent.sync(
        {
            "train.py": (
                "import time\n"
                "x = bytearray(100 << 20)\n"
                "t = time.process_time()\n"
                "while time.process_time() - t < 0.5: pass\n"
            )
        }
    )
    agent.start("r", "train.py")
    end = agent.ended("r")
    assert end.max_rss_bytes is not None
    assert end.max_rss_bytes > 100 << 20
    assert end.cpu_seconds is not None
    assert 0.5 <= end.cpu_seconds < 5


def test_list_shows_what_a_run_uses_now(agent: Agent) -> None:
    agent.sync({"train.py": "x = bytearray(50 << 20)\nprint('up')\nwhile True: pass\n"})
    agent.start("r", "train.py")
    agent.says("r", "up")
    (item,) = agent.call("list", {"sample_seconds": 0.5}).ok
    assert item["cpu_percent"] > 10
    assert item["rss_bytes"] > 50 << 20


def test_the_supervisor_is_small_and_idle(agent: Agent) -> None:
    agent.sync({"train.py": SLEEPER})
    agent.start("r", "train.py")
    agent.running("r")
    pid = agent.supervisor("r")

    def ticks() -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(3)
    assert (ticks() - before) / os.sysconf("SC_CLK_TCK") <= 0.03 * 2
    rss = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert rss < 40 << 20


def test_a_request_that_is_no_json_is_answered_in_json(agent: Agent) -> None:
    done = subprocess.run(
        agent.command("status"), input=b"{nonsense", capture_output=True, env=agent.environment, check=False
    )
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "bad-request"


def test_a_state_directory_that_cannot_be_written_is_named_with_the_fix(built: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    item = Agent(built, tmp_path / "file" / "state")
    error = item.call("status").error
    assert error["code"] == "no-state"
    assert "sudo install -d" in error["hint"]


def test_the_agent_runs_on_the_oldest_python_that_is_here(built: Path, tmp_path: Path) -> None:
    named = shutil.which("python3.9")
    works = named and subprocess.run([named, "-c", ""], capture_output=True, check=False).returncode == 0
    python = named if named and works else sys.executable
    item = Agent(built, tmp_path / "state", python=python)
    item.sync({"train.py": "print('ran')\n"})
    item.start("r", "train.py")
    assert item.ended("r").reason is EndReason.COMPLETED
