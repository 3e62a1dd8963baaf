"""Whose machines are given back, and whose are left alone because the run goes on."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from runctl.agent.end_reason import EndReason
from runctl.agent.spec import EndRecord
from runctl.cli.runs.results import results_command
from runctl.cli.train import launched, launched_nodes
from runctl.core.errors import Conflict, MachineError, NotFound, RunctlError, Unreachable
from runctl.core.ids import InstanceId
from runctl.core.run_models import GroupPhase, RunPhase, UnattendedRun
from runctl.machines.session import Session
from runctl.runs import asking
from runctl.runs.nodes import giving_back, keeping
from runctl.runs.nodes.giving_back import give_back_nodes
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import run_store
from runctl.runs.recovering import recover
from runctl.runs.recovering.outcome import Outcome
from runctl.runs.recovering.recover import recover_run
from tests.cli.fake_provider import an_instance
from tests.runs.nodes.records import Nobody, on_machines


class Groups:
    """They say which they have ended."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def end(self, run_id: str, _: object) -> tuple[str, ...]:
        self.ended.append(run_id)
        return ()


class Provider(Nobody):
    """Its machines run; the group that rents them can be ended."""

    def __init__(self) -> None:
        self.groups = Groups()
        self.given_back: list[str] = []

    def instance(self, identifier: InstanceId) -> Any:
        return an_instance(identifier)


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def session(provider: Provider) -> Session:
    session = Session()
    session.__dict__["_providers"] = {"aws": provider}
    rentals = SimpleNamespace(give_back=provider.given_back.append)
    session.__dict__["rentals"] = lambda _: rentals
    return session


def ended(reason: EndReason, phase: GroupPhase | None = None) -> RunRecord:
    """Of a run on two machines; with a phase, nobody watches it, and that is its group's."""
    record = on_machines("run-a", "i-0", "i-1", logs=(b"first", b"second"), region=None)
    group = None if phase is None else UnattendedRun("runctl-run-a", phase)
    return replace(record, end_reason=reason, unattended=group)


def answers(monkeypatch: pytest.MonkeyPatch, error: RunctlError | None) -> None:
    """What the machines say to whoever wants to give them back."""

    def give_back(_: object, machine: Any, __: object, **___: object) -> Any:
        if error is not None:
            raise error
        return SimpleNamespace(instance=machine.instance, stay=None, seconds=1.0, cost=None)

    monkeypatch.setattr(
        giving_back,
        "node_machine",
        lambda _, __, node: SimpleNamespace(instance=an_instance(node.instance_id)),
    )
    monkeypatch.setattr(giving_back, "give_back", give_back)
    monkeypatch.setattr(giving_back, "tidy_up", lambda *_, **__: "")


@pytest.mark.parametrize("phase", [GroupPhase.RENTING, GroupPhase.HAS_MACHINE])
def test_a_group_that_continues_the_run_is_not_ended(
    session: Session, provider: Provider, phase: GroupPhase
) -> None:
    with pytest.raises(Conflict) as caught:
        give_back_nodes(session, ended(EndReason.INTERRUPTED, phase))
    assert caught.value.code == "run-goes-on"
    assert provider.groups.ended == []


@pytest.mark.parametrize(
    ("reason", "phase"),
    [(EndReason.COMPLETED, GroupPhase.HAS_MACHINE), (EndReason.INTERRUPTED, GroupPhase.IDLE)],
)
def test_a_group_of_a_run_that_is_over_is_ended_though_its_machines_do_not_answer(
    session: Session,
    provider: Provider,
    monkeypatch: pytest.MonkeyPatch,
    reason: EndReason,
    phase: GroupPhase,
) -> None:
    answers(monkeypatch, Unreachable("it does not answer"))
    give_back_nodes(session, ended(reason, phase))
    assert provider.groups.ended == ["run-a"]


def test_a_group_whose_machine_says_that_the_run_goes_on_is_not_ended(
    session: Session, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, MachineError("run-a has not ended", code="run-goes-on"))
    with pytest.raises(MachineError, match="has not ended"):
        give_back_nodes(session, ended(EndReason.COMPLETED, GroupPhase.HAS_MACHINE))
    assert provider.groups.ended == []


