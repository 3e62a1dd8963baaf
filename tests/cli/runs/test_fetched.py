"""A run whose machine is gone, and whose results were brought to this computer before."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runctl.agent.encoding import dumps
from runctl.agent.end_reason import EndReason
from runctl.agent.spec import EndRecord
from runctl.core.errors import Conflict
from runctl.core.ids import VolumeId
from runctl.core.machine_models import InstanceState
from runctl.core.run_models import RunPhase
from runctl.machines.session import Session
from runctl.providers import registry
from runctl.runs.fetched import note_fetched
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import run_store
from runctl.runs.records.updates import before_it_began, with_end
from runctl.runs.train.resume_point import find_checkpoint
from tests.cli.conftest import Invoke, data_of, error_of
from tests.cli.fake_provider import FakeProvider, Script, an_instance
from tests.runs.sample_runs import T0, a_run

LOG = b"step 1\nstep 2\n"
END = EndRecord(
    EndReason.COMPLETED,
    T0.timestamp() + 60,
    exit_code=0,
    log_bytes=len(LOG),
    log_sha256=hashlib.sha256(LOG).hexdigest(),
)
RECORD = with_end(
    a_run(
        "run-gone",
        name="gone",
        mounts=(),
        started_at=T0,
        output_dir="/var/lib/runctl/runs/run-gone/output",
        checkpoint_dir="/var/lib/runctl/runs/run-gone/checkpoints",
    ),
    END,
)

Remember = Callable[..., RunRecord]


@pytest.fixture
def machine_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider says that it has ended; this computer is what it is."""
    script, load = Script(), registry.load
    script.answers["instance"] = lambda name: an_instance(name, state=InstanceState.TERMINATED)
    monkeypatch.setattr(
        registry,
        "load",
        lambda name, *rest, **named: load(name, *rest, **named) if name == "local" else FakeProvider(script),
    )


@pytest.fixture
def remember(invoke: Invoke, machine_is_gone: None) -> Remember:
    """The run is known here, and its results are in ``results`` of the project."""

    def remember(*, fetched: bool = True, **changes: Any) -> RunRecord:
        record = replace(RECORD, results=str(Path.cwd() / "results"), **changes)
        session = Session()
        run_store(session).put(record)
        if fetched:
            note_fetched(session, record, bring(Path.cwd() / "results"))
        return run_store(session).get(record.id)

    return remember


def bring(results: Path) -> Path:
    """As `fetch_results` leaves them."""
    folder = results / "run-gone"
    for name in ("output", "checkpoints", "logs"):
        (folder / name).mkdir(parents=True)
    (folder / "output/metrics.csv").write_text("a,b\n")
    with zipfile.ZipFile(folder / "checkpoints/step-3.pt", "w") as file:
        file.writestr("archive/data.pkl", "weights" * 100)
    (folder / "logs/1.log").write_bytes(LOG)
    (folder / "logs/1.end.json").write_text(dumps(END) + "\n")
    return folder


def test_results_that_were_brought_are_found_again(invoke: Invoke, remember: Remember) -> None:
    remember()

    found = data_of(invoke("runs", "results", "gone", "--output", "json"))
    text = invoke("runs", "results", "gone")

    assert found["folder"] == str(Path.cwd() / "results/run-gone")
    assert (found["files"], found["sent_bytes"], found["complete"]) == (3, 0, True)
    assert (text.exit_code, text.stdout) == (0, f"{found['folder']}\n")


def test_a_folder_of_an_earlier_runctl_is_known_by_its_end_record(invoke: Invoke, remember: Remember) -> None:
    remember(fetched=False)
    bring(Path("results"))

    assert data_of(invoke("runs", "results", "gone", "--output", "json"))["files"] == 3
    assert data_of(invoke("runs", "show", "gone", "--output", "json"))["fetched"]["attempt"] == 1


