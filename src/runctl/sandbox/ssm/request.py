"""What Run Command's requests may say, checked with AWS's words: pure functions of the request."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from moto.ssm.exceptions import SSMException, ValidationException

DEFAULT_SECONDS = 3600
SHORTEST_EXECUTION_SECONDS = 5
"""What is shorter, the agent takes for its default."""
LONGEST_EXECUTION_SECONDS = 172800
MOST_PARAMETER_BYTES = 64 * 1024
"""A document with its parameters filled in is no larger."""
PARAMETERS = frozenset({"commands", "workingDirectory", "executionTimeout"})

_EXECUTION = re.compile(r"([1-9][0-9]{0,4})|(1[0-6][0-9]{4})|(17[0-1][0-9]{3})|(172[0-7][0-9]{2})|(172800)")
_INSTANCE = re.compile(r"i-(\w{8}|\w{17})|mi-\w{17}")
_INFORMATION_KEYS = {
    "InstanceIds": "InstanceId",
    "PingStatus": "PingStatus",
    "PlatformTypes": "PlatformType",
    "AgentVersion": "AgentVersion",
    "ResourceType": "ResourceType",
}

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """A SendCommand that may be carried out."""

    document_name: str
    instance_ids: tuple[str, ...]
    targets: tuple[dict[str, Any], ...]
    commands: tuple[str, ...]
    working_directory: str
    execution_seconds: int
    timeout_seconds: int
    """For the delivery."""
    comment: str
    parameters: Mapping[str, Sequence[str]]
    bucket: str
    bucket_region: str
    prefix: str


def parse(get: Callable[[str, Any], Any], region: str) -> Request:
    """The request behind the API's fields, which ``get(name, default)`` returns. Raises `SSMException`."""
    instance_ids, targets = tuple(get("InstanceIds", None) or ()), tuple(get("Targets", None) or ())
    comment, timeout = get("Comment", None) or "", int(get("TimeoutSeconds", None) or DEFAULT_SECONDS)
    parameters: Mapping[str, Sequence[str]] = get("Parameters", None) or {}
    _check_shape(instance_ids, targets, comment, timeout)
    return Request(
        document_name=(get("DocumentName", None) or "").rpartition("/")[2],
        instance_ids=instance_ids,
        targets=targets,
        commands=_commands(parameters),
        working_directory=_single(parameters, "workingDirectory", ""),
        execution_seconds=_execution_seconds(parameters),
        timeout_seconds=timeout,
        comment=comment,
        parameters=parameters,
        bucket=get("OutputS3BucketName", None) or "",
        bucket_region=get("OutputS3Region", None) or region,
        prefix=get("OutputS3KeyPrefix", None) or "",
    )


def filter_commands(
    rows: Sequence[dict[str, Any]], filters: Sequence[Mapping[str, str]], time_key: str
) -> list[dict[str, Any]]:
    """Rows that satisfy every ``CommandFilter``. Raises `SSMException` for a key that AWS does not know."""
    kept = list(rows)
    for item in filters:
        key, value = item["key"], item["value"]
        if key == "Status":
            kept = [row for row in kept if row["Status"] == value]
        elif key == "DocumentName":
            kept = [row for row in kept if row["DocumentName"] == value]
        elif key in {"InvokedAfter", "InvokedBefore"}:
            moment = _moment(value)
            after = key == "InvokedAfter"
            kept = [row for row in kept if (_aware(row[time_key]) >= moment) is after]
        else:
            raise SSMException("InvalidFilterKey", f"The filter key {key} is not valid.")
    return kept


