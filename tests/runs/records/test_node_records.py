"""How a run ended, by how it ended on each of its machines."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.agent.end_reason import RETRIED, EndReason
from runctl.agent.spec import EndRecord
from runctl.runs.records.node_records import decide_run_end, first_cause


def end(
    reason: EndReason = EndReason.COMPLETED,
    at: float = 100.0,
    *,
    caused_by: int | None = None,
    exit_code: int | None = None,
    message: str = "it ended",
    cause: EndReason | None = None,
    gone: tuple[int, ...] = (),
) -> EndRecord:
    return EndRecord(
        reason,
        at + 5,
        exit_code,
        message=message,
        caused_by=caused_by,
        script_ended_at=at,
        cause=cause,
        gone=gone,
    )


STOPPED_BY_1 = end(EndReason.STOPPED, 103.0, caused_by=1, message="node 1: exit code 3")
CUT_OFF = end(EndReason.STOPPED, 103.0, caused_by=0, cause=EndReason.LOST, message="node 0 has been silent")
WITHOUT_2 = end(exit_code=0, gone=(2,))


@pytest.mark.parametrize(
    ("ends", "least", "rank", "reason"),
    [
        ({0: end(exit_code=0), 1: end(exit_code=0)}, 2, None, EndReason.COMPLETED),
        ({0: STOPPED_BY_1, 1: end(EndReason.FAILED, exit_code=3), 2: STOPPED_BY_1}, 3, 1, EndReason.FAILED),
        # The machine that all call lost was cut off, and has called rank 0 lost.
        ({0: STOPPED_BY_1, 1: end(EndReason.STOPPED, caused_by=0), 2: STOPPED_BY_1}, 3, 1, EndReason.LOST),
        # Its machine is gone, and the provider says so late.
        ({0: STOPPED_BY_1, 1: EndRecord(EndReason.INTERRUPTED, 500.0)}, 2, 1, EndReason.INTERRUPTED),
        # Rank 0 had heard another failure first, but this script had failed before.
        (
            {0: STOPPED_BY_1, 1: end(EndReason.FAILED, 102.0), 2: end(EndReason.FAILED, 101.0)},
            3,
            2,
            EndReason.FAILED,
        ),
        # Nobody was told anything: the earliest counts.
        (
            {0: end(EndReason.FAILED, 102.0), 1: end(EndReason.OUT_OF_MEMORY, 101.0)},
            2,
            1,
            EndReason.OUT_OF_MEMORY,
        ),
        # Two were enough.
        ({0: end(), 1: end(), 2: end(EndReason.INTERRUPTED)}, 2, None, EndReason.COMPLETED),
        ({0: end(), 1: end(), 2: end(EndReason.INTERRUPTED)}, 3, 2, EndReason.INTERRUPTED),
        ({0: end(), 1: end(), 2: end(EndReason.FAILED)}, 2, 2, EndReason.FAILED),
        # The run has gone on without a machine: how it ended there is not the run's, whatever it says.
        ({0: WITHOUT_2, 1: WITHOUT_2, 2: CUT_OFF}, 2, None, EndReason.COMPLETED),
        ({0: WITHOUT_2, 1: end(), 2: end(EndReason.FAILED)}, 2, None, EndReason.COMPLETED),
        ({0: WITHOUT_2, 1: end(), 2: end(EndReason.LOST)}, 2, None, EndReason.COMPLETED),
        (
            {0: replace(STOPPED_BY_1, gone=(2,)), 1: end(EndReason.FAILED), 2: CUT_OFF},
            2,
            1,
            EndReason.FAILED,
        ),
        # Rank 0 has completed, and had not noticed that a machine could not reach it.
        ({0: end(), 1: end(), 2: CUT_OFF}, 2, None, EndReason.COMPLETED),
        ({0: end(), 1: end(), 2: CUT_OFF}, 3, 2, EndReason.LOST),
        ({0: end(), 1: CUT_OFF}, 2, 1, EndReason.LOST),
        # Each has called the other lost: rank 0 has the word.
        ({0: replace(STOPPED_BY_1, cause=EndReason.LOST), 1: CUT_OFF}, 2, 1, EndReason.LOST),
        # The script failed on rank 0 after the other one was cut off.
        ({0: end(EndReason.FAILED, 200.0), 1: CUT_OFF}, 2, 0, EndReason.FAILED),
        # One was cut off while another one failed.
        (
            {0: replace(STOPPED_BY_1, cause=EndReason.FAILED), 1: end(EndReason.FAILED), 2: CUT_OFF},
            3,
            1,
            EndReason.FAILED,
        ),
        # Rank 0 is lost, and those that could not reach it say so.
        ({0: EndRecord(EndReason.INTERRUPTED, 500.0), 1: CUT_OFF, 2: CUT_OFF}, 2, 0, EndReason.INTERRUPTED),
        ({0: end(EndReason.LOST), 1: CUT_OFF}, 2, 0, EndReason.LOST),
        # Its machine was taken back before it could write down how it ended, which the others had heard.
        (
            {
                0: EndRecord(EndReason.INTERRUPTED, 500.0),
                1: end(EndReason.STOPPED, caused_by=0, cause=EndReason.STOPPED),
            },
            2,
            0,
            EndReason.STOPPED,
        ),
    ],
)
def test_the_first_cause_is_the_runs(
    ends: dict[int, EndRecord], least: int, rank: int | None, reason: EndReason
) -> None:
    assert first_cause(ends, least) == rank
    decided = decide_run_end(ends, least)
    assert (decided.reason, decided.caused_by) == (reason, rank)
    assert decided.ended_at == max(each.ended_at for each in ends.values())


def test_the_message_names_the_machine_and_the_exit_code_is_its_own() -> None:
    decided = decide_run_end(
        {0: STOPPED_BY_1, 1: end(EndReason.FAILED, exit_code=3, message="exit code 3")}, 2
    )
    assert (decided.exit_code, decided.message) == (3, "node 1: exit code 3")


ENDS = st.builds(
    end,
    st.sampled_from(list(EndReason)),
    st.floats(1, 1e6),
    caused_by=st.none() | st.integers(0, 4),
    exit_code=st.none() | st.integers(0, 255),
    cause=st.none() | st.sampled_from([EndReason.LOST, EndReason.FAILED]),
    gone=st.lists(st.integers(0, 4), max_size=2).map(tuple),
)


@pytest.mark.parametrize("first", [0, 1])
def test_the_exit_code_of_a_run_that_was_stopped_is_rank_0s_whichever_machine_was_asked_first(
    first: int,
) -> None:
    asked = end(EndReason.STOPPED, exit_code=143 if first == 0 else 0)
    told = end(EndReason.STOPPED, 101.0, exit_code=0 if first == 0 else 143, caused_by=first)
    decided = decide_run_end({first: asked, 1 - first: told}, 2)
    assert (decided.reason, decided.exit_code, decided.caused_by) == (EndReason.STOPPED, 143, first)


@given(st.lists(ENDS, min_size=1, max_size=5), st.integers(1, 5))
def test_there_is_always_one_end_and_a_completed_run_has_completed_somewhere(
    each: list[EndRecord], least: int
) -> None:
    ends = dict(enumerate(each))
    decided = decide_run_end(ends, least)
    if decided.reason is EndReason.COMPLETED:
        assert ends[0].reason is EndReason.COMPLETED
        gone = {rank for one in each for rank in one.gone}
        others = [
            one for rank, one in ends.items() if one.reason is not EndReason.COMPLETED and rank not in gone
        ]
        # Of those that it has not gone on without, none but lost ones is missing, and enough are left.
        assert all(
            one.cause is EndReason.LOST if one.caused_by == 0 else one.caused_by is None for one in others
        )
        assert all(one.run_reason in RETRIED for one in others)
        assert not others or sum(one.reason is EndReason.COMPLETED for one in each) >= least
    else:
        assert decided.caused_by is not None
        assert decided.message


@given(st.permutations(range(5)), st.integers(0, 4))
def test_of_machines_that_all_failed_by_themselves_it_is_the_earliest(order: list[int], offset: int) -> None:
    ends = {rank: end(EndReason.FAILED, 100.0 + place + offset) for place, rank in enumerate(order)}
    assert first_cause(ends, 5) == order[0]


def test_of_a_machine_that_has_said_nothing_counts_what_the_others_have_heard() -> None:
    heard = EndRecord(
        EndReason.STOPPED, 5.0, message="node 1: it failed", caused_by=1, cause=EndReason.FAILED
    )
    assert heard.run_reason is EndReason.FAILED
    assert decide_run_end({0: heard}, 2).reason is EndReason.FAILED
    assert decide_run_end({0: replace(heard, cause=None)}, 2).reason is EndReason.LOST
