"""A run whose checkpoints and log go to a store while it runs, and come back on another machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from runctl.agent.attempt.attempt import Attempt
from runctl.agent.checkpoint_spec import StoreSpec
from runctl.agent.checkpoints import layout
from runctl.agent.checkpoints.layout import Manifest
from runctl.agent.checkpoints.stores import Store, open_store
from runctl.agent.end_reason import EndReason
from runctl.agent.supervising import publishing
from tests.agent.driver import Agent, until
from tests.agent.s3_bucket import Bucket
from tests.agent.store_proxy import Proxy

TRAIN = """\
import json, os, pathlib, sys, time
folder = pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"])
resume = os.environ["RUNCTL_RESUME_FROM"]
step = json.loads(pathlib.Path(resume).read_text())["step"] if resume else 0
print("from", step, flush=True)
until = int(sys.argv[1])
while step < until:
    step += 1
    partial = folder / f".step-{step}.json"
    partial.write_text(json.dumps({"step": step, "weights": "w" * 1000 * step}))
    partial.rename(folder / f"step-{step}.json")
    print("saved", step, flush=True)
while len(sys.argv) > 2: time.sleep(0.1)
"""


@pytest.fixture
def machine(agent: Agent, bucket: Bucket) -> Agent:
    """With keys for the bucket, as a machine has by its role."""
    agent.env.update(bucket.account)
    agent.sync({"train.py": TRAIN})
    return agent


@pytest.fixture
def store(bucket: Bucket) -> Iterator[Callable[[str], Store]]:
    opened: list[Store] = []

    def of_run(run_id: str) -> Store:
        opened.append(open_store(StoreSpec(f"s3://{bucket.name}/runs"), run_id, bucket.account))
        return opened[-1]

    yield of_run
    for each in opened:
        each.close()


def where(bucket: Bucket, **more: object) -> dict[str, object]:
    return {"store": {"url": f"s3://{bucket.name}/runs", **more}}


def manifests(store: Store) -> list[Manifest]:
    return [layout.decode(store.read(key)) for key in layout.newest_first(store.keys("checkpoints/"))]


def log_in(store: Store, attempt: int) -> bytes:
    return b"".join(store.read(key) for key in store.keys(layout.log_prefix(attempt)))


def other_machine(agent: Agent, tmp_path: Path) -> Agent:
    """One with nothing of the run on it."""
    state = tmp_path / "other"
    state.mkdir()
    other = Agent(agent.archive, state, env=agent.env)
    other.sync({"train.py": TRAIN})
    return other


def test_what_a_run_saves_is_in_the_store_with_its_log_and_its_end_and_another_machine_goes_on(
    machine: Agent, bucket: Bucket, store: Callable[[str], Store], tmp_path: Path
) -> None:
    run = store("run-1")
    machine.start("run-1", "train.py", "3", "stay", **where(bucket))
    until(lambda: [each.step for each in manifests(run)][:1] == [3], "the newest is published")
    # The store has it a moment before it is written down here.
    until(lambda: (found := machine.status("run-1").checkpoint) and found.step == 3, "it is known here")
    status = machine.status("run-1")
    assert status.checkpoint is not None
    newest = manifests(run)[0]
    assert (status.checkpoint.step, status.checkpoint.sha256) == (3, newest.files[0].sha256)
    assert Path(status.checkpoint.path).name == "step-3.json"
    assert status.checkpoint.published_at is not None
    machine.stop("run-1")

    assert log_in(run, 1) == machine.folder("run-1").joinpath("log").read_bytes()
    end = json.loads(run.read("attempts/0001/end.json"))
    assert (end["reason"], end["log_bytes"]) == ("STOPPED", len(log_in(run, 1)))
    asked = json.loads(run.read("attempts/0001/spec.json"))
    assert (asked["run_id"], asked["script"]) == ("run-1", "train.py")

    other = other_machine(machine, tmp_path)
    other.start("run-1", "train.py", "5", attempt=2, **where(bucket))
    assert other.ended("run-1").reason is EndReason.COMPLETED
    other.end_everything()
    assert other.output("run-1") == ["from 3", "saved 4", "saved 5"]
    assert "fetched step-3.json of attempt 1" in other.log("run-1")
    assert (manifests(run)[0].attempt, manifests(run)[0].step) == (2, 5)


def test_the_last_checkpoint_of_a_short_run_is_published_before_its_end_is_known(
    machine: Agent, bucket: Bucket, store: Callable[[str], Store]
) -> None:
    machine.start("run-2", "train.py", "1", **where(bucket))
    assert machine.ended("run-2").reason is EndReason.COMPLETED
    assert [each.name for each in manifests(store("run-2"))] == ["step-1.json"]
    assert store("run-2").read("attempts/0001/end.json")
    # Nothing of ours is left beside the training.
    assert not [line for line in processes() if "publish run-2" in line]


def processes() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


def test_a_store_that_may_not_be_written_is_refused_before_anything_runs(
    machine: Agent, bucket: Bucket
) -> None:
    machine.env["AWS_ACCESS_KEY_ID"] = "AKIAWRONG"
    error = machine.refused("run-3", "train.py", **where(bucket))
    assert error["code"] == "store-denied"
    assert "s3:PutObject" in error["hint"]


def test_a_run_does_not_begin_anew_where_its_checkpoints_cannot_be_fetched(
    machine: Agent, bucket: Bucket, store: Callable[[str], Store], tmp_path: Path
) -> None:
    machine.start("run-4", "train.py", "1", **where(bucket))
    machine.ended("run-4")
    run = store("run-4")
    run.delete(next(iter(run.keys("data/"))))
    other = other_machine(machine, tmp_path)
    other.start("run-4", "train.py", "2", attempt=2, **where(bucket))
    end = other.ended("run-4")
    other.end_everything()
    assert end.reason is EndReason.DATA_FAILED
    assert "none of 1 checkpoint in the store can be used" in end.message
    assert other.output("run-4") == []


def test_a_folder_is_a_store_as_well(machine: Agent, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    machine.start("run-5", "train.py", "2", store={"url": str(tmp_path / "kept"), "keep_last": 1})
    assert machine.ended("run-5").reason is EndReason.COMPLETED
    found = open_store(StoreSpec(str(tmp_path / "kept")), "run-5", {})
    assert [each.step for each in manifests(found)] == [2]
    assert log_in(found, 1) == machine.folder("run-5").joinpath("log").read_bytes()


def test_without_a_store_the_status_says_what_is_on_the_disk(machine: Agent) -> None:
    machine.start("run-6", "train.py", "1", "stay")
    machine.says("run-6", "saved 1")
    status = until(lambda: machine.status("run-6").checkpoint, "the checkpoint is seen")
    assert (status.step, status.published_at, status.sha256) == (1, None, "")


def test_the_script_gets_none_of_the_keys_of_the_store(machine: Agent, bucket: Bucket) -> None:
    machine.sync({"train.py": "import os; print('AWS_SECRET_ACCESS_KEY' in os.environ)"})
    machine.start("run-7", "train.py", **where(bucket))
    machine.ended("run-7")
    assert machine.output("run-7") == ["False"]


BIG = """\
import os, pathlib, time
path = pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"]) / ".weights.bin"
with path.open("wb") as file:
    for _ in range(200): file.write(os.urandom(1 << 20))
