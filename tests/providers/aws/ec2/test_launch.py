"""A plan becomes one tagged instance with its volumes, or nothing that is left running."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from runctl.core import tags as tag
from runctl.core.errors import (
    CapacityError,
    Conflict,
    InstanceEnded,
    PermissionDenied,
    ProviderError,
    QuotaExceeded,
)
from runctl.core.journal import Standing
from runctl.core.machine_models import InstanceState, Market
from runctl.providers.abilities.volume_plans import VolumeRequest
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.ec2.launch import ended, run_instances_arguments
from runctl.providers.aws.iam.roles import DEFAULT_PROFILE
from runctl.providers.instance_plans import InstanceRequest, VolumeMount
from runctl.testing.clock import ManualClock
from runctl.testing.progress import RecordedProgress
from tests.aws_fixtures import Refuse, context_of


def a_volume(provider: AwsProvider, name: str = "datasets", **changes: Any) -> str:
    return provider.volumes.create(provider.volumes.plan(VolumeRequest(1, name=name, **changes))).id


def without_profile(session: AwsSession) -> None:
    session.iam.remove_role_from_instance_profile(
        InstanceProfileName=DEFAULT_PROFILE, RoleName=DEFAULT_PROFILE
    )
    session.iam.delete_instance_profile(InstanceProfileName=DEFAULT_PROFILE)
    session.iam.delete_role(RoleName=DEFAULT_PROFILE)


def live(session: AwsSession) -> list[dict[str, Any]]:
    answer: Any = session.ec2.describe_instances(
        Filters=[{"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}]
    )
    return [item for reservation in answer["Reservations"] for item in reservation["Instances"]]


def test_the_instance_and_all_that_comes_with_it_is_tagged_in_the_call_that_makes_it(
    provider: AwsProvider, session: AwsSession
) -> None:
    plan = provider.renting.plan(
        InstanceRequest(
            market=Market.SPOT, zone="us-east-1a", data_volume_size_gib=5, tags={"team": "vision"}
        )
    )
    calls: list[dict[str, Any]] = []
    session.ec2.meta.events.register(
        "provide-client-params.ec2.RunInstances", lambda params, **_: calls.append(params)
    )

    instance = provider.renting.create(plan)

    specifications = {s["ResourceType"]: s["Tags"] for s in calls[0]["TagSpecifications"]}
    assert set(specifications) == {"instance", "volume", "network-interface", "spot-instances-request"}
    for tags in specifications.values():
        assert {"Key": tag.OWNED, "Value": tag.OWNED_VALUE} in tags
        assert {"Key": "team", "Value": "vision"} in tags
    assert instance.tags[tag.PROJECT] == "digits"
    assert instance.owner == provider.session.identity.name


def test_the_launch_asks_for_safe_defaults(provider: AwsProvider) -> None:
    plan = provider.renting.plan(InstanceRequest(data_volume_size_gib=5, root_volume_size_gib=40))

    arguments = run_instances_arguments(plan, "/dev/xvda", "runctl-instance")

    assert arguments["MetadataOptions"]["HttpTokens"] == "required"
    assert arguments["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
    assert arguments["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert arguments["ClientToken"] == plan.client_token
    root, data = arguments["BlockDeviceMappings"]
    assert root["DeviceName"] == "/dev/xvda"
    assert root["Ebs"] == {
        "VolumeType": "gp3",
        "Encrypted": True,
        "DeleteOnTermination": True,
        "VolumeSize": 40,
    }
    assert data["Ebs"]["VolumeSize"] == 5
    assert data["Ebs"]["DeleteOnTermination"] is True
    assert "InstanceMarketOptions" not in arguments


def test_a_tag_that_the_metadata_service_cannot_show_does_not_stop_the_launch(provider: AwsProvider) -> None:
    shown = provider.renting.plan(InstanceRequest(tags={"team": "x"}))
    hidden = provider.renting.plan(InstanceRequest(tags={"Cost Center": "x"}))

    options = [run_instances_arguments(p, "/dev/xvda", None)["MetadataOptions"] for p in (shown, hidden)]

    assert [o["InstanceMetadataTags"] for o in options] == ["enabled", "disabled"]


def test_spot_is_asked_for_once_and_without_a_bid(provider: AwsProvider) -> None:
    plan = provider.renting.plan(InstanceRequest(market=Market.SPOT))

    options = run_instances_arguments(plan, "/dev/xvda", None)["InstanceMarketOptions"]

    assert options["SpotOptions"] == {
        "SpotInstanceType": "one-time",
        "InstanceInterruptionBehavior": "terminate",
    }


def test_a_refused_spot_launch_is_not_tried_on_demand(
    provider: AwsProvider, session: AwsSession, refuse: Refuse
) -> None:
    plan = provider.renting.plan(InstanceRequest(market=Market.SPOT, zone="us-east-1a"))
    message = "There is no Spot capacity available in us-east-1a; try us-east-1b"
    refused = refuse(session.ec2, "RunInstances", "InsufficientInstanceCapacity", message)

    with pytest.raises(CapacityError, match="us-east-1a"):
        provider.renting.create(plan)

    assert len(refused) == 1
    assert live(session) == []


def test_the_same_plan_twice_makes_one_instance(provider: AwsProvider, session: AwsSession) -> None:
    volume = a_volume(provider)
    plan = provider.renting.plan(InstanceRequest(volumes=(VolumeMount("datasets", "/mnt/data"),)))

    first, second = provider.renting.create(plan), provider.renting.create(plan)

    assert first.id == second.id
    assert len(live(session)) == 1
    assert volume in {attached.volume_id for attached in second.volumes}


def test_a_plan_whose_instance_has_ended_is_not_carried_out_again(provider: AwsProvider) -> None:
    plan = provider.renting.plan(InstanceRequest())
    provider.renting.terminate(provider.renting.create(plan).id)

    with pytest.raises(Conflict, match="carried out before"):
        provider.renting.create(plan)


def test_volumes_are_attached_when_create_returns_and_know_their_mount_points(provider: AwsProvider) -> None:
    volume = a_volume(provider)
    plan = provider.renting.plan(
        InstanceRequest(
            volumes=(VolumeMount("datasets", "/mnt/data"),), data_volume_size_gib=5, data_mount_point="/x"
        )
    )

    instance = provider.renting.create(plan)

    mounted = {v.mount_point: v for v in instance.volumes if v.mount_point}
    assert set(mounted) == {"/mnt/data", "/x"}
    assert mounted["/mnt/data"].volume_id == volume
    assert provider.volumes.find("datasets").attached_to == instance.id


def test_an_instance_whose_volume_cannot_be_attached_is_terminated_and_the_error_says_so(
    provider: AwsProvider, session: AwsSession, refuse: Refuse
) -> None:
    a_volume(provider)
    plan = provider.renting.plan(InstanceRequest(volumes=(VolumeMount("datasets", "/mnt/data"),)))
    refuse(session.ec2, "AttachVolume", "InternalFailureOfSomeKind", "the disk is on fire")

    with pytest.raises(ProviderError, match=r"on fire.*nothing is left running"):
        provider.renting.create(plan)

    assert live(session) == []


def test_an_instance_that_cannot_be_undone_is_named_loudly(
    provider: AwsProvider, session: AwsSession, refuse: Refuse
) -> None:
    a_volume(provider)
    plan = provider.renting.plan(InstanceRequest(volumes=(VolumeMount("datasets", "/mnt/data"),)))
    refuse(session.ec2, "AttachVolume", "Strange")
    refuse(session.ec2, "TerminateInstances", "UnauthorizedOperation")

    with pytest.raises(ProviderError, match="IS STILL RUNNING") as caught:
        provider.renting.create(plan)

    (left,) = live(session)
    assert f"runctl aws terminate {left['InstanceId']}" in caught.value.hint


def test_a_device_name_that_is_taken_meanwhile_is_passed_over(
    provider: AwsProvider, session: AwsSession, refuse: Refuse
) -> None:
    a_volume(provider)
    plan = provider.renting.plan(InstanceRequest(volumes=(VolumeMount("datasets", "/mnt/data"),)))
    refuse(
        session.ec2,
        "AttachVolume",
        "InvalidParameterValue",
        "Invalid value '/dev/sdf' for unixDevice. Attachment point /dev/sdf is already in use",
        times=1,
    )

    instance = provider.renting.create(plan)

    assert {v.device for v in instance.volumes if v.mount_point} == {"/dev/sdg"}


def test_ctrl_c_after_the_launch_says_what_exists(
    provider: AwsProvider, session: AwsSession, clock: ManualClock
) -> None:
    a_volume(provider)
    plan = provider.renting.plan(InstanceRequest(volumes=(VolumeMount("datasets", "/mnt/data"),)))

    def press(**_: Any) -> None:
        raise KeyboardInterrupt

    session.ec2.meta.events.register("before-call.ec2.AttachVolume", press)

    with pytest.raises(KeyboardInterrupt):
        provider.renting.create(plan)

    (left,) = live(session)
    _volume, created, attachment = provider.journal.changes()
    assert (created.subject, created.standing) == ((left["InstanceId"],), Standing.DONE)
    assert (created.go_on, created.undo) == (
        f"runctl aws wait {left['InstanceId']}",
        f"runctl aws terminate {left['InstanceId']}",
    )
    assert attachment.standing is Standing.UNDER_WAY


def test_ctrl_c_while_the_launch_is_under_way_finds_the_instance_by_its_plan(
    provider: AwsProvider, session: AwsSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = provider.renting.plan(InstanceRequest())
    endpoint: Any = session.ec2._endpoint  # type: ignore[attr-defined]
    send = endpoint.make_request

    def send_and_press(model: Any, request: Any) -> Any:
        answer = send(model, request)
        if model.name == "RunInstances":
            raise KeyboardInterrupt
        return answer

    monkeypatch.setattr(endpoint, "make_request", send_and_press)

    with pytest.raises(KeyboardInterrupt):
        provider.renting.create(plan)

    (left,) = live(session)
    assert [change.fact for change in provider.journal.changes()] == [
        "an instance (m7i.large) may exist, and is billed if it does"
    ]
    assert [change.subject for change in provider.journal.settle()] == [(left["InstanceId"],)]


def test_a_new_instance_profile_that_ec2_does_not_know_yet_is_waited_for(
    provider: AwsProvider, session: AwsSession, refuse: Refuse, progress: RecordedProgress
) -> None:
    plan = provider.renting.plan(InstanceRequest())
    message = "Value (runctl-instance) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"  # noqa: E501
    refused = refuse(session.ec2, "RunInstances", "InvalidParameterValue", message, times=3)

    instance = provider.renting.create(plan, progress)

    assert len(refused) == 3
    assert instance.id in {item["InstanceId"] for item in live(session)}
    assert any("does not know the new instance profile" in update for update in progress.updates)


def test_without_iam_rights_and_without_ssh_nothing_is_launched(
    provider: AwsProvider, session: AwsSession, refuse: Refuse
) -> None:
    without_profile(session)
    plan = provider.renting.plan(InstanceRequest())
    refuse(session.iam, "CreateRole", "AccessDenied", "not authorized to perform iam:CreateRole")

    with pytest.raises(PermissionDenied, match="could not be reached"):
        provider.renting.create(plan)

    assert live(session) == []


def test_without_iam_rights_but_with_ssh_the_launch_goes_on_and_warns(
    session: AwsSession, clock: ManualClock, tmp_path: Path, refuse: Refuse, progress: RecordedProgress
) -> None:
    group = session.ec2.create_security_group(GroupName="ssh", Description="ssh")["GroupId"]
    session.ec2.authorize_security_group_ingress(
        GroupId=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="192.0.2.0/24"
    )
    provider = AwsProvider(context_of(session, clock, tmp_path, security_groups=("ssh",)))
    without_profile(session)
    plan = provider.renting.plan(InstanceRequest())
    refuse(session.iam, "CreateRole", "AccessDenied", "not authorized to perform iam:CreateRole")

    provider.renting.create(plan, progress)

    (created,) = live(session)
    assert "IamInstanceProfile" not in created
    assert any("only SSH can" in warning for warning in progress.warnings)


def test_the_time_to_live_is_in_the_tags_and_in_the_first_boot(provider: AwsProvider) -> None:
    plan = provider.renting.plan(InstanceRequest(ttl=timedelta(hours=2)))

    assert plan.tags[tag.EXPIRES_AT] == "2026-05-01T14:00:00Z"
    assert '"ttl_seconds":7200.0' in run_instances_arguments(plan, "/dev/xvda", None)["UserData"]


def test_a_machine_that_is_rented_for_a_run_ends_itself_when_none_is_started(provider: AwsProvider) -> None:
    plan = provider.renting.plan(InstanceRequest(unused_for=timedelta(hours=3)))

    assert '"unused_seconds":10800.0' in run_instances_arguments(plan, "/dev/xvda", None)["UserData"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("Server.InsufficientInstanceCapacity", CapacityError),
        ("Client.VolumeLimitExceeded", QuotaExceeded),
        ("Client.UserInitiatedShutdown", Conflict),
        ("Client.InternalError", Conflict),
        ("", Conflict),
        ("Server.SpotInstanceTermination", InstanceEnded),
    ],
)
def test_an_instance_that_ends_while_it_boots_is_reported_with_ec2s_reason(code: str, kind: type) -> None:
    error = ended(
        {
            "InstanceId": "i-0123456789abcdef0",
            "State": {"Name": InstanceState.TERMINATED.value},
            "StateReason": {"Code": code, "Message": f"{code}: because"},
        }
    )

    assert isinstance(error, kind)
    assert "because" in error.message
