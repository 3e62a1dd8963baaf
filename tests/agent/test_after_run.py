"""When a machine that was rented for a run ends itself, as a table."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.agent.after_run import TAKEN_BACK_SECONDS, UPLOADING, EndedRun, MachineEnd, why_it_stays

END = MachineEnd(read_within_seconds=20.0, fetch_within_seconds=3600.0, keep_on_failure_seconds=600.0)
COMPLETED = EndedRun(seconds=0.0, completed=True)
FAILED = EndedRun(seconds=0.0, completed=False)


@pytest.mark.parametrize(
    ("run", "stays_until"),
    [
        (COMPLETED, 3600.0),
        (replace(COMPLETED, seconds=3600.0), None),
        (replace(COMPLETED, fetched=True), None),
        (replace(COMPLETED, read=True), 3600.0),
        (replace(COMPLETED, uploaded=True), 20.0),
        (replace(COMPLETED, uploaded=True, read=True), None),
        (replace(COMPLETED, uploaded=True, seconds=20.0), None),
        (FAILED, 3600.0),
        (replace(FAILED, fetched=True), 600.0),
        (replace(FAILED, fetched=True, seconds=600.0), None),
        (replace(FAILED, uploaded=True, read=True), 600.0),
        (replace(FAILED, taken_back=True, fetched=True), TAKEN_BACK_SECONDS),
        (replace(FAILED, taken_back=True, fetched=True, seconds=TAKEN_BACK_SECONDS), None),
    ],
)
def test_a_machine_stays_until_nothing_needs_it(run: EndedRun, stays_until: float | None) -> None:
    stay = why_it_stays(END, run)

    assert (stay.seconds if stay is not None else None) == stays_until


def test_it_stays_while_another_run_goes_on_and_where_it_is_to_be_kept() -> None:
    for end, run in (
        (END, replace(COMPLETED, fetched=True, others=True)),
        (MachineEnd(keep=True), COMPLETED),
    ):
        stay = why_it_stays(end, replace(run, seconds=1e9))
        assert stay is not None
        assert stay.seconds is None


def test_it_says_what_its_results_are_waiting_for() -> None:
    end = replace(END, results_url="s3://mine/runs")
    waiting, failed = why_it_stays(end, COMPLETED), why_it_stays(end, replace(COMPLETED, trouble="denied"))

    assert waiting is not None
    assert failed is not None
    assert (waiting.why, failed.why) == (UPLOADING, "its results could not be uploaded: denied")
    assert why_it_stays(end, replace(COMPLETED, trouble="denied", fetched=True)) is None


SECONDS = st.floats(min_value=0.0, max_value=1e6)


@given(
    st.builds(MachineEnd, st.just(value=False), SECONDS, SECONDS, SECONDS),
    st.builds(EndedRun, SECONDS, *[st.booleans()] * 3, others=st.just(value=False), uploaded=st.booleans()),
)
def test_no_machine_waits_longer_than_it_says(end: MachineEnd, run: EndedRun) -> None:
    stay = why_it_stays(end, run)
    if stay is not None:
        assert stay.seconds is not None
        assert run.seconds < stay.seconds
        later = why_it_stays(end, replace(run, seconds=stay.seconds))
        assert later is None