path.rename(path.with_name("weights.bin"))
print("saved", flush=True)
while True: time.sleep(0.1)
"""


def process_of(run_id: str) -> int:
    """The process that publishes beside the run."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"publish" in words and run_id.encode() in words:
            return int(path.parent.name)
    raise AssertionError(f"nothing publishes beside {run_id}")


def test_a_large_checkpoint_is_published_in_little_memory_and_at_a_low_priority(
    machine: Agent, bucket: Bucket, store: Callable[[str], Store]
) -> None:
    machine.sync({"train.py": BIG})
    machine.start("run-8", "train.py", **where(bucket))
    until(lambda: manifests(store("run-8")), "it is published")
    pid = process_of("run-8")
    status = Path(f"/proc/{pid}/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak < 40 << 10, f"{peak} KiB"
    assert os.getpriority(os.PRIO_PROCESS, pid) == publishing.NICE > 0


def test_a_store_that_goes_away_is_told_of_and_caught_up_with(
    machine: Agent, bucket: Bucket, s3_account: dict[str, str]
) -> None:
    with Proxy(s3_account["AWS_ENDPOINT_URL"]) as proxy:
        machine.start("run-9", "train.py", "2", "stay", **where(bucket, endpoint=proxy.url))
        run = open_store(StoreSpec(f"s3://{bucket.name}/runs"), "run-9", bucket.account)
        until(lambda: manifests(run), "the first is published")
        proxy.refuses = True
        folder = Path(machine.status("run-9").checkpoint_dir or "")
        (folder / "step-3.json").write_text('{"step": 3}')
        told = until(lambda: (found := machine.status("run-9").checkpoint) and found.trouble, "it is told")
        assert "does not answer" in told
        assert "the training goes on" in machine.log("run-9")
        proxy.refuses = False
        until(lambda: manifests(run)[0].name == "step-3.json", "it catches up")
        until(lambda: "again" in machine.log("run-9"), "it is told")
        machine.stop("run-9")
        run.close()


def test_the_end_of_a_run_waits_no_longer_than_it_must_for_a_store_that_is_away(
    machine: Agent, bucket: Bucket, s3_account: dict[str, str]
) -> None:
    with Proxy(s3_account["AWS_ENDPOINT_URL"]) as proxy:
        machine.start("run-10", "train.py", "1", "stay", **where(bucket, endpoint=proxy.url))
        machine.says("run-10", "saved 1")
        proxy.refuses = True
        folder = Path(machine.status("run-10").checkpoint_dir or "")
        (folder / "step-2.json").write_text('{"step": 2}')
        stopped = machine.stop("run-10", force=True)
        assert stopped.end is not None
        assert stopped.end.reason is EndReason.STOPPED


def test_a_process_that_nothing_can_end_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "_STOP_SECONDS", 0.1)
    # As of one that waits for a disk which hangs, the signal changes nothing.
    monkeypatch.setattr("runctl.agent.machine.processes.send", lambda *_: None)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as child:
        children = SimpleNamespace(
            ended=lambda _: child.poll() is not None, wait=lambda _: child.wait(), pause=lambda *_: None
        )
        process = publishing.Publishing(cast(Attempt, SimpleNamespace(children=children)))
        process._pid = child.pid
        process.stop()
        assert child.poll() is None
        child.kill()


def test_a_process_that_has_answered_in_the_middle_of_a_run_is_still_started_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    children = SimpleNamespace(
        ended=ended.__contains__, wait=lambda _: None, pause=lambda *_: None, spare=lambda _: None
    )
    attempt = SimpleNamespace(children=children, end_plan=None, stop_request=None)
    process = publishing.Publishing(cast(Attempt, attempt))
    started: list[int] = []

    def start() -> None:
        process._pid, (process._answers, answers) = 100 + len(started), os.pipe()
        commands, process._commands = os.pipe()
        os.set_blocking(process._answers, False)
        os.write(answers, b'{"left": []}\n')
        os.close(answers)
        started.append(commands)

    monkeypatch.setattr(process, "start", start)
    process.start()
    assert process.finish().left == ()
    ended.append(100)
    process.keep_going()
    assert process._pid == 101
    for commands in started:
        os.close(commands)
    process._leave()
