"""Every call that changes something is in the journal, whatever becomes of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import botocore.exceptions
import botocore.session
import pytest

import runctl.providers.aws
from runctl.core.journal import Standing
from runctl.providers.aws.calls.changes import BOOKKEEPING, CHANGES, READING, describer
from runctl.providers.aws.calls.session import AwsSession
from tests.aws_fixtures import Refuse

CLIENTS = {"ec2": "ec2", "iam": "iam", "s3": "s3", "ecr": "ecr", "ssm": "ssm", "autoscaling": "autoscaling"}


def facts(session: AwsSession) -> list[str]:
    return [change.fact for change in session.journal.changes()]


def create_volume(session: AwsSession) -> None:
    tags: Any = [{"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": "data"}]}]
    session.ec2.create_volume(AvailabilityZone="us-east-1a", Size=1, TagSpecifications=tags)


def test_an_answered_call_is_told_with_the_id_and_what_takes_it_back(session: AwsSession) -> None:
    create_volume(session)
    (created,) = session.journal.changes()
    (volume,) = created.subject
    assert created.fact == f"volume {volume} (data, 1 GiB, us-east-1a) exists and is billed"
    assert created.undo == f"runctl aws ebs delete {volume}"


def test_a_refused_call_has_changed_nothing(session: AwsSession, refuse: Refuse) -> None:
    refuse(session.ec2, "CreateVolume", "VolumeLimitExceeded")
    with pytest.raises(botocore.exceptions.ClientError):
        create_volume(session)
    assert facts(session) == []


@pytest.mark.parametrize("end", [KeyboardInterrupt(), ConnectionResetError()])
def test_a_call_that_was_not_answered_may_have_changed_something(
    session: AwsSession, end: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: Any) -> None:
        raise end

    monkeypatch.setattr(session.ec2._endpoint, "make_request", cut)  # type: ignore[attr-defined]
    with pytest.raises(type(end)):
        create_volume(session)
    assert facts(session) == ["a volume (data, 1 GiB, us-east-1a) may exist, and is billed if it does"]


def test_a_fault_of_the_service_leaves_it_open(session: AwsSession) -> None:
    def fail(**_: Any) -> Any:
        answer = type("Answer", (), {"status_code": 500, "headers": {}})()
        return answer, {"Error": {"Code": "InternalError"}, "ResponseMetadata": {}}

    session.ec2.meta.events.register("before-call.ec2.CreateVolume", fail)
    with pytest.raises(botocore.exceptions.ClientError):
        create_volume(session)
    assert [change.standing for change in session.journal.changes()] == [Standing.UNDER_WAY]


def test_reading_changes_nothing(session: AwsSession) -> None:
    session.ec2.describe_volumes()
    session.s3.list_buckets()
    assert facts(session) == []


def test_every_call_of_the_provider_that_changes_something_is_in_the_table() -> None:
    """What the source calls, by botocore's own names of the operations."""
    session = botocore.session.get_session()
    unknown = []
    called = {
        found
        for path in Path(runctl.providers.aws.__file__).parent.rglob("*.py")
        for found in re.findall(r"\b(ec2|iam|s3|ecr|ssm)\.([a-z0-9_]+)\(", path.read_text())
    }
    for service, method in sorted(called):
        names = {
            botocore.xform_name(name): name
            for name in session.get_service_model(CLIENTS[service]).operation_names
        }
        operation = names.get(method)
        if operation is None or operation.startswith(READING) or operation in BOOKKEEPING:
            continue
        if operation not in CHANGES:
            unknown.append(f"{service}.{method}")
    assert unknown == []


def test_what_is_not_in_the_table_is_told_by_its_name() -> None:
    describe = describer("FrobnicateVolume")
    assert describe is not None
    assert describe({}, None).fact == "FrobnicateVolume was called, and may have been carried out"
