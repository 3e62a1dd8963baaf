"""The process that keeps a run, with a store in a folder and a clock of the test's: what it does and for how long."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runctl.agent.after_run import MachineEnd
from runctl.agent.checkpoints.folder_store import FolderStore
from runctl.agent.checkpoints.layout import end_key
from runctl.agent.checkpoints.lease_stores import FolderLease
from runctl.agent.encoding import dumps
from runctl.agent.end_reason import EndReason
from runctl.agent.errors import AgentError
from runctl.agent.lease import KEY, Found, Lease, encode
from runctl.agent.lease_keeper import LeaseKeeper
from runctl.agent.node_spec import NodeSpec, wanted_nodes
from runctl.agent.records import AttemptFolder, attempt_folder, taking_up_folder
from runctl.agent.spec import AttemptStatus, ContainerSpec, EndRecord, RunSpec, RunState
from runctl.agent.stored_run import MEETINGS, RUN, SPEC, StoredMachine, StoredRun, machine_key, status_key
from runctl.agent.supervising import machine_end, membership, run_keeper, taken_up_attempt
from runctl.agent.supervising.membership import GIVE_UP_SECONDS
from runctl.agent.supervising.run_keeper import Request, RunKeeper
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
        monkeypatch.setattr(run_keeper, "RETRY_SECONDS", 0.0)
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

    monkeypatch.setattr(taken_up_attempt, "conclude_if_gone", conclude)
    monkeypatch.setattr(taken_up_attempt, "POLL_SECONDS", 0.0)
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
    monkeypatch.setattr(run_keeper, "ASK_SECONDS", 0.0)
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


class Provider:
    """Says that machines have ended once it was asked often enough."""

    def __init__(self, world: World, questions: int) -> None:
        self.world, self.left, self.asked = world, questions, list[str]()

    def has_terminated(self, instance_id: str) -> bool:
        assert not self.world.machine_ended
        self.asked.append(instance_id)
        self.left -= 1
        if self.left == 2:
            raise AgentError("ec2-unreachable", "it does not answer")
        return self.left <= 0


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_machine_that_comes_to_a_run_of_several_after_its_end_leaves_that_to_rank_0_while_it_is_there(
    world: World, monkeypatch: pytest.MonkeyPatch, nodes: int
) -> None:
    node = wanted_nodes("none", nodes) if nodes > 1 else None
    spec = RunSpec(ID, "train.py", machine_end=MachineEnd(), node=node)
    world.store.put(SPEC, dumps(spec).encode())
    world.store.put(KEY, encode(Lease(ID, attempt=3)))
    world.store.put(machine_key(3), dumps(StoredMachine("i-head", 1.0)).encode())
    world.store.put(end_key(3), dumps(EndRecord(EndReason.COMPLETED, 1.0)).encode())
    provider = Provider(world, 4)
    monkeypatch.setattr(membership, "this_machine", lambda: provider)
    monkeypatch.setattr(membership, "ASK_PROVIDER_SECONDS", 0.0)
    world.keeper.run()
    assert world.machine_ended
    assert provider.asked == ([] if nodes == 1 else ["i-head"] * 4)


NODES = ("10.0.0.1", "10.0.0.2")
RANK_1 = NodeSpec(1, NODES, "none", "secret", 1, 2)


def ended_elsewhere(world: World, node: NodeSpec | None, end: EndRecord | None) -> AttemptFolder:
    """This machine had a part in the run, which has ended as attempt 2 on i-head."""
    wanted = wanted_nodes("none", 2) if node is not None else None
    spec = RunSpec(ID, "train.py", machine_end=MachineEnd(), node=wanted)
    world.store.put(SPEC, dumps(spec).encode())
    folder = world.begin_attempt()
    (folder.path / "spec.json").write_text(dumps(RunSpec(ID, "train.py", node=node)))
    if end is not None:
        folder.write_end(end)
    world.store.put(KEY, encode(Lease(ID, attempt=2)))
    world.store.put(machine_key(2), dumps(StoredMachine("i-head", 1.0)).encode())
    world.store.put(end_key(2), dumps(EndRecord(EndReason.COMPLETED, 1.0)).encode())
    return folder


@pytest.mark.parametrize(
    ("node", "end"),
    [
        (RANK_1, EndRecord(EndReason.COMPLETED, 1.0)),
        (replace(RANK_1, rank=0), EndRecord(EndReason.INTERRUPTED, 1.0)),
        (None, EndRecord(EndReason.MOVED, 1.0)),
    ],
)
def test_who_had_a_part_in_the_run_ends_the_group_where_the_machine_that_was_to_has_died_before(
    world: World, monkeypatch: pytest.MonkeyPatch, node: NodeSpec | None, end: EndRecord
) -> None:
    ended_elsewhere(world, node, end)
    provider = Provider(world, 4)
    monkeypatch.setattr(membership, "this_machine", lambda: provider)
    monkeypatch.setattr(membership, "ASK_PROVIDER_SECONDS", 0.0)
    world.keeper.run()
    assert world.machine_ended
    assert provider.asked == ["i-head"] * 4


def test_a_machine_that_ends_itself_first_leaves_the_group_to_the_one_that_has_the_results(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended_elsewhere(world, RANK_1, EndRecord(EndReason.COMPLETED, 1.0))

    class There(Provider):
        def has_terminated(self, instance_id: str) -> bool:
            self.asked.append(instance_id)
            world.keeper.leave()
            return False

    provider = There(world, 4)
    monkeypatch.setattr(membership, "this_machine", lambda: provider)
    monkeypatch.setattr(membership, "ASK_PROVIDER_SECONDS", 0.0)
    world.keeper.run()
    assert not world.machine_ended
    assert provider.asked == ["i-head"]


def test_an_attempt_that_goes_on_here_when_the_run_has_ended_has_its_end_in_the_store_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ended_elsewhere(world, RANK_1, None)
    key = end_key(folder.attempt, 1)

    class There(Provider):
        def has_terminated(self, instance_id: str) -> bool:
            if len(self.asked) == 1:
                assert not list(world.store.keys(key))
                folder.write_end(EndRecord(EndReason.STOPPED, 2.0, caused_by=0))
            return super().has_terminated(instance_id)

    provider = There(world, 5)
    monkeypatch.setattr(membership, "this_machine", lambda: provider)
    monkeypatch.setattr(membership, "ASK_PROVIDER_SECONDS", 0.0)
    world.keeper.run()
    assert list(world.store.keys(key)) == [key]


def test_a_machine_that_keeps_its_results_for_long_is_not_ended_by_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended_elsewhere(world, RANK_1, EndRecord(EndReason.COMPLETED, 1.0))
    asked: list[float] = []

    class There(Provider):
        def has_terminated(self, instance_id: str) -> bool:
            asked.append(world.time)
            world.time += GIVE_UP_SECONDS / 2
            return len(asked) == 10

    provider = There(world, 4)
    monkeypatch.setattr(membership, "this_machine", lambda: provider)
    monkeypatch.setattr(membership, "ASK_PROVIDER_SECONDS", 0.0)
    world.keeper.run()
    assert world.machine_ended
    assert len(asked) == 10


@pytest.mark.parametrize("rank", [None, 0])
def test_where_the_run_has_ended_here_its_own_process_sees_to_the_machine(
    world: World, rank: int | None
) -> None:
    ended_elsewhere(
        world, None if rank is None else replace(RANK_1, rank=0), EndRecord(EndReason.FAILED, 1.0)
    )
    world.keeper.run()
    assert not world.machine_ended


def test_what_another_machine_of_the_attempt_says_of_its_end_is_not_taken_for_rank_0s(world: World) -> None:
    folder = world.begin_attempt()
    node = NodeSpec(1, ("10.0.0.1", "10.0.0.2"), "none", "secret", 1, 2)
    (folder.path / "spec.json").write_text(dumps(RunSpec(ID, "train.py", node=node)))
    folder.write_end(EndRecord(EndReason.STOPPED, 1.0, caused_by=0, cause=EndReason.LOST))
    world.store.put(KEY, encode(Lease(ID, attempt=1, ended="STOPPED")))
    world.keeper.run()
    assert (world.prefix / end_key(1, 1)).exists()
    assert not (world.prefix / end_key(1)).exists()


AWAY = AgentError("store-away", "it does not answer")


@pytest.mark.parametrize("where", ["machine", "image", "start"])
def test_a_store_that_is_away_while_an_attempt_is_begun_costs_it_no_number(
    world: World, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Nor one of the attempts that the run may have: here it has one."""
    spec = RunSpec(ID, "train.py", container=ContainerSpec(image="train"))
    world.store.put(SPEC, dumps(spec).encode())
    world.store.put(RUN, dumps(StoredRun(max_attempts=2)).encode())
    world.store.put(KEY, encode(Lease(ID, attempt=1)))
    put, read, failures, begun = FolderStore.put, FolderStore.read, iter(range(3)), list[int]()

    def fails() -> bool:
        return next(failures, None) is not None

    def away_put(store: FolderStore, key: str, data: bytes, *, only_new: bool = False) -> bool:
        if where == "machine" and key == machine_key(2) and fails():
            raise AWAY
        return put(store, key, data, only_new=only_new)

    def away_read(store: FolderStore, key: str) -> bytes:
        if where == "image" and key == status_key(1) and fails():
            raise AWAY
        return read(store, key)

    def start(request: Mapping[str, Any]) -> None:
        if where == "start" and fails():
            raise AWAY
        begun.append(request["spec"]["attempt"])
        world.keeper.leave()
        raise AgentError("bad-request", "the test has seen enough")

    monkeypatch.setattr(FolderStore, "put", away_put)
    monkeypatch.setattr(FolderStore, "read", away_read)
    monkeypatch.setattr("runctl.agent.supervising.start.start", start)
    world.keeper.run()
    assert next(failures, None) is None, "the store was never away"
    assert begun == [2]
    assert json.loads((world.prefix / KEY).read_bytes())["attempt"] == 2
    assert json.loads((world.prefix / end_key(2)).read_bytes())["message"] == "the test has seen enough"


