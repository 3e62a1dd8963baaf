"""What a broken or hostile machine may send is an error that says so: no loop, and no fault of ours."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runctl.agent.encoding import from_json
from runctl.agent.spec import AttemptStatus, EndRecord, LogFrame, RunSpec
from runctl.core.errors import MachineError
from runctl.providers.first_boot import parse_ready
from runctl.transport.answers import answered, count, record, run_id_in, status_of
from runctl.transport.interface import Completed

NESTED = b"[" * 200_000 + b"]" * 200_000
FRAME = {"offset": 0, "length": 0, "state": "RUNNING"}
STATUS = {"run_id": "run-1", "attempt": 1, "state": "RUNNING"}
END = {"reason": "FAILED", "ended_at": 1.0}
SPEC = {"run_id": "run-1", "script": "train.py"}
NO_NUMBERS: list[Any] = [-1, -(10**400), 10**400, True, "1", {}, [], 0.5, float("nan"), float("inf")]


@pytest.mark.parametrize("value", NO_NUMBERS)
@pytest.mark.parametrize(
    ("kind", "base", "key"),
    [
        (LogFrame, FRAME, "offset"),
        (LogFrame, FRAME, "length"),
        (AttemptStatus, STATUS, "attempt"),
        (AttemptStatus, STATUS, "log_bytes"),
        (AttemptStatus, STATUS, "pid"),
        (EndRecord, END, "log_bytes"),
        (EndRecord, END, "max_rss_bytes"),
    ],
)
def test_a_count_that_is_none_is_refused_by_name(
    kind: Any, base: dict[str, Any], key: str, value: Any
) -> None:
    with pytest.raises(ValueError, match=rf"{kind.__name__}\.{key}"):
        from_json(kind, {**base, key: value})


@pytest.mark.parametrize("value", [-1.0, 10**400, 1e300, float("inf"), float("nan"), True, "1", {}])
@pytest.mark.parametrize(
    ("kind", "base", "key"),
    [
        (EndRecord, END, "ended_at"),
        (AttemptStatus, STATUS, "started_at"),
        (AttemptStatus, STATUS, "now"),
        (RunSpec, SPEC, "grace_seconds"),
    ],
)
def test_a_time_that_no_clock_shows_is_refused_by_name(
    kind: Any, base: dict[str, Any], key: str, value: Any
) -> None:
    with pytest.raises(ValueError, match=rf"{kind.__name__}\.{key}"):
        from_json(kind, {**base, key: value})


def test_an_exit_code_may_be_negative_as_an_engine_reports_it() -> None:
    assert from_json(EndRecord, {**END, "exit_code": -1}).exit_code == -1


@pytest.mark.parametrize(
    "data", [{**STATUS, "log_bytes": -1}, {**STATUS, "state": "WHAT"}, {}, [], "x", None]
)
def test_an_answer_that_is_no_record_is_the_machines_error(data: Any) -> None:
    with pytest.raises(MachineError) as caught:
        record(AttemptStatus, data)
    assert caught.value.code == "bad-answer"


@pytest.mark.parametrize("value", [*NO_NUMBERS, None])
def test_a_count_in_an_answer_is_a_number_or_the_machines_error(value: Any) -> None:
    if value is None:
        assert count({"bytes": None}, "bytes") == 0
        return
    with pytest.raises(MachineError, match="for bytes"):
        count({"bytes": value}, "bytes")


def test_json_that_is_nested_too_deep_is_the_machines_error() -> None:
    with pytest.raises(MachineError):
        answered("status", Completed(("status",), 0, NESTED, b""))
    with pytest.raises(MachineError):
        parse_ready(NESTED)
    with pytest.raises(MachineError):
        parse_ready(json.dumps({"steps": ["x"], "ok": True}).encode())


NO_RUN_IDS: list[Any] = ["", "../x", "/etc", ".config", "a/b", "x" * 65, "run-1\n", None, 3, []]


@pytest.mark.parametrize("run_id", NO_RUN_IDS)
def test_what_no_run_can_be_called_is_refused(run_id: Any) -> None:
    with pytest.raises(MachineError) as caught:
        status_of(None, {**STATUS, "run_id": run_id})
    assert caught.value.code == "bad-answer"
    with pytest.raises(MachineError, match="not the id of a run"):
        run_id_in({"run_id": run_id})


def test_how_another_run_is_does_not_answer_how_this_one_is() -> None:
    assert status_of("run-1", STATUS).run_id == status_of(None, STATUS).run_id == "run-1"
    with pytest.raises(MachineError, match="for run-1 and not for run-2"):
        status_of("run-2", STATUS)
