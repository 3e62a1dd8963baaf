"""What the machines of a further attempt are told, and what is remembered of one that could not begin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from runctl.agent.end_reason import EndReason
from runctl.agent.spec import EndRecord, MountSpec, RunSpec
from runctl.core.errors import ProviderError, RunctlError, Unreachable
from runctl.core.ids import InstanceId, VolumeId
from runctl.machines.nodes import Node, NodeGroup
from runctl.runs.records.node_records import KnownNode, KnownNodes
from runctl.runs.records.updates import with_end
from runctl.runs.recovering import run as recovered_run
from runctl.runs.recovering import several_machines
from runctl.runs.recovering.outcome import StoreAway
from runctl.runs.recovering.run import RecoveredRun
from runctl.runs.recovering.several_machines import recover_nodes, with_own_volumes
from runctl.runs.recovery import GiveUp, RecoveryRules
from tests.cli.fake_provider import an_instance
from tests.runs.recovering.recovery_machine import Recovery
from tests.runs.recovering.world import RUN
from tests.runs.sample_runs import a_run


def test_a_machine_mounts_the_copies_that_it_has_in_the_place_of_the_runs_volumes() -> None:
    mounts = (
        MountSpec("/mnt/data", "/data", False, "vol-1", "--ebs-mount"),
        MountSpec("/mnt/shared", "/shared", True, "vol-2", "--ebs-mount"),
        MountSpec("/scratch", "/scratch", False, None, "--mount"),
    )
    told = with_own_volumes(RunSpec("run-a", "train.py", mounts=mounts), {"vol-1": VolumeId("vol-9")})
    assert [each.volume_id for each in told.mounts] == ["vol-9", "vol-2", None]
    assert [each.source for each in told.mounts] == [each.source for each in mounts]


@pytest.mark.parametrize("leased", [True, False])
def test_what_another_computer_has_rented_is_given_back_only_with_the_lease(
    monkeypatch: pytest.MonkeyPatch, leased: bool
) -> None:
    given_back: list[str] = []
    nothing = SimpleNamespace(deadline=None, request=None)
    for name in (
        "check_recoverable",
        "give_back_nodes",
        "progress_of",
        "deadline_of",
        "elapsed_of",
        "history",
    ):
        monkeypatch.setattr(several_machines, name, lambda *_, **__: None)
    monkeypatch.setattr(several_machines, "rules_of", lambda _: RecoveryRules(1, 0.0))
    monkeypatch.setattr(several_machines, "decide_next", lambda *_: GiveUp("has ended"))
    monkeypatch.setattr(several_machines, "_give_back_strays", lambda run: given_back.append(run.record.id))
    run: Any = SimpleNamespace(
        record=a_run(), recipe=nothing, clock=None, session=None, lease=object() if leased else None
    )
    run.begin_search = lambda: None

    recover_nodes(run, once=True)

    assert given_back == (["run-aaaa"] if leased else [])


def known_nodes(*names: str) -> KnownNodes:
    nodes = (KnownNode(rank, InstanceId(name), f"10.0.0.{rank}") for rank, name in enumerate(names))
    return KnownNodes("none", "token", 2, tuple(nodes))


@pytest.fixture
def taken_back() -> Iterator[RecoveredRun]:
    """A run on two machines, both of which were taken back; this computer has its lease."""
    there = Recovery()
    record = replace(there.store.get(RUN), nodes=known_nodes("i-first", "i-second"))
    record = with_end(record, EndRecord(EndReason.INTERRUPTED, there.world.clock.now().timestamp()))
    there.store.put(record)
    run = RecoveredRun(there.session, record, there.world.clock, spot_is_put_off=False)
    lease: Any = SimpleNamespace(attempt=1, holds=True, begin_attempt=lambda number: number)
    run.lease = lease
    yield run
    there._exit.close()


def begin(
    run: RecoveredRun, monkeypatch: pytest.MonkeyPatch, failing: str, error: BaseException
) -> list[str]:
    """Attempt 2 begins on two machines, and one of the steps fails; those that were come to."""
    steps: list[str] = []

    def step(name: str, answer: Any = None) -> Any:
        def done(*_: object, **__: object) -> Any:
            steps.append(name)
            if name == failing:
                raise error
            return answer

        return done

    for module, name, answer in (
        (several_machines, "reach", SimpleNamespace(agent=None)),
        (several_machines, "send_kept", None),
        (several_machines, "logged_in", nullcontext()),
        (several_machines, "put_nodes", None),
        (recovered_run, "put_recipe", None),
        (recovered_run, "put_machine", None),
        (several_machines, "agents_start", None),
    ):
        monkeypatch.setattr(module, name, step(name, answer))
    machines = (an_instance(id=f"i-{rank}", private_ip=f"10.0.1.{rank}") for rank in (3, 4))
    group = NodeGroup("token", tuple(Node(rank, each) for rank, each in enumerate(machines)))
    several_machines._start(run, group, 2)
    return steps


AWAY = Unreachable("the store does not answer")
SLOW_DOWN = ProviderError("reduce your request rate", code="throttled")


@pytest.mark.parametrize("error", [AWAY, SLOW_DOWN])
@pytest.mark.parametrize("failing", ["put_nodes", "put_recipe", "put_machine"])
def test_a_store_that_is_away_when_an_attempt_is_about_to_begin_costs_the_run_no_attempt(
    taken_back: RecoveredRun, monkeypatch: pytest.MonkeyPatch, failing: str, error: RunctlError
) -> None:
    """Nor does the attempt count as one that its machines lost: they are given back, and had not heard of it."""
    before, recipe = taken_back.store.get(RUN), taken_back.recipe

    with pytest.raises(StoreAway, match=error.message):
        begin(taken_back, monkeypatch, failing, error)

    assert taken_back.store.get(RUN) == before
    assert taken_back.recipes.get(RUN) == taken_back.recipe == recipe


@pytest.mark.parametrize(
    ("failing", "error"),
    [
        ("put_recipe", KeyboardInterrupt()),
        ("logged_in", RunctlError("it refuses")),
        ("put_nodes", RunctlError("no")),
    ],
)
def test_nothing_is_remembered_of_an_attempt_that_was_cut_short_before_a_machine_heard_of_it(
    taken_back: RecoveredRun, monkeypatch: pytest.MonkeyPatch, failing: str, error: BaseException
) -> None:
    before = taken_back.store.get(RUN)
    with pytest.raises(type(error)) as caught:
        begin(taken_back, monkeypatch, failing, error)
    assert not isinstance(caught.value, StoreAway)
    assert taken_back.store.get(RUN) == before


def test_a_run_that_was_stopped_meanwhile_stays_stopped(
    taken_back: RecoveredRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        following = taken_back.store.get(RUN)
        taken_back.store.put(with_end(following, EndRecord(EndReason.STOPPED, 1.0)))
        raise AWAY

    monkeypatch.setattr(RecoveredRun, "tell", stopped)
    with pytest.raises(StoreAway):
        begin(taken_back, monkeypatch, "", AWAY)
    assert (taken_back.store.get(RUN).attempt, taken_back.store.get(RUN).end_reason) == (2, EndReason.STOPPED)


def test_others_can_read_of_an_attempts_machine_only_when_all_else_is_told(
    taken_back: RecoveredRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = begin(taken_back, monkeypatch, "", AWAY)
    assert steps[-4:] == ["put_nodes", "put_recipe", "put_machine", "agents_start"]
    assert taken_back.store.get(RUN).attempt == 2
    assert taken_back.store.get(RUN).machines == ("i-3", "i-4")
