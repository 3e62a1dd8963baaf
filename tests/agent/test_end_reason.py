"""The table of end reasons."""

from __future__ import annotations

import copy
import json
import pickle
from collections import Counter

import pytest

from runctl.agent.encoding import dumps, from_json
from runctl.agent.end_reason import BY_ERROR, RETRIED, TOLD_TO_END, Cause, EndReason
from runctl.agent.guard.limits import EndCause
from runctl.agent.spec import EndRecord


@pytest.mark.parametrize("reason", EndReason)
def test_a_reason_is_its_word_wherever_it_goes(reason: EndReason) -> None:
    record = EndRecord(reason, 1.0)

    assert reason.value == reason.name == str.__str__(reason)
    assert EndReason(reason.value) is reason
    assert copy.deepcopy(reason) is reason
    assert pickle.loads(pickle.dumps(reason)) is reason
    assert from_json(EndRecord, json.loads(dumps(record))) == record


@pytest.mark.parametrize("reason", EndReason)
def test_a_reason_says_what_became_of_the_run(reason: EndReason) -> None:
    assert reason.row.sentence
    assert not reason.row.sentence.endswith(".")


def test_an_error_ends_an_attempt_for_one_reason() -> None:
    codes = Counter(code for reason in EndReason for code in reason.row.errors)

    assert set(codes.values()) == {1}
    assert BY_ERROR["cannot-mount"] is EndReason.DATA_FAILED
    assert BY_ERROR["no-docker"] is EndReason.IMAGE_FAILED


def test_nothing_that_the_script_did_is_tried_again() -> None:
    for reason in RETRIED:
        assert reason.row.cause not in {Cause.SCRIPT, Cause.ENVIRONMENT}


def test_what_is_asked_of_one_machine_is_asked_of_all() -> None:
    asked = {reason for reason in EndReason if reason.row.cause is Cause.REQUEST}

    assert asked <= TOLD_TO_END
    assert TOLD_TO_END - asked == {EndReason.INTERRUPTED}


def test_the_guards_limits_are_end_reasons_of_runs() -> None:
    for limit in set(EndCause) - {EndCause.UNUSED}:
        assert EndReason(limit.value).row.cause is Cause.REQUEST