def filter_instances(
    rows: Sequence[dict[str, Any]],
    filters: Sequence[Mapping[str, Any]],
    older: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Rows that satisfy every filter, of the newer kind (``Key``, ``Values``) or the older (``key``, ``valueSet``)."""
    kept = list(rows)
    for key, values in [(f["Key"], f["Values"]) for f in filters] + [
        (f["key"], f["valueSet"]) for f in older
    ]:
        if key not in _INFORMATION_KEYS:
            raise SSMException("InvalidFilterKey", f"The filter key {key} is not valid.")
        kept = [row for row in kept if row[_INFORMATION_KEYS[key]] in values]
    return kept


def page(rows: Sequence[T], token: str | None, most: int | None, limit: int) -> tuple[list[T], str | None]:
    """The rows of one page and the token of the next. Raises `SSMException` for a token that is none."""
    size = int(most) if most else limit
    if not 1 <= size <= limit:
        raise ValidationException(
            f"1 validation error detected: Value '{size}' at 'maxResults' failed to satisfy constraint: Member must"
            f" have value between 1 and {limit}"
        )
    try:
        start = int(base64.b64decode(token, validate=True)) if token else 0
    except ValueError:
        start = -1
    if start < 0:
        raise SSMException("InvalidNextToken", "The specified token isn't valid.")
    end = start + size
    following = base64.b64encode(str(end).encode()).decode() if end < len(rows) else None
    return list(rows[start:end]), following


def _check_shape(
    instance_ids: Sequence[str], targets: Sequence[Mapping[str, Any]], comment: str, timeout: int
) -> None:
    if not instance_ids and not targets:
        raise ValidationException("InstanceIds or Targets must be specified.")
    if instance_ids and targets:
        raise ValidationException("InstanceIds and Targets can not be specified at the same time.")
    if len(instance_ids) > 50:
        raise _constraint("instanceIds", "Member must have length less than or equal to 50")
    for instance_id in instance_ids:
        if not _INSTANCE.fullmatch(instance_id):
            raise _constraint(
                "instanceIds", "Member must satisfy constraint: [Member must satisfy a pattern]"
            )
    if len(targets) > 5:
        raise _constraint("targets", "Member must have length less than or equal to 5")
    if len(comment) > 100:
        raise _constraint("comment", "Member must have length less than or equal to 100")
    if timeout < 30:
        raise _constraint("timeoutSeconds", "Member must have value greater than or equal to 30")
    if timeout > 2592000:
        raise _constraint("timeoutSeconds", "Member must have value less than or equal to 2592000")


def _commands(parameters: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    unknown = sorted(set(parameters) - PARAMETERS)
    if unknown:
        raise SSMException(
            "InvalidParameters", f"Parameters [{', '.join(unknown)}] are not defined in the document."
        )
    commands = tuple(parameters.get("commands", ()))
    if not commands:
        raise SSMException("InvalidParameters", "Parameter commands requires at least 1 value.")
    if sum(len(line.encode("utf-8", "surrogatepass")) for line in commands) > MOST_PARAMETER_BYTES:
        raise SSMException("MaxDocumentSizeExceeded", "The size of the document exceeds the limit of 64 KB.")
    return commands


def _execution_seconds(parameters: Mapping[str, Sequence[str]]) -> int:
    text = _single(parameters, "executionTimeout", str(DEFAULT_SECONDS))
    if not _EXECUTION.fullmatch(text):
        raise SSMException(
            "InvalidParameters",
            f"Parameter executionTimeout: {text} does not match the allowed pattern {_EXECUTION.pattern}.",
        )
    seconds = int(text)
    return seconds if seconds >= SHORTEST_EXECUTION_SECONDS else DEFAULT_SECONDS


def _single(parameters: Mapping[str, Sequence[str]], name: str, default: str) -> str:
    values = parameters.get(name)
    if values is None:
        return default
    if len(values) != 1:
        raise SSMException("InvalidParameters", f"Parameter {name} requires exactly 1 value.")
    return values[0]


def _constraint(name: str, what: str) -> SSMException:
    return ValidationException(
        f"1 validation error detected: Value at '{name}' failed to satisfy constraint: {what}"
    )


def _moment(text: str) -> datetime:
    try:
        return _aware(datetime.fromisoformat(text))
    except ValueError as error:
        raise ValidationException(f"{text} is not an ISO 8601 date and time.") from error


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
