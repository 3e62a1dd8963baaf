"""What the agent said, or why that is no answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from runctl.agent.encoding import LARGEST_COUNT, from_json, loads
from runctl.agent.spec import AttemptStatus
from runctl.core.errors import MachineError
from runctl.core.ids import is_run_id
from runctl.transport.commands import tail
from runctl.transport.interface import Completed
from runctl.transport.log_reader import agent_error

T = TypeVar("T")


def answered(verb: str, done: Completed) -> Any:
    """The ``ok`` of it. Raises `MachineError` with the agent's code, message and hint, or as `failed` does."""
    try:
        answer = loads(done.stdout)
    except ValueError:
        raise failed(verb, done) from None
    if isinstance(answer, dict) and "ok" in answer:
        return answer["ok"]
    if isinstance(answer, dict) and "error" in answer:
        raise agent_error(answer["error"])
    raise failed(verb, done)


def failed(verb: str, done: Completed) -> MachineError:
    """It did not answer as the agent does."""
    said = tail(done.stderr) or tail(done.stdout)
    if done.exit_code == 127:
        return MachineError(
            f"the machine has no Python: {said}",
            hint="runctl needs Python 3.9 or later on the machine: install python3, or choose an image that has it",
            code="no-python",
        )
    if "SyntaxError" in said or "unsupported Python" in said:
        return MachineError(
            f"the machine's Python is too old: {said}",
            hint="runctl needs Python 3.9 or later on the machine",
            code="old-python",
        )
    return MachineError(
        f"the agent's {verb} ended with exit code {done.exit_code}: {said or 'it said nothing'}",
        code="bad-answer",
    )


def mapping(value: Any) -> Mapping[str, Any]:
    """The object that it is. Raises `MachineError`."""
    if not isinstance(value, dict):
        raise MachineError(f"the agent answered {value!r:.100} and no object", code="bad-answer")
    return value


def sequence(value: Any, key: str) -> Sequence[Mapping[str, Any]]:
    """The list under ``key``, or that it is. Raises `MachineError`."""
    found = value.get(key) if isinstance(value, dict) else value
    if not isinstance(found, list):
        raise MachineError(f"the agent answered {value!r:.100} and no list", code="bad-answer")
    return found


def record(kind: type[T], value: Any) -> T:
    """The dataclass of the agent's contract that it is. Raises `MachineError`."""
    try:
        return from_json(kind, mapping(value))
    except ValueError as error:
        raise MachineError(f"the agent's answer cannot be used: {error}", code="bad-answer") from error


def status_of(run_id: str | None, value: Any) -> AttemptStatus:
    """How an attempt of that run is, or of whichever it says. Raises `MachineError`, for another run's as well."""
    status = record(AttemptStatus, value)
    run_id_in({"run_id": status.run_id})
    if run_id is not None and status.run_id != run_id:
        raise MachineError(f"the agent answered for {status.run_id} and not for {run_id}", code="bad-answer")
    return status


def run_id_in(answer: Mapping[str, Any]) -> str:
    """What it calls a run. Raises `MachineError`."""
    found = answer.get("run_id")
    if not isinstance(found, str) or not is_run_id(found):
        raise MachineError(f"the agent answered {found!r:.100} and not the id of a run", code="bad-answer")
    return found


def count(answer: Mapping[str, Any], key: str) -> int:
    """The number of bytes, files or seconds under ``key``; 0 where it says nothing. Raises `MachineError`."""
    found = answer.get(key)
    if found is None:
        return 0
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found <= LARGEST_COUNT:
        raise MachineError(f"the agent answered {found!r:.100} for {key}", code="bad-answer")
    return found