def test_they_are_brought_to_another_folder_from_where_they_are(invoke: Invoke, remember: Remember) -> None:
    remember()

    found = data_of(invoke("runs", "results", "gone", "elsewhere", "--output", "json"))

    assert found["folder"] == str(Path.cwd() / "elsewhere/run-gone")
    assert Path("elsewhere/run-gone/output/metrics.csv").read_text() == "a,b\n"
    assert Path("elsewhere/run-gone/logs/1.log").read_bytes() == LOG
    assert found["sent_bytes"] == found["bytes"]
    assert data_of(invoke("runs", "results", "gone", "--output", "json"))["sent_bytes"] == 0


def test_a_folder_that_was_moved_is_named_and_found_from_then_on(invoke: Invoke, remember: Remember) -> None:
    remember()
    Path("results").rename("kept")

    lost = error_of(invoke("runs", "results", "gone", "--output", "json"))
    shown = invoke("runs", "show", "gone").stdout
    found = data_of(invoke("runs", "results", "gone", "kept", "--output", "json"))
    again = data_of(invoke("runs", "results", "gone", "--output", "json"))

    assert f"brought to {Path.cwd() / 'results/run-gone'}, which is not there any more" in lost["message"]
    assert "runctl runs results run-gone FOLDER finds it" in lost["hint"]
    assert "which is not there any more" in shown
    assert found["sent_bytes"] == 0
    assert again["folder"] == found["folder"] == str(Path.cwd() / "kept/run-gone")


@pytest.mark.parametrize(
    ("lose", "said"),
    [
        (lambda at: (at / "checkpoints/step-3.pt").unlink(), "has 2 of the 3 files that were brought"),
        (lambda at: (at / "output/metrics.csv").write_text(""), "that were brought"),
        (lambda at: (at / "logs/1.log").write_bytes(LOG[:-1] + b"?"), "has not the whole log"),
        (lambda at: (at / "logs/1.end.json").unlink(), "is of an earlier moment of the run"),
    ],
)
def test_what_is_not_whole_any_more_is_said(
    invoke: Invoke, remember: Remember, lose: Callable[[Path], None], said: str
) -> None:
    remember()
    lose(Path("results/run-gone"))

    refused = invoke("runs", "results", "gone", "--output", "json")

    assert said in error_of(refused)["message"]
    assert refused.exit_code == 5


def test_results_of_an_attempt_that_another_one_has_followed_are_not_the_runs(
    invoke: Invoke, remember: Remember
) -> None:
    record = remember()
    following = with_end(before_it_began(record, 2), END)
    run_store(Session()).put(following)

    refused = invoke("runs", "results", "gone", "--output", "json")

    assert refused.exit_code == 5
    assert "is of an earlier moment of the run" in error_of(refused)["message"]


def test_show_says_where_results_and_log_are(invoke: Invoke, remember: Remember) -> None:
    remember()
    folder = Path.cwd() / "results/run-gone"

    lines = [line.split(maxsplit=1) for line in invoke("runs", "show", "gone").stdout.splitlines() if line]
    shown = data_of(invoke("runs", "show", "gone", "--output", "json"))

    fields = {line[0]: line[1] for line in lines if len(line) == 2}
    assert fields["results"] == str(folder)
    assert str(folder / "logs/1.log") in fields["log"]
    assert {**shown["fetched"], "fetched_at": ""} == {
        "folder": str(folder),
        "attempt": 1,
        "files": 3,
        "bytes": sum(path.stat().st_size for path in folder.rglob("*.*") if path.suffix != ".json"),
        "fetched_at": "",
    }


def test_a_runs_files_are_copied_from_what_was_brought_but_nothing_into_it(
    invoke: Invoke, remember: Remember
) -> None:
    remember()

    done = invoke("cp", "gone:output/metrics.csv", "here.csv", "--output", "json")
    refused = invoke("cp", "here.csv", "gone:output/more.csv", "--output", "json")

    assert data_of(done)["files"] == 1
    assert Path("here.csv").read_text() == "a,b\n"
    assert refused.exit_code == 5
    assert not Path("results/run-gone/output/more.csv").exists()


