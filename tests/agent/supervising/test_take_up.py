"""A machine takes up a run of which it knows nothing but the address: the verb, its processes, and a real store."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from runctl.agent.checkpoint_spec import StoreSpec
from runctl.agent.checkpoints.lease_stores import open_lease
from runctl.agent.checkpoints.stores import Store, open_store
from runctl.agent.encoding import dumps
from runctl.agent.end_reason import EndReason
from runctl.agent.lease import KEY, Claim, Lease, decode, encode
from runctl.agent.spec import EndRecord, RunSpec
from runctl.agent.stored_run import RUN, SPEC, StoredRun, manifest_key, pack_key
from tests.agent.driver import Agent, until
from tests.agent.metadata_service import metadata_service
from tests.agent.s3_bucket import Bucket
from tests.agent.store_proxy import Proxy

ID = "run-1"
LEASE_SECONDS = 6.0
TRAIN = """\
import json, os, pathlib, signal, sys, time
folder = pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"])
resume = os.environ["RUNCTL_RESUME_FROM"]
step = json.loads(pathlib.Path(resume).read_text())["step"] if resume else 0
print("attempt", os.environ["RUNCTL_ATTEMPT"], "from", step, "as", os.environ["SECRET"], flush=True)
def save(*_):
    partial = folder / ".partial"
    partial.write_text(json.dumps({"step": step}))
    partial.rename(folder / f"step-{step}.json")
    sys.exit(1)
