"""The process that keeps a run, with a store in a folder and a clock of the test's: what it does and for how long."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from runctl.agent.after_run import MachineEnd
from runctl.agent.checkpoints.layout import end_key
from runctl.agent.checkpoints.lease_stores import FolderLease
from runctl.agent.checkpoints.stores import FolderStore
from runctl.agent.encoding import dumps
from runctl.agent.errors import AgentError
from runctl.agent.lease import KEY, Found, Lease, encode
from runctl.agent.records import AttemptFolder, attempt_folder, taking_up_folder
from runctl.agent.spec import AttemptStatus, ContainerSpec, EndReason, EndRecord, RunSpec, RunState
from runctl.agent.stored_run import RUN, SPEC, StoredRun, status_key
from runctl.agent.supervising import machine_end, take_up
from runctl.agent.supervising.take_up import GIVE_UP_SECONDS, Request, RunKeeper
from tests.agent.metadata_service import metadata_service

ID = "run-1"
DIGEST = "sha256:1"


class World:
    """A run whose first attempt is on this machine, and what became of the machine."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = 0.0
        self.prefix = folder / "store" / ID
        self.prefix.mkdir(parents=True)
        self.store = FolderStore(self.prefix)
        self.store.put(SPEC, dumps(RunSpec(ID, "train.py", machine_end=MachineEnd())).encode())
        self.store.put(RUN, dumps(StoredRun()).encode())
        self.machine_ended = False
        monkeypatch.setenv("RUNCTL_AGENT_STATE", str(folder / "state"))
        monkeypatch.setattr(take_up, "RETRY_SECONDS", 0.0)
        monkeypatch.setattr(machine_end, "end_now", self._end_now)
        taking_up_folder(ID).mkdir(parents=True)
        self.keeper = RunKeeper(Request(str(self.prefix)), now=lambda: self.time)

    def _end_now(self, run_id: str, wanted: MachineEnd | None) -> None:
        assert (run_id, wanted) == (ID, MachineEnd())
        self.machine_ended = True

    def begin_attempt(self) -> AttemptFolder:
        self.store.put(KEY, encode(Lease(ID, attempt=1)))
        folder = attempt_folder(ID, 1)
        folder.path.mkdir(parents=True)
        (folder.path / "spec.json").write_text(dumps(RunSpec(ID, "train.py")))
        return folder


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    with metadata_service() as service:
        for name, value in service.variables.items():
            monkeypatch.setenv(name, value)
        return World(tmp_path, monkeypatch)


def test_a_store_of_no_use_for_hours_ends_the_machine(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[float] = []

    def unreadable(store: FolderStore, key: str) -> bytes:
        if key == RUN:
            rounds.append(world.time)
            world.time += GIVE_UP_SECONDS / 2 + 1
            return b"{}["
        return (world.prefix / key).read_bytes()

    monkeypatch.setattr(FolderStore, "read", unreadable)
    world.keeper.run()
    assert world.machine_ended
    assert len(rounds) == 2


def test_a_store_that_fails_once_after_a_long_attempt_does_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = world.begin_attempt()
    looks = iter(range(3))

    def conclude(_: AttemptFolder) -> tuple[EndRecord | None, None, str]:
        if next(looks) < 2:
            world.time += 2 * GIVE_UP_SECONDS / 3
            return None, None, ""
        # The store fails from here on, and the test ends with this round.
        (world.prefix / RUN).unlink()
        world.keeper.leave()
        return EndRecord(EndReason.COMPLETED, 1.0), None, ""

    monkeypatch.setattr(take_up, "conclude_if_gone", conclude)
    monkeypatch.setattr(take_up, "POLL_SECONDS", 0.0)
    world.keeper.run()
    assert next(looks, None) is None
    assert folder.path.exists()
    assert (world.prefix / end_key(1)).exists()
    assert not world.machine_ended


def test_an_end_is_put_into_the_store_once_however_long_the_lease_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = world.begin_attempt()
    folder.write_end(EndRecord(EndReason.MOVED, 1.0))
    world.store.put(KEY, encode(Lease(ID, attempt=2, holder="i-other", token="other")))
    put, tries = FolderStore.put, list[str]()

    def counted(store: FolderStore, key: str, data: bytes, *, only_new: bool = False) -> bool:
        tries.append(key)
        return put(store, key, data, only_new=only_new)

    def read(lease: FolderLease) -> Found:
        rounds.append(lease)
        if len(rounds) == 4:
            world.keeper.leave()
        return ask(lease)

    ask, rounds = FolderLease.read, list[FolderLease]()
    monkeypatch.setattr(FolderStore, "put", counted)
    monkeypatch.setattr(FolderLease, "read", read)
    monkeypatch.setattr(take_up, "ASK_SECONDS", 0.0)
    world.keeper.run()
    assert len(rounds) == 4
    assert tries.count(end_key(1)) == 1


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("registry.example:5000/team/train:v1", f"registry.example:5000/team/train@{DIGEST}"),
        ("train", f"train@{DIGEST}"),
        ("train@sha256:2", "train@sha256:2"),
    ],
)
def test_a_further_attempt_has_the_image_that_the_ones_before_have_got(
    world: World, monkeypatch: pytest.MonkeyPatch, image: str, expected: str
) -> None:
    spec = RunSpec(ID, "train.py", container=ContainerSpec(image=image))
    world.store.put(SPEC, dumps(spec).encode())
    got = AttemptStatus(ID, 1, RunState.ENDED, image_digest=DIGEST)
    world.store.put(status_key(1), dumps(got).encode())
    # The second attempt's machine did not come so far.
    world.store.put(status_key(2), dumps(AttemptStatus(ID, 2, RunState.ENDED)).encode())
    world.store.put(KEY, encode(Lease(ID, attempt=2)))
    asked: list[Mapping[str, Any]] = []

    def refuse(request: Mapping[str, Any]) -> None:
        asked.append(request["spec"])
        world.keeper.leave()
        raise AgentError("bad-request", "the test has seen enough")

    monkeypatch.setattr("runctl.agent.supervising.start.start", refuse)
    world.keeper.run()
    assert [(each["container"]["image"], each["attempt"], each["leased"]) for each in asked] == [
        (expected, 3, True)
    ]
    end = json.loads((world.prefix / end_key(3)).read_bytes())
    assert (end["reason"], end["message"]) == ("NOT_STARTED", "the test has seen enough")
