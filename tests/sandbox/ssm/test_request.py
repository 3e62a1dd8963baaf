"""What SendCommand and the listings may be asked, and AWS's words for what they may not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from moto.ssm.exceptions import SSMException

from runctl.sandbox.ssm import request as ssm_request

INSTANCE = "i-0123456789abcdef0"


def getter(**more: Any) -> Callable[[str, Any], Any]:
    text = {
        "InstanceIds": [INSTANCE],
        "DocumentName": "AWS-RunShellScript",
        "Parameters": {"commands": ["true"]},
        **more,
    }
    return text.get


def test_a_request_has_the_documents_defaults() -> None:
    request = ssm_request.parse(getter(), "us-east-1")

    assert (request.execution_seconds, request.timeout_seconds, request.working_directory) == (3600, 3600, "")


def test_an_execution_timeout_below_five_seconds_is_the_default() -> None:
    parameters = {"commands": ["true"], "executionTimeout": ["4"]}

    assert ssm_request.parse(getter(Parameters=parameters), "us-east-1").execution_seconds == 3600


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"InstanceIds": []}, "ValidationException"),
        ({"Targets": [{"Key": "tag:a", "Values": ["b"]}]}, "ValidationException"),
        ({"InstanceIds": [f"i-{n:017x}" for n in range(51)]}, "ValidationException"),
        ({"InstanceIds": ["not-an-id"]}, "ValidationException"),
        ({"Comment": "c" * 101}, "ValidationException"),
        ({"TimeoutSeconds": 29}, "ValidationException"),
        ({"TimeoutSeconds": 2592001}, "ValidationException"),
        ({"Parameters": {}}, "InvalidParameters"),
        ({"Parameters": {"commands": []}}, "InvalidParameters"),
        ({"Parameters": {"commands": ["true"], "other": ["1"]}}, "InvalidParameters"),
        ({"Parameters": {"commands": ["true"], "executionTimeout": ["0"]}}, "InvalidParameters"),
        ({"Parameters": {"commands": ["true"], "executionTimeout": ["172801"]}}, "InvalidParameters"),
        ({"Parameters": {"commands": ["true"], "workingDirectory": ["/a", "/b"]}}, "InvalidParameters"),
        ({"Parameters": {"commands": ["x" * (64 * 1024 + 1)]}}, "MaxDocumentSizeExceeded"),
    ],
)
def test_what_aws_refuses_is_refused_with_its_code(parameters: dict[str, Any], code: str) -> None:
    with pytest.raises(SSMException) as refused:
        ssm_request.parse(getter(**parameters), "us-east-1")

    assert refused.value.code == code


def test_pages_hold_every_row_once() -> None:
    rows, seen, token = list(range(7)), [], None

    while True:
        page, token = ssm_request.page(rows, token, 3, 50)
        seen += page
        if token is None:
            break

    assert seen == rows


@pytest.mark.parametrize("token", ["!", "LTE="])
def test_a_token_that_is_none_is_refused(token: str) -> None:
    with pytest.raises(SSMException) as refused:
        ssm_request.page([1], token, None, 50)

    assert refused.value.code == "InvalidNextToken"


def test_commands_are_filtered_by_time_and_status() -> None:
    rows = [
        {"Status": status, "DocumentName": "d", "at": datetime(2026, 1, day, tzinfo=UTC)}
        for status, day in (("Success", 1), ("Failed", 2), ("Success", 3))
    ]
    filters = [
        {"key": "Status", "value": "Success"},
        {"key": "InvokedAfter", "value": "2026-01-02T00:00:00Z"},
    ]

    assert ssm_request.filter_commands(rows, filters, "at") == [rows[2]]


@pytest.mark.parametrize(
    ("filters", "older"),
    [
        ([{"Key": "InstanceIds", "Values": ["i-2"]}], []),
        ([], [{"key": "InstanceIds", "valueSet": ["i-2"]}]),
        ([{"Key": "PingStatus", "Values": ["ConnectionLost"]}], []),
    ],
)
def test_instances_are_filtered_in_both_of_the_apis_ways(filters: Any, older: Any) -> None:
    rows = [
        {"InstanceId": "i-1", "PingStatus": "Online"},
        {"InstanceId": "i-2", "PingStatus": "ConnectionLost"},
    ]

    assert ssm_request.filter_instances(rows, filters, older) == [rows[1]]
