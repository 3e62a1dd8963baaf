"""What a command that ends early says of what it has changed."""

from __future__ import annotations

import json

import pytest

from runctl.cli.framework.failures import report
from runctl.cli.left import Left
from runctl.core.errors import Conflict, Interrupted
from runctl.core.journal import Change, Effect, Journal

VOLUME = Change(
    "volume",
    ("vol-1",),
    Effect.CREATED,
    "volume vol-1 exists and is billed",
    undo="runctl aws ebs delete vol-1",
)


def left(*changes: Change, options: tuple[str, ...] = ()) -> Left:
    journal = Journal()
    for change in changes:
        journal.record(change)
    return Left.of([(journal, options)])


def test_ctrl_c_says_what_exists_how_to_take_it_back_and_how_to_go_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert report(KeyboardInterrupt(), [], left(VOLUME)) == 130
    assert capsys.readouterr().err == (
        "error: interrupted\n"
        "so far: volume vol-1 exists and is billed; undo: runctl aws ebs delete vol-1\n"
        "hint: run the same command again to continue\n"
    )


def test_ctrl_c_before_any_change_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    report(KeyboardInterrupt(), [], left())
    assert capsys.readouterr().err == "error: interrupted; nothing was changed\n"


def test_where_a_machine_was_reached_nothing_is_promised(capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal()
    journal.reached_machines = True
    report(KeyboardInterrupt(), [], Left.of([(journal, ())]))
    assert capsys.readouterr().err == "error: interrupted\n"


def test_any_error_says_it_and_keeps_its_own_hint(capsys: pytest.CaptureFixture[str]) -> None:
    report(Conflict("it is taken", hint="choose another"), [], left(VOLUME))
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["error", "so far", "hint"]
    assert lines[-1] == "hint: choose another"


def test_what_the_error_has_said_itself_is_not_said_again(capsys: pytest.CaptureFixture[str]) -> None:
    report(Interrupted("stopped", hint="undo: runctl aws ebs delete vol-1"), [], left(VOLUME))
    assert "so far" not in capsys.readouterr().err


def test_commands_lead_to_the_same_account_and_region(capsys: pytest.CaptureFixture[str]) -> None:
    report(KeyboardInterrupt(), [], left(VOLUME, options=("--region", "eu-west-1")))
    assert "undo: runctl aws ebs delete vol-1 --region eu-west-1\n" in capsys.readouterr().err


def test_programs_get_it_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    report(KeyboardInterrupt(), ["--output", "json"], left(VOLUME))
    error = json.loads(capsys.readouterr().err)["error"]
    assert error["changes"] == [
        {
            "kind": "volume",
            "ids": ["vol-1"],
            "effect": "made",
            "certain": True,
            "fact": "volume vol-1 exists and is billed",
            "look": None,
            "go_on": None,
            "undo": "runctl aws ebs delete vol-1",
        }
    ]
