"""What is known of an unattended run: by its group, and by what its machines have written down."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from runctl.agent.end_reason import EndReason
from runctl.agent.spec import AttemptStatus, EndRecord, RunState
from runctl.agent.stored_run import StoredMachine
from runctl.core.errors import InstanceEnded
from runctl.core.ids import InstanceId, RunId
from runctl.core.run_models import GroupPhase, RunPhase, UnattendedRun
from runctl.providers.abilities.groups import GroupActivity, MachineGroup
from runctl.render.run_table import run_details
from runctl.runs.records.node_records import KnownNode, KnownNodes
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.shown_run import as_run
from runctl.runs.stored.elsewhere import StoredAttempt, told_by_store
from runctl.runs.unattended.state import GroupView, goes_on, is_over, lives, phase_of, seen, told_its_end

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
RUN = RunId("run-7kq2m9xd4t")
NAME = f"runctl-{RUN}"
MACHINE = InstanceId("i-0000000000000000a")
RECORD = RunRecord(
    id=RUN,
    provider="aws",
    region="us-east-1",
    instance_id=InstanceId(""),
    project="digits",
    script="train.py",
    args=(),
    state=RunPhase.PENDING,
    attempt=1,
    created_at=NOW,
    market="spot",
    unattended=UnattendedRun(NAME, GroupPhase.RENTING),
)
GROUP = MachineGroup(NAME, RUN, wanted=1)


@pytest.mark.parametrize(
    ("group", "machines", "phase"),
    [
        (GROUP, (), GroupPhase.RENTING),
        (GROUP, (MACHINE,), GroupPhase.HAS_MACHINE),
        (replace(GROUP, wanted=0), (), GroupPhase.IDLE),
        (replace(GROUP, wanted=0), (MACHINE,), GroupPhase.HAS_MACHINE),
        (replace(GROUP, is_ending=True), (MACHINE,), GroupPhase.ENDING),
        (None, (MACHINE,), GroupPhase.ENDING),
        (None, (), GroupPhase.GONE),
    ],
)
def test_the_phase_is_what_the_provider_shows(
    group: MachineGroup | None, machines: tuple[InstanceId, ...], phase: GroupPhase
) -> None:
    assert phase_of(GroupView(group, machines)) is phase


def test_a_group_that_finds_no_machine_says_why() -> None:
    refused = GroupActivity(NOW, "There is no Spot capacity available", failed=True)
    view = GroupView(replace(GROUP, suspended=("Launch",)), (), (refused,))
    shown = seen(RECORD, view, NOW).unattended
    assert shown is not None
    assert shown.suspended == ("Launch",)
    assert shown.activities == ("2026-11-29 12:00:00 UTC, failed: There is no Spot capacity available",)


def test_a_group_that_somebody_has_deleted_ends_the_run_and_says_so() -> None:
    ended = seen(RECORD, GroupView(None, ()), NOW)
    assert ended.end_reason is EndReason.LOST
    assert "was deleted, and not by the run" in ended.message
    assert is_over(ended)
    assert not lives(ended), "somebody who watches may recover it now"


def test_a_group_that_was_never_made_has_not_been_deleted() -> None:
    planned = replace(RECORD, unattended=UnattendedRun(NAME, GroupPhase.PLANNED))
    for _ in range(2):
        planned = seen(planned, GroupView(None, ()), NOW + timedelta(hours=1))
    assert planned.end_reason is None
    assert planned.unattended == UnattendedRun(NAME, GroupPhase.PLANNED)


def test_a_run_that_has_ended_is_over_once_its_group_is_gone() -> None:
    done = replace(RECORD, state=RunPhase.ENDED, end_reason=EndReason.COMPLETED)
    assert not is_over(seen(done, GroupView(GROUP, (MACHINE,)), NOW))
    gone = seen(done, GroupView(None, ()), NOW)
    assert (gone.end_reason, is_over(gone)) == (EndReason.COMPLETED, True)
    assert gone.needs_refresh, "its rights are left"


@pytest.mark.parametrize(
    ("reason", "phase", "another"),
    [
        (EndReason.INTERRUPTED, GroupPhase.RENTING, True),
        (EndReason.LOST, GroupPhase.HAS_MACHINE, True),
        (EndReason.INTERRUPTED, GroupPhase.GONE, False),
        (EndReason.INTERRUPTED, GroupPhase.IDLE, False),
        (EndReason.COMPLETED, GroupPhase.HAS_MACHINE, False),
        (EndReason.STOPPED, GroupPhase.ENDING, False),
    ],
)
def test_another_attempt_comes_only_from_a_group_that_rents(
    reason: EndReason, phase: GroupPhase, another: bool
) -> None:
    record = replace(RECORD, state=RunPhase.ENDED, end_reason=reason, unattended=UnattendedRun(NAME, phase))
    assert goes_on(record) is another


def attempt(number: int, seconds: float, end: EndReason | None = None, **more: object) -> StoredAttempt:
    began = NOW.timestamp() + seconds
    return StoredAttempt(
        number,
        StoredMachine(f"i-{number:017d}", began, "g5.xlarge", f"us-east-1{'abc'[number - 1]}", "spot"),
        end=EndRecord(end, began + 60) if end is not None else None,
        **more,  # type: ignore[arg-type]
    )


def not_gone(_: InstanceId) -> InstanceEnded | None:
    return None


def test_every_attempt_is_known_though_nobody_has_seen_it() -> None:
    status = AttemptStatus(
        RUN, 3, RunState.RUNNING, started_at=NOW.timestamp() + 320, now=NOW.timestamp() + 330
    )
    found = told_by_store(
        RECORD,
        [
            attempt(1, 10, EndReason.INTERRUPTED),
            attempt(2, 100),
            attempt(3, 300, status=status),
        ],
        not_gone,
    )
    assert [(each.attempt, each.end_reason) for each in found.past] == [
        (1, EndReason.INTERRUPTED),
        (2, EndReason.LOST),
    ]
    assert [each.zone for each in found.past] == ["us-east-1a", "us-east-1b"]
    assert (found.attempt, found.instance_id, found.zone) == (3, f"i-{3:017d}", "us-east-1c")
    assert (found.state, found.end_reason) == (RunPhase.RUNNING, None)
    assert found.started_at == NOW + timedelta(seconds=320)
    assert found.clock_ahead == 0


def test_a_machine_that_said_nothing_ended_as_its_provider_says() -> None:
    def taken_back(_: InstanceId) -> InstanceEnded:
        return InstanceEnded("instance i-1 is terminated: the provider took it back", interrupted=True)

    found = told_by_store(RECORD, [attempt(1, 10), attempt(2, 100)], taken_back)
    assert [each.end_reason for each in found.past] == [EndReason.INTERRUPTED]


def test_what_is_told_twice_changes_nothing() -> None:
    stored = [attempt(1, 10, EndReason.INTERRUPTED), attempt(2, 100, EndReason.COMPLETED)]
    once = told_by_store(RECORD, stored, not_gone)
    assert once.end_reason is EndReason.COMPLETED
    assert told_by_store(once, stored, not_gone) == once
    assert told_by_store(once, stored[1:], not_gone) == once


def test_an_attempt_that_has_no_machine_yet_is_not_shown() -> None:
    assert told_by_store(RECORD, [StoredAttempt(1)], not_gone) == RECORD


NODES = KnownNodes(
    "none", "", 2, tuple(KnownNode(rank, InstanceId(f"i-{rank}"), f"10.0.0.{rank}") for rank in range(2))
)


def with_head(end: EndRecord | None) -> RunRecord:
    head = NODES.nodes[0]
    nodes = NODES if end is None else NODES.with_node(head.ended(end))
    return replace(RECORD, instance_id=head.instance_id, nodes=nodes)


def test_how_many_machines_there_are_is_known_and_activities_say_why_some_are_missing() -> None:
    refused = GroupActivity(NOW, "There is no Spot capacity available", failed=True)
    view = GroupView(replace(GROUP, wanted=3), (MACHINE,), (refused,))
    shown = seen(RECORD, view, NOW).unattended
    assert shown is not None
    assert (shown.phase, shown.machines, shown.wanted) == (GroupPhase.HAS_MACHINE, 1, 3)
    assert len(shown.activities) == 1


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (None, False),
        (EndRecord(EndReason.COMPLETED, 5.0), True),
        (EndRecord(EndReason.STOPPED, 5.0), True),
        (EndRecord(EndReason.STOPPED, 5.0, caused_by=1, cause=EndReason.FAILED), True),
        (EndRecord(EndReason.STOPPED, 5.0, caused_by=1, cause=EndReason.LOST), False),
        (EndRecord(EndReason.INTERRUPTED, 5.0), False),
    ],
)
def test_rank_0_says_whether_the_run_has_ended_for_good(end: EndRecord | None, told: bool) -> None:
    assert told_its_end(with_head(end)) is told


@pytest.mark.parametrize(
    ("wanted", "machines", "end", "text"),
    [
        (1, 1, None, "has a machine; rents the next one when that is taken back"),
        (2, 2, None, "has 2 machines; rents the next one when one is taken back"),
        (2, 1, None, "has 1 of 2 machines, which wait for the others"),
        (2, 2, EndReason.LOST, "has 2 machines, which take the run up again or end the group"),
        (1, 1, EndReason.LOST, "has a machine, which takes the run up again or ends the group"),
    ],
)
def test_a_person_is_told_how_many_machines_there_are(
    wanted: int, machines: int, end: EndReason | None, text: str
) -> None:
    view = GroupView(
        replace(GROUP, wanted=wanted), tuple(InstanceId(f"i-{each}") for each in range(machines))
    )
    record = replace(seen(RECORD, view, NOW), end_reason=end)
    assert f"{NAME} {text}" in run_details(as_run(record, NOW))