def test_checkpoints_are_read_from_what_was_brought(invoke: Invoke, remember: Remember) -> None:
    remember()

    listed = data_of(invoke("checkpoint", "list", "gone", "--output", "json"))
    verified = invoke("checkpoint", "verify", "gone", "--output", "json")
    pulled = data_of(invoke("checkpoint", "pull", "gone", "best", "--output", "json"))

    assert [each["name"] for each in listed] == ["step-3.pt"]
    assert listed[0]["where"] == str(Path.cwd() / "results/run-gone/checkpoints")
    assert (verified.exit_code, [each["state"] for each in json.loads(verified.stdout)]) == (0, ["verified"])
    assert Path("best/step-3.pt").exists()
    assert pulled["files"] == 1


def test_what_was_brought_is_named_where_checkpoints_would_be_changed(
    invoke: Invoke, remember: Remember
) -> None:
    remember()

    refused = invoke("checkpoint", "prune", "gone", "--keep-last", "1", "--yes", "--output", "json")

    assert refused.exit_code == 5
    assert str(Path.cwd() / "results/run-gone/checkpoints") in error_of(refused)["message"]
    assert Path("results/run-gone/checkpoints/step-3.pt").exists()


@pytest.mark.parametrize(
    "argv",
    [
        ("runs", "results", "gone"),
        ("cp", "gone:output/metrics.csv", "."),
        ("checkpoint", "list", "gone"),
        ("checkpoint", "pull", "gone", "best"),
        ("checkpoint", "verify", "gone"),
    ],
)
def test_all_say_the_same_where_they_are_not_there_any_more(
    invoke: Invoke, remember: Remember, argv: tuple[str, ...]
) -> None:
    remember()
    shutil.rmtree("results")

    refused = invoke(*argv, "--output", "json")
    error = error_of(refused)

    assert refused.exit_code == 5
    assert "which is not there any more" in error["message"] + error["hint"]


@pytest.mark.parametrize("argv", [("runs", "results", "gone"), ("cp", "gone:output/metrics.csv", ".")])
def test_what_is_on_a_volume_is_named(invoke: Invoke, remember: Remember, argv: tuple[str, ...]) -> None:
    remember(fetched=False, saved_volume=VolumeId("vol-9"), saved_folder="runs/run-gone")

    refused = invoke(*argv, "--output", "json")

    assert refused.exit_code == 5
    assert "vol-9 has what it wrote in runs/run-gone" in error_of(refused)["hint"]


def test_a_run_that_goes_on_is_not_answered_from_an_earlier_copy(invoke: Invoke, remember: Remember) -> None:
    remember(state=RunPhase.ENDED)
    record = run_store(Session()).get("gone")
    store = run_store(Session())
    store.put(before_it_began(record, 2))

    assert invoke("cp", "gone:output/metrics.csv", ".", "--output", "json").exit_code == 5


def test_a_record_that_was_read_before_does_not_take_away_where_results_are(remember: Remember) -> None:
    before = remember(fetched=False)
    note_fetched(Session(), before, bring(Path.cwd() / "results"))

    run_store(Session()).put(before)

    fetched = run_store(Session()).get("gone").fetched
    assert fetched is not None
    assert (fetched.attempt, fetched.files) == (1, 3)


def test_a_run_here_goes_on_from_what_was_brought_and_another_is_told_where_that_is(
    invoke: Invoke, remember: Remember
) -> None:
    remember()
    checkpoints = str(Path.cwd() / "results/run-gone/checkpoints")
    here = an_instance("local", provider="local")

    found = find_checkpoint(Session(), "gone", here)
    with pytest.raises(Conflict) as refused:
        find_checkpoint(Session(), "gone")

    assert (found.path, found.volume_id) == (checkpoints, None)
    assert checkpoints in refused.value.hint
    shutil.rmtree("results")
    with pytest.raises(Conflict, match="saved to the disk of"):
        find_checkpoint(Session(), "gone", here)


def test_a_path_to_resume_from_that_is_not_on_this_computer_is_refused_in_the_plan(invoke: Invoke) -> None:
    Path("train.py").write_text("")

    refused = invoke("local", "train", "train.py", "--resume-from", "/nope", "--dry-run", "--output", "json")

    assert refused.exit_code == 5
    assert "--resume-from /nope" in error_of(refused)["message"]
