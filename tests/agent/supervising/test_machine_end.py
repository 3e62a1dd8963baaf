"""The machine that was rented for a run ends itself after it, also when the run's supervisor does not live to see it.

The machine here is this computer, so that its ``shutdown`` is a program that only writes down that it was called.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from runctl.agent.after_run import MachineEnd
from runctl.agent.end_reason import EndReason
from runctl.agent.records import AttemptFolder
from runctl.agent.spec import EndRecord
from runctl.agent.supervising.machine_end import FETCHED, TROUBLE, stay_of
from tests.agent.driver import SLEEPER, Agent, until
from tests.agent.metadata_service import metadata_service
from tests.agent.s3_bucket import Bucket
from tests.agent.supervising.test_stop import STUBBORN

pytestmark = pytest.mark.linux

FETCHED_SOON = {"read_within_seconds": 0.0, "fetch_within_seconds": 3600.0}
AT_ONCE = {"read_within_seconds": 0.0, "fetch_within_seconds": 0.0}


@pytest.fixture
def shut_down(agent: Agent, tmp_path: Path) -> Path:
    """The file that is there once the machine was told to shut down."""
    programs, called = tmp_path / "programs", tmp_path / "called"
    programs.mkdir()
    for name, text in (
        ("shutdown", f'#!/bin/sh\necho "$@" >>{called}\n'),
        ("sudo", '#!/bin/sh\n[ "$1" = -n ] && shift\nexec "$@"\n'),
        # The unit would have a PATH of its own.
        ("systemd-run", "#!/bin/sh\nexit 1\n"),
    ):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    agent.env["PATH"] = f"{programs}:{os.environ['PATH']}"
    return called


def test_a_machine_ends_when_its_results_are_fetched_and_no_other_run_goes_on(
    agent: Agent, shut_down: Path
) -> None:
    agent.sync({"quick.py": "print('done')\n", "train.py": SLEEPER})
    agent.start("other", "train.py")
    agent.running("other")
    agent.start("r", "quick.py", machine_end=FETCHED_SOON)
    assert agent.call("fetched", {"run_id": "other"}).error["code"] == "not-rented"
    agent.ended("r")

    stay = agent.call("fetched", {"run_id": "r", "attempt": 1}).ok["stay"]
    assert stay == {"why": "another run continues on it", "seconds": None}
    assert not shut_down.exists()

    agent.stop("other", force=True)
    until(shut_down.exists, "the shutdown")
    assert shut_down.read_text() == "-h now\n"


def test_a_killed_supervisor_does_not_leave_the_machine_behind(agent: Agent, shut_down: Path) -> None:
    agent.sync({"train.py": SLEEPER})
    agent.start("r", "train.py", machine_end=AT_ONCE)
    script = agent.running("r").pid
    assert script is not None
    os.kill(agent.supervisor("r"), signal.SIGKILL)
    assert not shut_down.exists()
    os.kill(script, signal.SIGKILL)

    until(shut_down.exists, "the shutdown")
    assert agent.ended("r").reason is EndReason.LOST


def test_a_machine_that_is_kept_and_a_further_attempt_end_nothing(agent: Agent, shut_down: Path) -> None:
    agent.sync({"quick.py": "print('done')\n", "train.py": SLEEPER})
    agent.start("kept", "quick.py", machine_end={**AT_ONCE, "keep": True})
    agent.ended("kept")
    agent.start("r", "train.py", machine_end={**AT_ONCE, "read_within_seconds": 0.0})
    agent.running("r")
    agent.stop("kept")
    # The second attempt is there before the first has ended: only the second one's end counts.
    agent.start("r", "train.py", attempt=2, machine_end=AT_ONCE)
    agent.stop("r", attempt=1, force=True)
    until(lambda: not _ends(agent, "r", 1), "the first attempt's process to leave")
    assert not shut_down.exists()

    agent.stop("r", attempt=2, force=True)
    until(shut_down.exists, "the shutdown")


def test_a_kept_machine_stays_when_its_run_is_pruned_after_or_before_the_upload(
    agent: Agent, shut_down: Path, bucket: Bucket
) -> None:
    agent.env.update(bucket.account)
    agent.sync({"quick.py": "print('done')\n"})
    kept = {**AT_ONCE, "keep": True, "results_url": f"s3://{bucket.name}/results"}
    agent.start("uploaded", "quick.py", machine_end=kept)
    agent.ended("uploaded")
    until(
        (agent.folder("uploaded") / "results.json").exists,
        lambda: f"the upload: {_said_of_the_end(agent, 'uploaded')}",
    )
    agent.start("left", "quick.py", machine_end=kept)
    for found in bucket.client.list_objects_v2(Bucket=bucket.name)["Contents"]:
        bucket.client.delete_object(Bucket=bucket.name, Key=found["Key"])
    bucket.client.delete_bucket(Bucket=bucket.name)
    agent.ended("left")

    assert agent.call("prune", {"run_ids": ["uploaded", "left"]}).ok == {}
    until(lambda: not (_ends(agent, "uploaded", 1) or _ends(agent, "left", 1)), "both processes to leave")
    assert not shut_down.exists()


def _said_of_the_end(agent: Agent, run_id: str) -> str:
    """What the process that ends the machine has written down."""
    folder = agent.folder(run_id)
    return " ".join(
        path.read_text() for path in (folder / TROUBLE, folder / "machine-end.err") if path.exists()
    )


def test_a_look_that_fails_does_not_leave_the_machine_behind(agent: Agent, shut_down: Path) -> None:
    agent.sync({"train.py": SLEEPER})
    agent.start("r", "train.py", machine_end=AT_ONCE)
    agent.running("r")
    unreadable = agent.folder("other")
    unreadable.mkdir(parents=True)
    for name in ("spec.json", "status.json"):
        (unreadable / name).write_text("{")
    errors = agent.folder("r") / "machine-end.err"
    until(lambda: "JSONDecodeError" in errors.read_text(), "the failure")
    shutil.rmtree(unreadable.parent)
    agent.stop("r", force=True)

    until(shut_down.exists, "the shutdown")
    assert errors.read_text().count("Traceback") == 1


def test_no_other_program_than_the_machines_own_is_called_to_end_it(
    agent: Agent, shut_down: Path, tmp_path: Path
) -> None:
    agent.sync({"train.py": SLEEPER})
    first, second, other = tmp_path / "programs", tmp_path / "second", tmp_path / "called-second"
    second.mkdir()
    (second / "shutdown").write_text(f'#!/bin/sh\necho "$@" >>{other}\n')
    (second / "shutdown").chmod(0o755)
    agent.env["PATH"] = agent.env["PATH"].replace(f"{first}:", f"{first}:{second}:")
    agent.start("r", "train.py", machine_end=AT_ONCE)
    agent.running("r")
    (first / "shutdown").unlink()
    agent.stop("r", force=True)

    errors = agent.state / "runs" / "r" / "1" / "machine-end.err"
    until(lambda: errors.exists() and "shutdown" in errors.read_text(), "the failure")
    assert not other.exists()
    assert not shut_down.exists()


def _ends(agent: Agent, run_id: str, attempt: int) -> bool:
    """Whether a process waits for the end of this attempt."""
    wanted = ["end-machine", run_id, str(attempt)]
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if str(agent.archive) in words and words[-4:-1] == wanted:
            return True
    return False


def test_a_machine_that_is_taken_back_is_left_to_its_provider_however_the_run_ended(
    agent: Agent, shut_down: Path
) -> None:
    agent.sync({"train.py": STUBBORN})
    with metadata_service() as metadata:
        agent.env.update(metadata.variables)
        agent.start("r", "train.py", machine_end=AT_ONCE)
        agent.says("r", "up")
        metadata.interrupt(10)
        # Whichever is seen first decides the reason; the machine's end comes in any case.
        seen = agent.stop("r", grace_seconds=600.0)
    assert seen.end is not None
    assert seen.end.reason in {EndReason.STOPPED, EndReason.INTERRUPTED}
    assert seen.end.hand_off is not None
    assert seen.end.ended_at < seen.end.hand_off.machine_ends_at
    assert agent.call("fetched", {"run_id": "r"}).ok["stay"]["why"] == "its provider takes it back"
    assert not shut_down.exists()


@pytest.mark.parametrize(("caused_by", "why"), [(None, "its provider takes it back"), (1, None)])
def test_a_machine_does_not_wait_for_the_provider_where_another_of_its_run_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caused_by: int | None, why: str | None
) -> None:
    monkeypatch.setenv("RUNCTL_AGENT_STATE", str(tmp_path))
    folder = AttemptFolder(tmp_path / "runs" / "r" / "1")
    folder.path.mkdir(parents=True)
    end = EndRecord(EndReason.INTERRUPTED, time.time(), caused_by=caused_by)

    stay = stay_of(folder, MachineEnd(), end, FETCHED)

    assert (stay.why if stay is not None else None) == why