def test_a_number_that_somebody_else_has_gone_on_from_is_not_used_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []

    def start(request: Mapping[str, Any]) -> None:
        begun.append(request["spec"]["attempt"])
        if len(begun) == 1:
            # The lease is given up now: another machine has it for an attempt, meanwhile.
            monkeypatch.setattr(run_keeper, "RETRY_SECONDS", 0.0)
            give_up = LeaseKeeper.give_up

            def others(keeper: LeaseKeeper, ended: str = "") -> None:
                give_up(keeper, ended)
                world.store.put(KEY, encode(Lease(ID, attempt=2)))

            monkeypatch.setattr(LeaseKeeper, "give_up", others)
            raise AWAY
        world.keeper.leave()
        raise AgentError("bad-request", "the test has seen enough")

    monkeypatch.setattr("runctl.agent.supervising.start.start", start)
    world.keeper.run()
    assert begun == [1, 3]


def test_a_run_that_is_over_leaves_nothing_by_which_its_machines_know_each_other(world: World) -> None:
    node = replace(wanted_nodes("none", 2), secret="of the group")
    world.store.put(SPEC, dumps(RunSpec(ID, "train.py", machine_end=MachineEnd(), node=node)).encode())
    world.store.put(f"{MEETINGS}call/start.json", b"{}")
    world.store.put(KEY, encode(Lease(ID, attempt=1, ended="STOPPED")))
    world.keeper.run()
    assert list(world.store.keys(MEETINGS)) == []
    assert not [path for path in world.prefix.rglob("*.json") if b"of the group" in path.read_bytes()]


def test_a_store_that_refuses_deletions_keeps_no_machine_from_its_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def delete(*_: object) -> None:
        raise AgentError("store-denied", "s3:DeleteObject is not allowed")

    monkeypatch.setattr(FolderStore, "delete", delete)
    monkeypatch.setattr(world.keeper, "_head_has_ended", lambda: True)
    monkeypatch.setattr(run_keeper, "GIVE_UP_SECONDS", -1.0)
    spec = RunSpec(ID, "train.py", machine_end=MachineEnd(), node=wanted_nodes("none", 2))
    world.store.put(SPEC, dumps(spec).encode())
    world.store.put(f"{MEETINGS}call/start.json", b"{}")
    world.store.put(KEY, encode(Lease(ID, attempt=1, ended="COMPLETED")))
    rounds: list[float] = []
    monkeypatch.setattr(world.keeper, "_round", counted(world.keeper._round, rounds))
    world.keeper.run()
    assert rounds == [-1.0]
    assert world.machine_ended


def counted(call: Callable[[], float], answers: list[float]) -> Callable[[], float]:
    """It is called, and what it answers is noted."""

    def noted() -> float:
        answers.append(call())
        return answers[-1]

    return noted
