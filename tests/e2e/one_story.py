"""What holds of a run whatever has gone wrong: nothing verified is lost, nothing runs twice, nothing is left rented,
and ``runs show`` tells one story."""

from __future__ import annotations

import re
from datetime import datetime
from itertools import pairwise
from typing import Any

from runctl.agent.end_reason import RETRIED, EndReason
from tests.e2e.command_line import CommandLine, until

OVER = {"shutting-down", "terminated"}


def check_one_story(
    runctl: CommandLine, ec2: Any, run: str, *, ends: str = "COMPLETED", is_unsure: bool = False
) -> list[Any]:
    """Once the run has ended: its attempts, of which all of that holds.

    ``is_unsure``: what was verified on one machine may have gone with that, as the hand-over says, or clocks differ.
    """
    now = runctl("runs", "show", run, "--output", "json").ok().json
    attempts: list[Any] = now["attempts"]
    text = runctl("runs", "show", run).ok().out
    assert (now["state"], now["end_reason"]) == ("ended", ends), text
    # One story: an end and its reason for each, and the last is the run's.
    assert [each["attempt"] for each in attempts] == list(range(1, len(attempts) + 1))
    assert attempts[-1]["end_reason"] == ends
    assert all(EndReason(each["end_reason"]) in RETRIED for each in attempts[:-1]), attempts
    assert all(each["message"] for each in attempts), attempts
    for each in attempts if len(attempts) > 1 else ():
        row = rf"^{each['attempt']}\s+{each['instance_id']}\s.*\s{each['end_reason']}\b"
        assert len(re.findall(row, text, re.MULTILINE)) == 1, text
    # What has begun goes on from the newest that was verified, and begins when nothing else goes on.
    began = [each for each in attempts if each["started_at"]]
    if not is_unsure:
        for before, after in pairwise(began):
            assert (after["resumed_step"] or 0) >= (before["step"] or 0), attempts
            assert datetime.fromisoformat(before["ended_at"]) <= datetime.fromisoformat(after["started_at"])
    # Each machine was rented for one attempt, is paid no longer, and the ledger knows it.
    until(lambda: _rented(ec2) == [], seconds=60, what="all machines to be given back")
    ledger = runctl("cost", "run", run, "--output", "json").ok().json
    assert all(each["ended_at"] for each in ledger["attempts"]), "a machine's time goes on in the ledger"
    assert ec2.describe_launch_templates()["LaunchTemplates"] == []
    until(lambda: {each["State"] for each in _volumes(ec2)} <= {"available"}, what="the volumes to be free")
    return attempts


def _rented(ec2: Any) -> list[str]:
    found = [item for each in ec2.describe_instances()["Reservations"] for item in each["Instances"]]
    return [each["InstanceId"] for each in found if each["State"]["Name"] not in OVER]


def _volumes(ec2: Any) -> list[Any]:
    return list(ec2.describe_volumes()["Volumes"])
