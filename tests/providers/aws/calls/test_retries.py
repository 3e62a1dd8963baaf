"""What is sent to AWS a second time when an answer is lost, and what is not."""

from __future__ import annotations

import ast
from collections.abc import Generator
from pathlib import Path

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel

import runctl
from runctl.core.errors import OutcomeUnknown
from runctl.core.ids import VolumeId
from runctl.providers.abilities.volume_plans import SnapshotRequest
from runctl.providers.aws.calls.retries import (
    LOOKED_UP,
    REPEATABLE,
    Failure,
    carried_out,
    failure_of,
    is_repeatable,
)
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ebs.snapshots import EbsSnapshots, describe_snapshots
from runctl.providers.aws.ebs.volumes import EbsVolumes
from runctl.testing.clock import ManualClock
from runctl.testing.progress import RecordedProgress
from tests.faults.proxy import FaultProxy

_CLIENTS = {
    "ec2": "ec2",
    "ecr": "ecr",
    "iam": "iam",
    "instance_connect": "ec2-instance-connect",
    "pricing": "pricing",
    "s3": "s3",
    "ssm": "ssm",
    "sts": "sts",
}


@pytest.fixture
def proxy(aws: str, monkeypatch: pytest.MonkeyPatch) -> Generator[FaultProxy]:
    """In front of moto: what passes is counted, and can be lost."""
    with FaultProxy(aws) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture
def behind(proxy: FaultProxy) -> AwsSession:
    return AwsSession(region="us-east-1", profile=None)


def _volume(session: AwsSession) -> VolumeId:
    created = session.ec2.create_volume(
        AvailabilityZone="us-east-1a",
        Size=1,
        TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "runctl:managed", "Value": "true"}]}],
    )
    return VolumeId(created["VolumeId"])


@pytest.mark.parametrize("fault", ["drop_after", "http500_after"])
def test_a_snapshot_whose_answer_is_lost_is_taken_once(
    behind: AwsSession, proxy: FaultProxy, context: AwsContext, fault: str
) -> None:
    context = _through(context, behind)
    plan = EbsSnapshots(context).plan(SnapshotRequest(volume=_volume(behind)))
    proxy.arm(fault, match="ec2:CreateSnapshot")

    snapshot = EbsSnapshots(context).create(plan, RecordedProgress())

    assert [each["SnapshotId"] for each in _snapshots_of(context, plan.volume.id)] == [snapshot.id]
    assert proxy.count("ec2:CreateSnapshot") == 1


def test_a_snapshot_that_was_never_begun_is_begun_again(
    behind: AwsSession, proxy: FaultProxy, context: AwsContext
) -> None:
    context = _through(context, behind)
    plan = EbsSnapshots(context).plan(SnapshotRequest(volume=_volume(behind)))
    proxy.arm("drop_before", match="ec2:CreateSnapshot")

    EbsSnapshots(context).create(plan, RecordedProgress())

    assert len(_snapshots_of(context, plan.volume.id)) == 1
    assert proxy.count("ec2:CreateSnapshot") == 2


def test_a_volume_whose_deletion_was_not_answered_is_deleted(
    behind: AwsSession, proxy: FaultProxy, context: AwsContext
) -> None:
    context = _through(context, behind)
    volume = _volume(behind)
    proxy.arm("drop_after", match="ec2:DeleteVolume")

    EbsVolumes(context).delete(volume)

    assert proxy.count("ec2:DeleteVolume") == 1


@pytest.mark.parametrize("fault", ["throttle", "drop_before"])
def test_what_carries_a_token_is_sent_again(behind: AwsSession, proxy: FaultProxy, fault: str) -> None:
    proxy.arm(fault, match="ec2:CreateVolume")

    _volume(behind)

    assert proxy.count("ec2:CreateVolume") == 2


def test_what_was_throttled_is_sent_again_whatever_it_is(behind: AwsSession, proxy: FaultProxy) -> None:
    volume = _volume(behind)
    proxy.arm("throttle", match="ec2:CreateSnapshot")

    behind.ec2.create_snapshot(VolumeId=volume)

    assert proxy.count("ec2:CreateSnapshot") == 2


