"""What a name or an id on the command line of a deletion means, after an earlier one was cut short."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from runctl.machines.deletion import Decision, Verdict, decide
from runctl.machines.intents import Intent, IntentState, Kind

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
CUT_SHORT = Intent(
    "token",
    Kind.VOLUME_DELETION,
    "aws",
    "1",
    "us-east-1",
    "",
    "data",
    None,
    NOW - timedelta(minutes=5),
    IntentState.OPEN,
    "vol-1",
)
FINISHED = replace(CUT_SHORT, state=IntentState.GONE)
REFUSED = replace(CUT_SHORT, state=IntentState.NOTHING)
LONG_AGO = replace(CUT_SHORT, created_at=NOW - timedelta(hours=2))
OLDER = replace(CUT_SHORT, token="older", resource_id="vol-0", created_at=NOW - timedelta(minutes=50))


@pytest.mark.parametrize(
    ("reference", "found_id", "earlier", "expected"),
    [
        # Nothing was deleted before.
        ("data", "vol-1", [], Decision(Verdict.DELETE)),
        ("data", None, [], Decision(Verdict.NOT_FOUND)),
        # It was deleted, and the command was or was not cut short after the call.
        ("data", None, [CUT_SHORT], Decision(Verdict.ALREADY_DELETED, CUT_SHORT)),
        ("vol-1", None, [CUT_SHORT], Decision(Verdict.ALREADY_DELETED, CUT_SHORT)),
        ("data", None, [FINISHED], Decision(Verdict.ALREADY_DELETED, FINISHED)),
        ("data", None, [OLDER, CUT_SHORT], Decision(Verdict.ALREADY_DELETED, CUT_SHORT)),
        # The command was cut short before the call.
        ("data", "vol-1", [CUT_SHORT], Decision(Verdict.DELETE)),
        ("vol-1", "vol-1", [CUT_SHORT], Decision(Verdict.DELETE)),
        ("data", "vol-1", [OLDER, CUT_SHORT], Decision(Verdict.DELETE)),
        # The name belongs to another volume now: only its id deletes that.
        ("data", "vol-2", [CUT_SHORT], Decision(Verdict.ANOTHER, CUT_SHORT)),
        ("vol-2", "vol-2", [CUT_SHORT], Decision(Verdict.DELETE)),
        # A command that has finished stands in nobody's way.
        ("data", "vol-2", [FINISHED], Decision(Verdict.DELETE)),
        # Names are no patterns, and have no case in common.
        ("dat*", None, [CUT_SHORT], Decision(Verdict.NOT_FOUND)),
        ("Data", None, [CUT_SHORT], Decision(Verdict.NOT_FOUND)),
        # What says nothing.
        ("data", None, [REFUSED], Decision(Verdict.NOT_FOUND)),
        ("data", "vol-2", [REFUSED], Decision(Verdict.DELETE)),
        ("data", None, [LONG_AGO], Decision(Verdict.NOT_FOUND)),
        ("data", "vol-2", [LONG_AGO], Decision(Verdict.DELETE)),
    ],
)
def test_what_the_same_command_again_means(
    reference: str, found_id: str | None, earlier: list[Intent], expected: Decision
) -> None:
    assert decide(reference, found_id, earlier, NOW) == expected
