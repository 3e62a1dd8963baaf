"""`runctl.train` and `runctl.runs`: a run on this computer from a program, real from its plan to its log."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import runctl
from runctl.core.errors import Conflict, NotFound
from runctl.core.run_models import RunPhase
from runctl.runs.train.plan import RunPlan
from runctl.testing.progress import RecordedProgress

PAGE = Path(__file__).parents[3] / "docs" / "from-python.md"

TRAIN = """\
import os, sys
print("args", sys.argv[1:], "seed", os.environ.get("SEED"), flush=True)
if "--forever" in sys.argv:
    import time
    while True:
        time.sleep(0.1)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text(TRAIN)
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return folder


@pytest.mark.usefixtures("project")
def test_the_page_does_what_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, object] = {}
    # What is about rented machines is in tests/machines/test_from_python.py.
    page = re.sub(
        r"^## Rent a machine.*?(?=^## Progress)", "", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE
    )
    for block in re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        exec(compile(block, str(PAGE), "exec"), namespace)

    printed = capsys.readouterr().out
    assert printed.startswith("about to start run-")
    assert printed.count("args ['--epochs', '3'] seed 7") == 2
    assert "COMPLETED 0" in printed
    assert re.search(r"run-\w+ ended COMPLETED", printed)
    assert "missing.py" in printed


@pytest.mark.usefixtures("project")
def test_a_run_goes_on_until_it_is_stopped_and_is_found_by_its_id(capfd: pytest.CaptureFixture[str]) -> None:
    progress = RecordedProgress()
    session = runctl.Session(progress=lambda: progress)
    run = runctl.train("train.py", ["--forever"], provider="local", session=session)

    assert runctl.runs.show(run.id).state in {RunPhase.SETTING_UP, RunPhase.RUNNING}
    stopped = runctl.runs.stop(run.id, session=session)

    assert (stopped.id, stopped.end_reason) == (run.id, "STOPPED")
    assert run.wait().end_reason == "STOPPED"
    assert run.status().end_reason == "STOPPED"
    assert progress.steps
    # A library prints nothing.
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("project")
def test_what_refuses_the_plan_leaves_nothing_started() -> None:
    def refuse(plan: RunPlan) -> None:
        raise Conflict(f"{plan.run_id} costs too much", hint="take another machine")

    with pytest.raises(Conflict, match="costs too much"):
        runctl.train("train.py", provider="local", on_plan=refuse)

    assert runctl.runs.list() == ()


@pytest.mark.usefixtures("project")
def test_a_second_run_of_the_same_name_is_warned_of() -> None:
    progress = RecordedProgress()
    session = runctl.Session(progress=lambda: progress)
    first = runctl.train("train.py", provider="local", name="baseline", session=session)
    first.wait()
    assert not any("baseline" in text for text in progress.warnings)

    runctl.train("train.py", provider="local", name="baseline", session=session).wait()

    assert any(f"{first.id} is called baseline, too" in text for text in progress.warnings)


def test_an_unknown_run_is_not_found(project: Path) -> None:
    assert project.is_dir()
    with pytest.raises(NotFound):
        runctl.runs.show("run-nothing")