def test_the_error_of_a_lost_answer_says_that_it_may_have_been_done(
    behind: AwsSession, proxy: FaultProxy
) -> None:
    volume = _volume(behind)
    proxy.arm("drop_after", match="ec2:CreateSnapshot")

    with pytest.raises(
        OutcomeUnknown, match="CreateSnapshot was lost, and it may have been carried out"
    ) as caught:
        behind.ec2.create_snapshot(VolumeId=volume)

    assert "runctl aws ebs list" in caught.value.hint
    assert caught.value.exit_code == 7


def test_what_may_still_be_carried_out_is_not_sent_again() -> None:
    sent: list[int] = []

    def send() -> str:
        sent.append(1)
        raise OutcomeUnknown("nothing came", may_still_happen=True)

    with pytest.raises(OutcomeUnknown):
        carried_out(send, lambda: None, ManualClock())

    assert len(sent) == 1


def test_what_is_seen_late_counts_as_the_answer() -> None:
    looks = iter([None, None, "vol-1"])

    def send() -> str:
        raise OutcomeUnknown("nothing came")

    assert carried_out(send, lambda: next(looks), ManualClock()) == "vol-1"


@pytest.mark.parametrize(
    ("status", "code", "failure"),
    [
        (503, "RequestLimitExceeded", Failure.THROTTLED),
        (400, "ThrottlingException", Failure.THROTTLED),
        (503, "SlowDown", Failure.THROTTLED),
        (429, "", Failure.THROTTLED),
        (503, "Unavailable", Failure.LOST),
        (500, "InternalError", Failure.LOST),
        (502, "", Failure.LOST),
        (400, "VolumeInUse", Failure.REFUSED),
    ],
)
def test_what_an_answer_says_of_its_request(status: int, code: str, failure: Failure) -> None:
    assert failure_of(None, status, code) is failure


def test_every_operation_that_runctl_calls_has_been_thought_of() -> None:
    """A new call that changes something needs a client token, a line in `REPEATABLE`, or somebody who looks."""
    unknown = set()
    for service, operation in _called():
        model = _model(service)
        has_token = bool(model.operation_model(operation).idempotent_members)
        if (
            not is_repeatable(service, operation, has_token=has_token)
            and (service, operation) not in LOOKED_UP
        ):
            unknown.add((service, operation))

    assert unknown == set()


@pytest.mark.parametrize(("service", "operation"), sorted(REPEATABLE | LOOKED_UP))
def test_the_lists_name_operations_that_exist(service: str, operation: str) -> None:
    model = _model(service).operation_model(operation)

    assert not model.idempotent_members, "its token does it"


def test_what_must_not_be_sent_twice_is_in_one_list_only() -> None:
    assert not REPEATABLE & LOOKED_UP


def _through(context: AwsContext, session: AwsSession) -> AwsContext:
    return AwsContext(
        config=context.config,
        session=session,
        clock=context.clock,
        prices=context.prices,
        state_directory=context.state_directory,
        cache_directory=context.cache_directory,
    )


def _snapshots_of(context: AwsContext, volume: VolumeId) -> list[dict[str, str]]:
    return [dict(each) for each in describe_snapshots(context, {"volume-id": [volume]})]


def _model(service: str) -> ServiceModel:
    if service not in _MODELS:
        _MODELS[service] = ServiceModel(Loader().load_service_model(service, "service-2"), service)
    return _MODELS[service]


_MODELS: dict[str, ServiceModel] = {}


def _called() -> set[tuple[str, str]]:
    """Every operation of AWS's that the source calls: ``….ec2.describe_volumes(…)``, ``call("send_command", …)``."""
    from botocore import xform_name

    names = {
        (service, xform_name(operation)): operation
        for service in _CLIENTS.values()
        for operation in _model(service).operation_names
    }
    found = set()
    root = Path(runctl.__file__).parent
    for file in [*root.glob("providers/**/*.py"), *root.glob("transport/*.py")]:
        tree = ast.parse(file.read_text("utf-8"))
        for node in ast.walk(tree):
            text = {node.attr} if isinstance(node, ast.Attribute) else set()
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = {node.value}
            for service in _CLIENTS.values():
                found |= {(service, names[service, word]) for word in text if (service, word) in names}
    return found
