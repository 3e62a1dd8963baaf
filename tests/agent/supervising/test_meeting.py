"""The machines of a group meet for an attempt: by what each puts into the store, and as real agents that start it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from runctl.agent.checkpoint_spec import StoreSpec
from runctl.agent.checkpoints.folder_store import FolderStore
from runctl.agent.checkpoints.stores import Store, open_store
from runctl.agent.encoding import dumps, from_json, loads
from runctl.agent.errors import AgentError
from runctl.agent.node_spec import NodeSpec, wanted_nodes
from runctl.agent.spec import RunSpec
from runctl.agent.stored_run import MEETINGS, SPEC, StoredNodes, nodes_key
from runctl.agent.supervising.meeting import (
    CALL,
    CALL_SECONDS,
    Answer,
    Call,
    Meeting,
    Met,
    Start,
    node_of,
    rank_in,
)
from tests.agent.driver import Agent, lose, until
from tests.agent.metadata_service import metadata_service
from tests.agent.s3_bucket import Bucket
from tests.agent.supervising.test_take_up import ID, World, runs

ONE, TWO, THREE = (Answer(f"i-{rank}", f"10.0.0.{rank}") for rank in (1, 2, 3))


class Clock:
    """Time that passes while somebody waits, and what happens meanwhile."""

    def __init__(self) -> None:
        self.time = 0.0
        self.each: Callable[[], object] = lambda: None

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.each()


@pytest.fixture
def folder_store(tmp_path: Path) -> FolderStore:
    (tmp_path / "prefix").mkdir()
    return FolderStore(tmp_path / "prefix")


def meeting(store: Store, own: Answer, clock: Clock | None = None) -> Meeting:
    clock = clock or Clock()
    return Meeting(store, own, lambda _: None, now=clock.now, sleep=clock.sleep)


def call_of(store: Store) -> Call:
    return from_json(Call, loads(store.read(CALL)))


def nothing() -> None:
    """A machine that has nothing to prepare."""


def test_who_calls_is_rank_0_and_each_of_the_others_is_told_its_rank(folder_store: FolderStore) -> None:
    clock = Clock()
    caller = meeting(folder_store, TWO, clock)
    others = [meeting(folder_store, each) for each in (THREE, ONE)]
    clock.each = lambda: [each.invited(nothing) for each in others]
    met = caller.gathered(3, lambda: True)
    assert met is not None
    assert met.members == (TWO, ONE, THREE)
    assert [each.invited(nothing) for each in others] == [None, None]

    caller.remember(met, 4, "torchrun", 3)
    stored = from_json(StoredNodes, loads(folder_store.read(nodes_key(4))))
    assert (stored.engine, stored.least) == ("torchrun", 3)
    assert [(each.rank, each.instance_id, each.address) for each in stored.nodes] == [
        (0, "i-2", "10.0.0.2"),
        (1, "i-1", "10.0.0.1"),
        (2, "i-3", "10.0.0.3"),
    ]
    start = caller.begin(met, 4)
    assert [each.invited(nothing) for each in others] == [start, start]
    # Whoever has called does not answer itself.
    assert caller.invited(nothing) is None


def test_a_machine_that_has_answered_and_is_gone_does_not_count_for_long(folder_store: FolderStore) -> None:
    clock = Clock()
    gone, late = meeting(folder_store, ONE), meeting(folder_store, THREE)
    calls: list[str] = []

    def each() -> None:
        now = call_of(folder_store).id
        if now not in calls:
            calls.append(now)
        if len(calls) == 1:
            gone.invited(nothing)
        elif len(calls) == 3:
            late.invited(nothing)

    clock.each = each
    assert meeting(folder_store, TWO, clock).gathered(3, lambda: len(calls) < 4) is None
    assert clock.time >= 3 * CALL_SECONDS
    # What was answered to a call that came to nothing is gone with it.
    assert [key for key in folder_store.keys("meetings/") if calls[0] in key or calls[2] in key] == []


def test_it_waits_no_longer_than_it_may(folder_store: FolderStore) -> None:
    clock = Clock()
    assert meeting(folder_store, ONE, clock).gathered(2, lambda: clock.time < 5.0) is None
    assert clock.time < 7.0


def test_a_machine_is_prepared_before_it_answers(folder_store: FolderStore) -> None:
    folder_store.put(CALL, dumps(Call("call", "i-2")).encode())

    def fails() -> None:
        raise AgentError("store-away", "the project cannot be fetched")

    member = meeting(folder_store, ONE)
    with pytest.raises(AgentError):
        member.invited(fails)
    assert list(folder_store.keys("meetings/")) == []
    member.invited(nothing)
    member.invited(fails)
    assert [key.rpartition("/")[2] for key in folder_store.keys("meetings/")] == ["i-1.json"]


def test_who_comes_after_the_others_were_enough_is_not_invited(folder_store: FolderStore) -> None:
    folder_store.put(CALL, dumps(Call("call", "i-2")).encode())
    meeting(folder_store, TWO).begin(Met("call", (TWO, ONE)), 1)
    assert meeting(folder_store, THREE).invited(nothing) is None
    assert meeting(folder_store, ONE).invited(nothing) is not None


def test_nothing_is_left_of_earlier_calls_when_it_is_called_anew_or_the_run_is_over(
    folder_store: FolderStore,
) -> None:
    caller = meeting(folder_store, TWO)
    caller.begin(Met("before", (TWO, ONE)), 1)
    folder_store.put(f"{MEETINGS}before/answers/i-1.json", dumps(ONE).encode())
    assert caller.gathered(1, lambda: True) is not None
    assert list(folder_store.keys(MEETINGS)) == []
    caller.begin(Met("now", (TWO, ONE)), 2)
    assert len(list(folder_store.keys(MEETINGS))) == 1
    meeting(folder_store, ONE).forget()
    assert list(folder_store.keys(MEETINGS)) == []


def test_machines_that_may_not_delete_in_the_store_meet_all_the_same_and_say_so_once(
    folder_store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused, said = AgentError("store-denied", "s3:DeleteObject is not allowed"), list[str]()

    def delete(*_: object) -> None:
        raise refused

    monkeypatch.setattr(FolderStore, "delete", delete)
    clock = Clock()
    caller = Meeting(folder_store, TWO, said.append, now=clock.now, sleep=clock.sleep)
    member = meeting(folder_store, ONE)
    caller.begin(Met("before", (TWO, ONE)), 1)
    # The first call of this attempt is answered by too few.
    clock.each = lambda: [member.invited(nothing)]
    assert caller.gathered(3, lambda: clock.time < 2 * CALL_SECONDS) is None
    met = caller.gathered(2, lambda: True)
    assert met is not None
    assert member.invited(nothing) is None
    assert member.invited(nothing) is None
    start = caller.begin(met, 2)
    assert member.invited(nothing) == start
    caller.forget()
    assert [text for text in said if refused.message in text] == said[:1]

    refused.code = "store-away"
    with pytest.raises(AgentError):
        caller.forget()


def test_a_machine_without_an_address_takes_no_part(folder_store: FolderStore) -> None:
    nowhere = meeting(folder_store, Answer("i-1", ""))
    with pytest.raises(AgentError, match="private address"):
        nowhere.gathered(2, lambda: True)
    folder_store.put(CALL, dumps(Call("call", "i-2")).encode())
    with pytest.raises(AgentError, match="private address"):
        nowhere.invited(nothing)
    assert list(folder_store.keys("meetings/")) == []


def test_each_machine_has_the_same_but_for_its_rank_and_another_attempt_has_other_ports() -> None:
    wanted = wanted_nodes("torchrun", 2, ("--nproc-per-node", "1"))
    assert (wanted.count, wanted.enough) == (2, 2)
    start = Start(2, (ONE, TWO), "secret")
    assert [rank_in(start, each.instance_id) for each in (ONE, TWO, THREE)] == [0, 1, None]
    first, second = (node_of(start, wanted, rank, "run-1") for rank in (0, 1))
    assert first.addresses == ("10.0.0.1", "10.0.0.2")
    assert (second.rank, second.address, second.options) == (1, "10.0.0.2", ("--nproc-per-node", "1"))
    assert first.group_id == second.group_id
    assert (first.group_port, first.engine_port) == (second.group_port, second.engine_port)
    later = node_of(Start(3, (ONE, TWO), "secret"), wanted, 0, "run-1")
    assert {later.group_port, later.engine_port}.isdisjoint({first.group_port, first.engine_port})


class Group:
    """Machines as a group rents them: each is told where the run is, and no more."""

    def __init__(self, world: World, stack: ExitStack) -> None:
        self.world, self._stack = world, stack

    def machine(self) -> Agent:
        number = len(self.world.machines)
        service = self._stack.enter_context(metadata_service())
        # No provider's name of a machine: nobody asks one whether it has ended.
        service.texts |= {"instance-id": f"m{number}", "local-ipv4": f"127.0.0.{20 + number}"}
        agent = self.world.machine(**service.variables)
        self.world.take_up(agent)
        return agent

    def nodes(self, attempt: int) -> list[tuple[str, str]]:
        stored = from_json(StoredNodes, loads(self.world.store.read(nodes_key(attempt))))
        return [(each.instance_id, each.address) for each in stored.nodes]

    def end(self, attempt: int, rank: int) -> dict[str, Any]:
        key = f"attempts/{attempt:04}/" + (f"nodes/{rank:04}/" if rank else "") + "end.json"
        until(lambda: list(self.world.store.keys(key)), key)
        found: dict[str, Any] = json.loads(self.world.store.read(key))
        return found


@pytest.fixture
def group(bucket: Bucket, store: Store, unpacked: Path, built: Path, tmp_path: Path) -> Iterator[Group]:
    world = World(bucket, store, unpacked / built.name, tmp_path)
    world.put_run()
    spec = from_json(RunSpec, loads(world.store.read(SPEC)))
    node = NodeSpec(0, ("", ""), "none", "", 0, 0, least=2, silence_seconds=2.0)
    world.store.put(SPEC, dumps(replace(spec, node=node)).encode())
    with ExitStack() as stack:
        yield Group(world, stack)
        for agent in world.machines:
            agent.end_everything()


@pytest.fixture
def store(bucket: Bucket) -> Iterator[Store]:
    found = open_store(StoreSpec(f"s3://{bucket.name}/runs"), ID, bucket.account)
    yield found
    found.close()


def says_only(agent: Agent, line: str) -> bool:
    return agent.output(ID) == [line]


def die(agent: Agent) -> None:
    """As a machine does that is gone without notice."""
    for pid in agent.processes_of("keep-run"):
        os.kill(pid, signal.SIGKILL)
    lose(agent, ID)


def keeps_nothing(agent: Agent) -> bool:
    return not agent.processes_of("keep-run")


@pytest.mark.parametrize("dies", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.linux
def test_where_a_machine_dies_those_that_are_there_go_on_together_as_the_next_attempt(
    group: Group, dies: int
) -> None:
    world = group.world
    first = group.machine()
    world.says(first, "1 of 2 machines are there: waiting for the others")
    second = group.machine()
    machines = [first, second]
    for each in machines:
        until(runs(each, 1), "attempt 1 runs")
    assert group.nodes(1) == [("m0", "127.0.0.20"), ("m1", "127.0.0.21")]
    for each in machines:
        until(partial(says_only, each, "attempt 1 from 0 as hush"), "the script begins")

    die(machines[dies])
    third, left = group.machine(), machines[1 - dies]
    for each in (left, third):
        until(runs(each, 2), "attempt 2 runs")
    # Whoever was quicker to take the lease is rank 0.
    assert sorted(group.nodes(2)) == sorted([(f"m{1 - dies}", f"127.0.0.2{1 - dies}"), ("m2", "127.0.0.22")])
    told = group.end(1, 1 - dies)
    assert (told["reason"], told["caused_by"], told["cause"]) == ("STOPPED", dies, "LOST")

    world.go.touch()
    until(lambda: world.lease().ended == "COMPLETED", "the run has ended")
    assert [group.end(2, rank)["reason"] for rank in (0, 1)] == ["COMPLETED"] * 2
    # Rank 0's checkpoints are the run's, and both go on from there, whatever else is on their disks.
    step = 0 if dies == 0 else 1
    assert {each.output(ID)[0] for each in (left, third)} == {f"attempt 2 from {step} as hush"}
    for each in (left, third):
        world.says(each, "the run has ended: COMPLETED")
    # The other one sees to the group's end if rank 0's machine ends before that: test_run_keeper.py asks how.
    rank_0 = next(each for each in (left, third) if f"m{world.machines.index(each)}" == group.nodes(2)[0][0])
    until(partial(keeps_nothing, rank_0), "nothing is left to do")


@pytest.mark.linux
def test_stopping_rank_0_ends_the_run_on_all_of_its_machines(group: Group) -> None:
    first = group.machine()
    group.world.says(first, "1 of 2 machines are there")
    second = group.machine()
    for each in (first, second):
        until(runs(each, 1), "attempt 1 runs")
    first.call("stop", {"run_id": ID, "attempt": 1})
    until(lambda: group.world.lease().ended == "STOPPED", "the run has ended")
    told = group.end(1, 1)
    assert (told["reason"], told["caused_by"]) == ("STOPPED", 0)
    group.world.says(second, "the run has ended: STOPPED")
