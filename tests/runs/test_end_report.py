from __future__ import annotations

import pytest

from runctl.agent.end_reason import EndReason
from runctl.agent.spec import EndRecord
from runctl.runs.end_report import exit_code, sentence


@pytest.mark.parametrize(
    ("reason", "code", "signal", "expected"),
    [
        (EndReason.COMPLETED, 0, None, 0),
        (EndReason.FAILED, 3, None, 3),
        (EndReason.FAILED, 255, None, 255),
        (EndReason.FAILED, None, 11, 139),
        (EndReason.FAILED, None, None, 1),
        (EndReason.OUT_OF_MEMORY, None, 9, 137),
        (EndReason.STOPPED, 0, None, 143),
        (EndReason.TIME_LIMIT, None, 15, 124),
        (EndReason.INTERRUPTED, 0, None, 143),
        (EndReason.LOST, None, None, 7),
        (EndReason.SETUP_FAILED, None, None, 1),
        (EndReason.IMAGE_FAILED, None, None, 1),
        (EndReason.NO_CAPACITY, None, None, 6),
    ],
)
def test_the_shell_sees_the_scripts_code_or_the_reasons(
    reason: EndReason, code: int | None, signal: int | None, expected: int
) -> None:
    assert exit_code(EndRecord(reason, 0.0, exit_code=code, signal=signal)) == expected


@pytest.mark.parametrize("reason", [reason for reason in EndReason if reason is not EndReason.COMPLETED])
def test_only_a_completed_run_is_a_success_for_the_shell(reason: EndReason) -> None:
    assert exit_code(EndRecord(reason, 0.0)) != 0


def test_a_completed_run_needs_no_reason() -> None:
    assert sentence("run-x", EndRecord(EndReason.COMPLETED, 0.0, message="because")) == "run-x completed"


@pytest.mark.parametrize("reason", [reason for reason in EndReason if reason is not EndReason.COMPLETED])
def test_every_reason_has_words_for_a_person(reason: EndReason) -> None:
    text = sentence("run-x", EndRecord(reason, 0.0, message="because"))

    assert text.startswith("run-x ")
    assert text.endswith("(because)")


def test_a_failure_names_its_exit_code() -> None:
    assert sentence("run-x", EndRecord(EndReason.FAILED, 0.0, exit_code=3)) == "run-x failed with exit code 3"


@pytest.mark.parametrize(
    ("reason", "checksum", "shown", "told"),
    [
        (EndReason.IMAGE_FAILED, "abc", True, False),
        (EndReason.SETUP_FAILED, "abc", True, False),
        (EndReason.IMAGE_FAILED, "abc", False, True),
        (EndReason.IMAGE_FAILED, "", True, True),
        (EndReason.LOST, "abc", True, True),
        (EndReason.TIME_LIMIT, "abc", True, True),
    ],
)
def test_what_the_log_has_shown_is_not_told_again(
    reason: EndReason, checksum: str, shown: bool, told: bool
) -> None:
    end = EndRecord(reason, 0.0, message="because", log_sha256=checksum)
    assert ("because" in sentence("run-x", end, log_was_shown=shown)) is told