signal.signal(signal.SIGTERM, save)
step += 1
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.05)
print("done", flush=True)
"""


@pytest.fixture
def store(bucket: Bucket) -> Iterator[Store]:
    found = open_store(StoreSpec(f"s3://{bucket.name}/runs"), ID, bucket.account)
    yield found
    found.close()


class World:
    """A run at its prefix, and machines that know where that is."""

    def __init__(self, bucket: Bucket, store: Store, built: Path, folder: Path) -> None:
        self.bucket, self.store, self.built, self.folder = bucket, store, built, folder
        self.go = folder / "go"
        self.machines: list[Agent] = []

    def put_run(self, *, endpoint: str = "", **more: Any) -> None:
        """What a client writes when it starts the run."""
        data = TRAIN.encode()
        sha = hashlib.sha256(data).hexdigest()
        manifest = json.dumps({"train.py": ["f", 0, len(data), sha]}, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(manifest.encode()).hexdigest()
        pack = gzip.compress(json.dumps([[sha, len(data)]]).encode() + b"\n" + data)
        spec = RunSpec(
            ID,
            "train.py",
            (str(self.go),),
            tree=digest,
            env={"SECRET": "hush"},
            grace_seconds=5.0,
            store=StoreSpec(f"s3://{self.bucket.name}/runs", endpoint),
        )
        self.store.put(manifest_key(digest), manifest.encode())
        self.store.put(pack_key(digest), pack)
        self.store.put(SPEC, dumps(spec).encode())
        self.store.put(RUN, dumps(StoredRun(**more)).encode())
        self.store.put(KEY, encode(Lease(ID)))

    def machine(self, **env: str) -> Agent:
        state = self.folder / f"machine-{len(self.machines)}"
        state.mkdir()
        # By its own path its processes are found, and ended, afterwards.
        shutil.copytree(self.built.parent, state / "bin", symlinks=True, copy_function=os.link)
        agent = Agent(
            state / "bin" / self.built.name, state, env={**self.bucket.account, **env}, started=[ID]
        )
        self.machines.append(agent)
        return agent

    def take_up(self, agent: Agent, endpoint: str = "") -> None:
        url = f"s3://{self.bucket.name}/runs/{ID}"
        request = {"url": url, "endpoint": endpoint, "region": "", "lease_seconds": LEASE_SECONDS}
        assert agent.call("take-up", request).ok == {"run_id": ID}

    def lease(self) -> Lease:
        return decode(self.store.read(KEY))

    def end(self, attempt: int) -> dict[str, Any] | None:
        key = f"attempts/{attempt:04}/end.json"
        found: dict[str, Any] = json.loads(self.store.read(key)) if key in self.store.keys(key) else {}
        return found or None

    def says(self, agent: Agent, text: str) -> None:
        """Wait until the process that keeps the run has said this."""
        log = agent.state / "taking-up" / ID / "errors"
        until(lambda: log.exists() and text in log.read_text(), text)


@pytest.fixture
def world(bucket: Bucket, store: Store, unpacked: Path, built: Path, tmp_path: Path) -> Iterator[World]:
    found = World(bucket, store, unpacked / built.name, tmp_path)
    yield found
    for agent in found.machines:
        agent.end_everything()


def runs(agent: Agent, attempt: int) -> Callable[[], bool]:
    return lambda: (
        (agent.folder(ID, attempt) / "status.json").exists() and bool(agent.live(ID, attempt)["started_at"])
    )


def test_a_machine_takes_up_a_run_of_which_it_knows_the_address_alone(world: World) -> None:
    world.put_run()
    machine = world.machine()
    world.take_up(machine)
    world.take_up(machine)
    until(runs(machine, 1), "attempt 1 runs")
    held = world.lease()
    assert (held.attempt, held.holder != "", held.ended) == (1, True, "")
    where = json.loads(world.store.read("attempts/0001/machine.json"))
    assert where["instance_id"] == held.holder

    # A machine that comes later waits, and does not end the run.
    late = world.machine()
    world.take_up(late)
    world.says(late, f"{held.holder} has the lease: waiting")

    world.go.touch()
    until(lambda: world.lease().ended == "COMPLETED", "the run has ended")
    assert machine.output(ID) == ["attempt 1 from 0 as hush", "done"]
    end = world.end(1)
    assert end is not None
    assert end["reason"] == "COMPLETED"
    until(lambda: json.loads(world.store.read(SPEC))["env"] == {"SECRET": ""}, "its secrets are gone")
    world.says(late, "the run has ended: COMPLETED")
    assert not (late.state / "runs" / ID).exists()


def test_a_run_that_has_ended_is_never_started_again_whatever_its_lease_says(world: World) -> None:
    world.put_run()
    world.store.put("attempts/0001/end.json", dumps(EndRecord(EndReason.FAILED, 1.0, exit_code=3)).encode())
    machine = world.machine()
    world.take_up(machine)
    world.says(machine, "the run has ended: FAILED")
    assert (world.lease().attempt, world.lease().holder) == (0, "")
    assert not (machine.state / "runs" / ID).exists()


def test_after_a_notice_another_machine_goes_on_at_once_and_the_first_one_takes_nothing_up(
    world: World,
) -> None:
    world.put_run()
    with metadata_service() as service:
        first, second = world.machine(**service.variables), world.machine()
        world.take_up(first)
        until(runs(first, 1), "attempt 1 runs")
        world.take_up(second)
        world.says(second, "has the lease: waiting")
        service.interrupt(20.0)
        until(runs(second, 2), "attempt 2 runs")
        assert world.lease().attempt == 2
        ended = world.end(1)
        assert ended is not None
        assert ended["reason"] == "INTERRUPTED"
        world.go.touch()
        until(lambda: world.lease().ended == "COMPLETED", "the run has ended")
    assert second.output(ID) == ["attempt 2 from 1 as hush", "done"]
    assert not first.folder(ID, 2).exists()


def test_whoever_asks_for_the_run_gets_it_with_its_checkpoint(world: World) -> None:
    world.put_run()
    first = world.machine()
    world.take_up(first)
    until(runs(first, 1), "attempt 1 runs")
    url = StoreSpec(f"s3://{world.bucket.name}/runs")
    with closing(open_lease(url, ID, world.bucket.account)) as lease:
        other = Claim(lease, ID, "i-other")
        other.ask_holder()
        until(lambda: other.take() is None, "it is handed over")
        ended = world.end(1)
        assert ended is not None
        assert (ended["reason"], ended["message"]) == ("MOVED", "i-other takes over the run")
        assert world.lease().wanted_by == ""
        other.give_up("STOPPED")


def test_one_whose_process_was_killed_goes_on_with_what_runs(world: World) -> None:
    world.put_run()
    machine = world.machine()
    world.take_up(machine)
    until(runs(machine, 1), "attempt 1 runs")
    before = world.lease()
    for pid in machine.processes_of("keep-run"):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not machine.processes_of("keep-run"), "it is gone")
    world.take_up(machine)
    until(lambda: world.lease().write != before.write, "the lease is renewed")
    world.go.touch()
    until(lambda: world.lease().ended == "COMPLETED", "the run has ended")
    assert world.lease().attempt == 1
    assert machine.output(ID) == ["attempt 1 from 0 as hush", "done"]


def test_a_script_is_stopped_before_the_lease_ends_and_the_run_goes_on_when_the_store_is_back(
    world: World, s3_account: dict[str, str]
) -> None:
    with Proxy(s3_account["AWS_ENDPOINT_URL"]) as proxy:
        world.put_run(endpoint=proxy.url)
        machine = world.machine()
        world.take_up(machine, proxy.url)
        until(runs(machine, 1), "attempt 1 runs")
        pid = machine.live(ID)["script"]["pid"]
        proxy.refuses = True
        until(lambda: not Path(f"/proc/{pid}").exists(), "the script is stopped")
        # Nobody else may have it yet.
        url = StoreSpec(f"s3://{world.bucket.name}/runs")
        with closing(open_lease(url, ID, world.bucket.account)) as lease:
            assert Claim(lease, ID, "i-other").take() is not None
        proxy.refuses = False
        until(runs(machine, 2), "attempt 2 runs on the same machine")
        ended = world.end(1)
        assert ended is not None
        assert ended["reason"] == "LOST"
        assert ended["message"].startswith("the run's lease is lost: ")
        assert "nobody on this one renews it" not in ended["message"]
        world.go.touch()
        until(lambda: world.lease().ended == "COMPLETED", "the run has ended")


def test_a_run_that_has_had_its_attempts_ends(world: World) -> None:
    world.put_run(max_attempts=1)
    world.store.put(KEY, encode(Lease(ID, 1)))
    world.store.put("attempts/0001/end.json", dumps(EndRecord(EndReason.LOST, 1.0)).encode())
    machine = world.machine()
    world.take_up(machine)
    until(lambda: world.lease().ended == "LOST", "the run has ended")
    world.says(machine, "the run has had 1 of 1 attempts")
    until(lambda: json.loads(world.store.read(SPEC))["env"] == {"SECRET": ""}, "its secrets are gone")


def test_an_attempt_that_cannot_be_started_is_told_and_another_one_tried(world: World) -> None:
    world.put_run()
    world.store.delete(next(key for key in world.store.keys("project/") if key.endswith(".pack")))
    machine = world.machine()
    world.take_up(machine)
    until(lambda: world.end(1), "the first attempt is given up")
    ended = world.end(1)
    assert ended is not None
    assert ended["reason"] == "NOT_STARTED"
    assert ended["message"] == "the files of project are not in the store"


@pytest.mark.parametrize("url", ["https://somewhere/run-1", "s3://b/run 1", "s3:///run-1"])
def test_what_is_not_an_address_is_refused(agent: Agent, url: str) -> None:
    assert agent.call("take-up", {"url": url}).error["code"] == "bad-request"
