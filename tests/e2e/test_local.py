"""The main job on this computer, through the real command line."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path

import pytest

from runctl.core.run_models import Run
from tests.e2e.command_line import CommandLine, kill, until, write_project

TRAIN = """\
import json, os, pathlib, sys
print("args", json.dumps(sys.argv[1:]), flush=True)
print("cwd", os.getcwd(), flush=True)
checkpoint = pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"], "last.txt")
checkpoint.write_text(os.environ["RUNCTL_RUN_ID"])
if "--exit" in sys.argv:
    sys.exit(int(sys.argv[sys.argv.index("--exit") + 1]))
"""

FOREVER = """\
import os, signal, subprocess, sys, time
child = subprocess.Popen(["sleep", "1000"])
print("child", child.pid, flush=True)
if "--stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    def bye(*_):
        print("saving", flush=True)
        sys.exit(0)
    signal.signal(signal.SIGTERM, bye)
while True:
    print("tick", flush=True)
    time.sleep(0.1)
"""


@pytest.fixture
def runctl(tmp_path: Path) -> CommandLine:
    project = write_project(
        tmp_path / "project",
        {"training/train.py": TRAIN, "forever.py": FOREVER, "broken.py": "raise SystemExit('bad luck')"},
    )
    return CommandLine(project)


def test_a_script_runs_to_its_end_and_its_log_and_code_are_the_commands(runctl: CommandLine) -> None:
    done = runctl("local", "train", "training/train.py", "--wait", "--", "--exit", "7")

    assert done.code == 7, f"{done}"
    assert 'args ["--exit", "7"]' in done.out
    assert "failed with exit code 7" in done.err


MESSY = [
    "two words",
    "",
    "$HOME",
    "`id`",
    "quo'te",
    'dou"ble',
    "new\nline",
    "--help",
    "-q",
    "--",
    "*",
    "ü",
    "\\",
]


def test_arguments_arrive_exactly_whatever_they_hold(runctl: CommandLine) -> None:
    import json

    done = runctl("local", "train", "training/train.py", "--wait", "--", *MESSY).ok()

    line = next(line for line in done.out.splitlines() if line.startswith("args "))
    assert json.loads(line[5:]) == MESSY


def test_quiet_train_prints_the_run_id_and_nothing_else(runctl: CommandLine) -> None:
    done = runctl("local", "train", "training/train.py", "--quiet").ok()

    run_id = done.out.strip()
    assert done.out == f"{run_id}\n"
    assert done.err == ""
    runctl("runs", "logs", run_id, "--wait").ok()


def test_a_run_in_json_has_the_documented_fields(runctl: CommandLine) -> None:
    done = runctl("local", "train", "training/train.py", "--wait", "--output", "json").ok()

    run = done.json
    assert list(run) == [field.name for field in dataclasses.fields(Run)]
    assert (run["state"], run["end_reason"], run["exit_code"]) == ("ended", "COMPLETED", 0)
    assert run["script"] == "training/train.py"


def test_a_deep_script_keeps_its_path_and_starts_in_the_projects_root(runctl: CommandLine) -> None:
    deep = runctl.in_folder(runctl.cwd / "training")

    done = deep("local", "train", "train.py", "--wait").ok()

    cwd = next(line[4:] for line in done.out.splitlines() if line.startswith("cwd "))
    assert not cwd.endswith("training")


def test_the_checkpoint_outlives_the_run(runctl: CommandLine) -> None:
    run_id = runctl("local", "train", "training/train.py", "--quiet").ok().out.strip()
    runctl("runs", "logs", run_id, "--wait").ok()

    shown = runctl("runs", "show", run_id).ok().out

    folder = next(line.split(maxsplit=1)[1] for line in shown.splitlines() if line.startswith("checkpoints"))
    assert Path(folder, "last.txt").read_text() == run_id


def test_stop_ends_the_script_and_its_children_with_time_to_save(runctl: CommandLine) -> None:
    run_id = runctl("local", "train", "forever.py", "--quiet").ok().out.strip()
    log = until(lambda: _log_with(runctl, run_id, "tick"), what="the first tick")
    child = int(next(line.split()[1] for line in log.splitlines() if line.startswith("child ")))

    stopped = runctl("runs", "stop", run_id, "--output", "json").ok().json

    assert stopped[0]["end_reason"] == "STOPPED"
    assert "saving" in runctl("runs", "logs", run_id).ok().out
    until(lambda: not _is_alive(child), what="the child's end")


def test_sigterm_to_the_supervisor_plays_the_notice(runctl: CommandLine) -> None:
    run_id = runctl("local", "train", "forever.py", "--quiet").ok().out.strip()
    until(lambda: _log_with(runctl, run_id, "tick"), what="the first tick")
    folder = Path(runctl("runs", "show", run_id, "--output", "json").ok().json["checkpoint_dir"])
    live = folder.parent / "1/status.json"

    os.kill(json.loads(live.read_text())["supervisor"]["pid"], signal.SIGTERM)
    followed = runctl("runs", "logs", run_id, "--wait")

    assert followed.code == 143
    assert "saving" in followed.out
    shown = runctl("runs", "show", run_id, "--output", "json").ok().json
    assert shown["end_reason"] == "INTERRUPTED"
    assert not shown["hand_off"]["is_rehearsal"]


def test_stop_kills_a_stubborn_script_after_its_grace(runctl: CommandLine) -> None:
    run_id = runctl("local", "train", "forever.py", "--quiet", "--", "--stubborn").ok().out.strip()
    until(lambda: _log_with(runctl, run_id, "tick"), what="the first tick")

    stopped = runctl("runs", "stop", run_id, "--grace", "1s", "--output", "json").ok().json

    assert stopped[0]["end_reason"] == "STOPPED"
    assert runctl("local", "processes", "--output", "json").ok().json == []


def test_a_run_survives_the_death_of_the_command_that_started_it(runctl: CommandLine) -> None:
    watcher = runctl.start("local", "train", "forever.py", "--wait")
    listed = until(
        lambda: [run for run in runctl("runs", "list", "--output", "json").json if run["state"] == "running"],
        what="the run",
    )
    kill(watcher, signal.SIGKILL)

    run_id = listed[0]["id"]
    assert runctl("runs", "show", run_id, "--output", "json").ok().json["state"] == "running"
    assert "tick" in runctl("local", "monitor", run_id, "--no-follow").ok().out
    runctl("runs", "stop", run_id).ok()


def test_ctrl_c_while_watching_says_how_to_go_on(runctl: CommandLine) -> None:
    watcher = runctl.start("local", "train", "forever.py", "--wait")
    run_id = until(
        lambda: next(
            (
                run["id"]
                for run in runctl("runs", "list", "--output", "json").json
                if run["state"] == "running"
            ),
            None,
        ),
        what="the run",
    )

    _, err = kill(watcher, signal.SIGINT)

    assert watcher.returncode == 130
    assert f"{run_id} continues on" in err
    assert f"runctl runs stop {run_id}" in err
    runctl("runs", "stop", run_id).ok()


def test_a_time_limit_ends_the_run(runctl: CommandLine) -> None:
    done = runctl("local", "train", "forever.py", "--wait", "--timeout", "1s")

    assert done.code == 124, f"{done}"
    assert "time limit" in done.err


def test_two_runs_at_once_are_told_apart(runctl: CommandLine) -> None:
    first = runctl("local", "train", "forever.py", "--quiet").ok().out.strip()
    second = runctl("local", "train", "forever.py", "--quiet").ok().out.strip()

    shown = runctl("local", "processes", "--output", "json").ok().json
    runctl("runs", "stop", first).ok()
    left = runctl("local", "processes", "--output", "json").ok().json

    assert {row["run_id"] for row in shown} == {first, second}
    assert [row["run_id"] for row in left] == [second]
    runctl("runs", "stop", second).ok()


def test_variables_reach_the_script_and_no_command_line(runctl: CommandLine, tmp_path: Path) -> None:
    (runctl.cwd / "show.py").write_text("import os; print('got', os.environ['A'], os.environ['B'])")
    (tmp_path / "train.env").write_text("A=file\nB=file\n")

    done = runctl(
        "local", "train", "show.py", "--wait", "--env-file", tmp_path / "train.env", "--env", "B=s3cret value"
    ).ok()

    assert "got file s3cret value" in done.out
    assert "s3cret" not in done.err


def test_a_dry_run_starts_and_sends_nothing(runctl: CommandLine) -> None:
    plan = runctl("local", "train", "training/train.py", "--dry-run", "--output", "json").ok().json

    assert plan["script"] == "training/train.py"
    assert runctl("runs", "list", "--output", "json").ok().json == []
    assert runctl("local", "processes", "--all", "--output", "json").ok().json == []


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["training/trian.py"], 5, "training/train.py"),
        (["training"], 2, "folder"),
        (["training/train.py", "--ebs-mount", "/nowhere:/data"], 5, "/nowhere"),
        (["training/train.py", "--ebs-mount", "/tmp:data"], 2, "absolute"),
        (["training/train.py", "--ebs-mount", "/tmp:/a", "--ebs-mount", "/var:/a"], 2, "two mounts"),
        (["training/train.py", "--image", "x", "--no-docker"], 2, "contradict"),
        (["training/train.py", "--docker"], 5, "Dockerfile"),
        (["training/train.py", "--env", "1A=b"], 2, "variable"),
        (["training/train.py", "--timeout", "soon"], 2, "duration"),
    ],
)
def test_bad_input_is_one_clear_error_and_starts_nothing(
    runctl: CommandLine, argv: list[str], code: int, says: str
) -> None:
    done = runctl("local", "train", *argv, "--output", "json")

    assert done.code == code, f"{done}"
    assert done.out == ""
    error = done.error
    assert says in error["message"] + error["hint"]
    assert error["hint"]
    assert runctl("runs", "list", "--output", "json").ok().json == []


def test_a_script_outside_the_project_is_refused(runctl: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text("print(1)")

    done = runctl("local", "train", "../elsewhere.py")

    assert done.code == 1
    assert "outside the project" in done.err


def test_an_unknown_run_is_not_found(runctl: CommandLine) -> None:
    for verb in ("show", "logs", "stop"):
        assert runctl("runs", verb, "run-nosuch").code == 5


def _log_with(runctl: CommandLine, run_id: str, word: str) -> str:
    out = runctl("runs", "logs", run_id).out
    return out if word in out else ""


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_command_runs_in_place_of_a_script_from_the_projects_root(runctl: CommandLine) -> None:
    deep = runctl.in_folder(runctl.cwd / "training")

    done = deep(
        "local", "train", "--command", "--wait", "--", "python3", "-c", "import os; print(os.listdir())"
    ).ok()

    assert "'training'" in done.out


def test_a_script_runs_by_its_first_line_or_by_what_is_asked(runctl: CommandLine) -> None:
    (runctl.cwd / "plain").write_text("#!/bin/sh\necho by its first line: $1\n")

    assert "by its first line: x" in runctl("local", "train", "plain", "--wait", "--", "x").ok().out
    echo = runctl("local", "train", "plain", "--interpreter", "echo 'two words'", "--wait", "--", "x").ok()
    assert "two words plain x" in echo.out
