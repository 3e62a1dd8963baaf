"""``runctl checkpoint``: what a run has saved, from the command line, on this computer."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from runctl.core.progress import Progress
from runctl.core.run_models import Checkpoint
from runctl.runs.checkpoints.machine_folder import MachineFolder
from runctl.transport.agent import AgentClient
from tests.cli.conftest import Invoke, error_of
from tests.e2e.command_line import CommandLine, write_project

TRAIN = """\
import os, zipfile
folder = os.environ["RUNCTL_CHECKPOINT_DIR"]
print("resumes from", os.path.basename(os.environ.get("RUNCTL_RESUME_FROM", "")))
for step in (1, 2, 3):
    for name in (f"model-step-{step}.pt", f"optimizer-step-{step}.pt"):
        with zipfile.ZipFile(os.path.join(folder, name), "w") as file:
            file.writestr("archive/data.pkl", name * 1000)
"""


@pytest.fixture
def runctl(tmp_path: Path) -> CommandLine:
    """In a project whose run ``base`` has ended."""
    project = write_project(tmp_path / "project", {"train.py": TRAIN})
    runctl = CommandLine(project, {"XDG_DATA_HOME": str(tmp_path / "data")})
    runctl("local", "train", "train.py", "--run-name", "base", "--wait").ok()
    return runctl


def test_a_runs_checkpoints_are_listed_pulled_pushed_and_pruned(runctl: CommandLine) -> None:
    found = runctl("checkpoint", "list", "base", "--output", "json").ok().json
    missing = runctl("checkpoint", "list", "./nothing-here", "--output", "json")
    wrong = runctl("checkpoint", "show", "base", "--name", "x.pt", "--output", "json")
    pulled = runctl(
        "checkpoint", "pull", "base", "./best", "--name", "model-step-2.pt", "--output", "json"
    ).ok()
    second = runctl("checkpoint", "pull", "base", "./best", "--output", "json")
    local = runctl("checkpoint", "show", "./best", "--output", "json").ok().json
    asked = runctl("checkpoint", "prune", "latest", "--keep-last", "1", "--output", "json")
    runctl("checkpoint", "prune", "latest", "--keep-last", "1", "--keep-best", "*-1.pt", "--yes").ok()
    pruned = runctl("checkpoint", "list", "base", "--quiet").ok().out.split()
    pushed = runctl("checkpoint", "push", "./best", "base", "--output", "json").ok().json
    newest = runctl("checkpoint", "list", "base", "--quiet").ok().out.split()

    assert list(found[0]) == [field.name for field in dataclasses.fields(Checkpoint)]
    assert [(each["name"], each["step"], each["state"]) for each in found] == [
        (f"optimizer-step-{step}.pt", step, "complete") for step in (3, 2, 1)
    ]
    assert (missing.code, missing.error["message"]) == (5, "there is no ./nothing-here")
    assert wrong.error["code"] == "no-checkpoint"
    files = ["model-step-2.pt", "optimizer-step-2.pt"]
    assert sorted(path.name for path in (runctl.cwd / "best").iterdir()) == files
    assert (pulled.json["files"], pulled.json["sent_files"]) == (2, 2)
    assert second.error["code"] == "exists"
    assert [(file["path"], len(file["sha256"])) for file in local["files"]] == [(name, 64) for name in files]
    assert asked.error["code"] == "confirmation-needed"
    assert pruned == ["optimizer-step-3.pt", "optimizer-step-1.pt"]
    assert (pushed["name"], pushed["step"]) == ("optimizer-step-2.pt", 2)
    assert newest == ["optimizer-step-2.pt", "optimizer-step-3.pt", "optimizer-step-1.pt"]


def test_verify_ends_with_1_when_a_byte_is_not_what_it_was(runctl: CommandLine) -> None:
    (path,) = Path(runctl.env["XDG_DATA_HOME"]).rglob("model-step-3.pt")
    runctl("checkpoint", "verify", path.parent).ok()
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)

    done = runctl("checkpoint", "verify", "base", "--output", "json")
    refused = runctl("checkpoint", "pull", "base", "./best", "--output", "json")

    assert (done.code, done.error["code"]) == (1, "broken-checkpoint")
    assert [each["state"] for each in done.json] == ["broken", "verified", "verified"]
    assert "does not match the CRC-32" in done.json[0]["problem"]
    assert refused.error["code"] == "broken-checkpoint"
    assert not (runctl.cwd / "best").exists()


def test_what_is_not_known_to_be_a_checkpoint_is_pushed_only_by_its_name(runctl: CommandLine) -> None:
    (runctl.cwd / "model.py").write_text("pass")

    refused = runctl("checkpoint", "push", ".", "base", "--output", "json")
    runctl("checkpoint", "pull", "base", "./best", "--name", "model-step-2.pt").ok()
    (runctl.cwd / "best/later.py").write_text("pass")
    found = runctl("checkpoint", "push", "./best", "base", "--dry-run", "--output", "json").ok().json
    named = runctl(
        *("checkpoint", "push", ".", "base", "--name", "train.py", "--dry-run", "--output", "json")
    ).ok()

    assert refused.error["code"] == "maybe-no-checkpoint"
    assert found["name"] == "optimizer-step-2.pt"
    assert named.json["name"] == "train.py"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("list", "run-0"), "knows no run run-0"),
        (("list", "latest"), "has started no run"),
        (("list", "gpu-box:../x"), "must not have .."),
        (("prune", "latest", "--keep-last", "0"), "--keep-last"),
    ],
)
def test_what_cannot_be_meant_is_said(invoke: Invoke, argv: tuple[str, ...], said: str) -> None:
    assert said in error_of(invoke("checkpoint", *argv, "--output", "json"))["message"]


def test_a_removal_that_is_interrupted_does_not_say_that_nothing_was_changed(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2, 3):
        file = tmp_path / f"step-{step}.bin"
        file.write_bytes(b"weights")
        os.utime(file, (step, step))
    remove = MachineFolder.remove

    def interrupted(folder: MachineFolder, gone: Sequence[Checkpoint], progress: Progress) -> None:
        remove(folder, gone[:1], progress)
        raise KeyboardInterrupt

    monkeypatch.setattr(MachineFolder, "remove", interrupted)
    arguments = ("checkpoint", "prune", str(tmp_path), "--keep-last", "1", "--yes", "-q", "--output", "json")
    error = error_of(invoke(*arguments))

    assert error["message"].startswith("interrupted: of 2 checkpoints to remove some may be gone")
    assert error["hint"]
    assert len(list(tmp_path.glob("step-*.bin"))) == 2


def test_whoever_has_asked_this_computers_agent_is_not_told_that_nothing_was_changed(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(AgentClient, "call", interrupted)

    assert (
        error_of(invoke("checkpoint", "list", str(tmp_path), "-q", "--output", "json"))["message"]
        == "interrupted"
    )