@pytest.mark.parametrize(
    ("error", "left"),
    [(None, []), (Unreachable("silent"), []), (MachineError("it goes on", code="run-goes-on"), ["i-0"])],
)
def test_rank_0_on_which_the_run_goes_on_is_not_given_back(
    session: Session,
    provider: Provider,
    monkeypatch: pytest.MonkeyPatch,
    error: RunctlError | None,
    left: list[str],
) -> None:
    answers(monkeypatch, error)
    if left:
        with pytest.raises(MachineError, match="goes on"):
            give_back_nodes(session, ended(EndReason.LOST))
    else:
        give_back_nodes(session, ended(EndReason.LOST))
    if error is not None:
        assert {"i-0", "i-1"} - set(provider.given_back) == set(left)


def test_where_rank_0_goes_on_after_all_nothing_is_given_back_and_the_run_is_known_to_go_on(
    session: Session, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = ended(EndReason.LOST)
    going = replace(record, state=RunPhase.RUNNING, end_reason=None, ended_at=None)
    monkeypatch.setattr(giving_back, "confirmed", lambda *_: going)
    with pytest.raises(Conflict, match="goes on on i-0"):
        give_back_nodes(session, record)
    assert provider.given_back == []


@pytest.mark.parametrize("phase", [GroupPhase.RENTING, GroupPhase.HAS_MACHINE, GroupPhase.IDLE])
def test_bringing_the_results_of_a_run_between_two_attempts_leaves_its_group_alone(
    session: Session, provider: Provider, monkeypatch: pytest.MonkeyPatch, phase: GroupPhase
) -> None:
    record = ended(EndReason.INTERRUPTED, phase)

    def over(*_: object) -> Any:
        raise NotFound("i-0 is terminated", code="instance-ended")

    given_back: list[RunRecord] = []
    monkeypatch.setattr(asking, "refresh", lambda _, records: records)
    monkeypatch.setattr(asking, "machine_of", over)
    monkeypatch.setattr(keeping, "keep_logs", lambda *_: record)
    monkeypatch.setattr(launched_nodes, "give_machines_back", lambda _, each: given_back.append(each))
    monkeypatch.setattr(launched, "bring_home", None)
    cli = SimpleNamespace(session=session, store=SimpleNamespace(get=lambda _: record))
    with pytest.raises(NotFound):
        results_command.callback.__wrapped__(cli, "run-a", None)  # type: ignore[union-attr]
    assert given_back == ([record] if phase is GroupPhase.IDLE else [])


@pytest.mark.parametrize("phase", [GroupPhase.RENTING, GroupPhase.HAS_MACHINE])
def test_a_run_on_several_machines_that_its_group_continues_is_not_recovered(
    session: Session, provider: Provider, monkeypatch: pytest.MonkeyPatch, phase: GroupPhase
) -> None:
    record = ended(EndReason.INTERRUPTED, phase)
    run_store(session).put(record)
    monkeypatch.setattr(recover, "refresh", lambda _, records: records)
    # No recipe is needed for that, and none is here.
    recovered = recover_run(session, record)
    assert recovered.outcome is Outcome.GOES_ON
    assert "runctl-run-a" in recovered.why
    assert provider.groups.ended == []


def test_a_lost_run_whose_rank_0_goes_on_after_all_is_not_recovered(
    session: Session, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = ended(EndReason.LOST)
    lost = EndRecord(EndReason.LOST, 9.0, message="node 0 is silent")
    assert record.nodes is not None
    record = replace(record, nodes=record.nodes.with_node(record.nodes.nodes[0].ended(lost)))
    run_store(session).put(record)
    going = replace(record, state=RunPhase.RUNNING, end_reason=None, ended_at=None)
    monkeypatch.setattr(recover, "confirmed", lambda *_: going)
    recovered = recover_run(session, record)
    assert (recovered.outcome, recovered.record.end_reason) == (Outcome.GOES_ON, None)
    assert provider.given_back == []
