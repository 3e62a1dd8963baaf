"""The ability to show a command's calls as commands of the AWS CLI: those that read are made, the others written."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from shlex import quote
from typing import TYPE_CHECKING, Any

from runctl.providers.abilities.preview import CallPreview
from runctl.providers.aws.calls.changes import BATCHES, READING
from runctl.providers.aws.preview.agent import ShownAgent
from runctl.providers.aws.preview.imagined import Imagined, Refused
from runctl.providers.aws.preview.script import Script

if TYPE_CHECKING:
    from runctl.core.machine_models import Instance
    from runctl.providers.aws.calls.session import AwsSession
    from runctl.transport.agent import AgentClient

Params = Mapping[str, Any]
_KEY = "runctl-shown"


def changes(operation: str) -> bool:
    """Whether a call may change something: whatever is not known to read. Pure."""
    return not operation.startswith(READING) or operation in BATCHES


class AwsPreview(CallPreview):
    """Every client of the session asks it before each call."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session
        self._script = Script()
        self._imagined = Imagined(self._script)

    def begin(self) -> None:
        """See `CallPreview.begin`. Clients that are made later are watched too."""
        self.is_on = True
        self._session.watch_clients(self._watch)

    def script(self, command: str) -> str:
        """See `CallPreview.script`."""
        if self._script.is_empty:
            self._script.comment("There is nothing to do.")
        about = f"{command}\n{ABOUT}"
        exports = {
            "AWS_REGION": self._session.region,
            "AWS_DEFAULT_REGION": self._session.region,
            "AWS_PAGER": "",
        }
        if self._session.profile:
            exports["AWS_PROFILE"] = self._session.profile
        return self._script.text(about, exports)

    def agent(self, instance: Instance) -> AgentClient:
        """What runctl's agent on the machine is asked for is a comment."""
        return ShownAgent(self._script, instance)

    def comment(self, text: str) -> None:
        """What runctl does itself."""
        self._script.comment(text)

    def _watch(self, client: Any) -> None:
        events = client.meta.events
        events.register_first("before-parameter-build.*.*", self._heard)
        events.register_first("before-call.*.*", lambda **event: self._instead(client, **event))
        events.register_first("after-call.*.*", self._answered)

    @staticmethod
    def _heard(params: Params, context: dict[str, Any], **_: Any) -> None:
        context[_KEY] = copy.deepcopy(dict(params))

    def _instead(self, client: Any, model: Any, context: Mapping[str, Any], **_: Any) -> Any:
        """The answer in AWS's place; ``None``: AWS is asked."""
        params = context[_KEY]
        if not changes(model.name):
            try:
                found = self._imagined.answer(model.name, params)
            except Refused as refused:
                return _failed(refused.code, "it would be deleted by now")
            return None if found is None else (_Answer(200), {**found, "ResponseMetadata": _metadata(200)})
        if (code := self._imagined.refused(model.name, params)) is not None:
            return _failed(code, "it would not be there")
        answer = self._shown(client, model, params)
        return _Answer(200), {**answer, "ResponseMetadata": _metadata(200)}

    def _answered(
        self, model: Any, parsed: dict[str, Any], http_response: Any, context: Mapping[str, Any], **_: Any
    ) -> None:
        if http_response.status_code < 300:
            self._imagined.amend(model.name, context[_KEY], parsed)

    def _shown(self, client: Any, model: Any, params: Params) -> dict[str, Any]:
        """The call is in the script, and carried out in what is imagined."""
        service, name = model.service_model.service_name, model.name
        there = client.meta.region_name
        region = None if there == self._session.region or service in GLOBAL else there
        if name not in MAKES:
            has_been = ONCE[name](params) if name in ONCE else None
            self._script.call(service, name, params, region=region, unless=has_been)
            return self._changed(name, params) or {}
        variable, prefix, query = MAKES[name]
        count = params["TargetCapacitySpecification"]["TotalTargetCapacity"] if name == "CreateFleet" else 1
        created = [self._script.placeholder(variable, prefix) for _ in range(count)]
        if count > 1:
            query = ALL_OF_FLEET
        self._script.call(service, name, params, region=region, keeps=(created, query))
        return self._created(client, name, params, created)

    def _created(self, client: Any, name: str, params: Params, all_created: Sequence[str]) -> dict[str, Any]:
        imagined, created = self._imagined, all_created[0]
        if name == "RunInstances":
            zone = params.get("Placement", {}).get("AvailabilityZone") or _zone(
                client, params.get("SubnetId")
            )
            return {"Instances": [imagined.instance(created, params, params["InstanceType"], zone)]}
        if name == "CreateFleet":
            (config, *_) = params["LaunchTemplateConfigs"]
            best = config["Overrides"][0]
            spot = params["TargetCapacitySpecification"]["DefaultTargetCapacityType"] == "spot"
            market = {"InstanceMarketOptions": {"MarketType": "spot"}} if spot else {}
            zone = _zone(client, best.get("SubnetId"))
            for each in all_created:
                imagined.instance(each, {**params, **market}, best["InstanceType"], zone)
            group = {"InstanceIds": list(all_created), "InstanceType": best["InstanceType"]}
            return {"FleetId": "fleet-shown", "Instances": [group], "Errors": []}
        if name == "CreateVolume":
            more = {"Size": _snapshot_size(client, params)} if "Size" not in params else {}
            return imagined.volume(created, params, params["AvailabilityZone"], more)
        if name == "CopyVolumes":
            (source,) = client.describe_volumes(VolumeIds=[params["SourceVolumeId"]])["Volumes"]
            more = {"Size": source["Size"]}
            return {"Volumes": [imagined.volume(created, params, source["AvailabilityZone"], more)]}
        if name == "CreateSnapshot":
            (volume,) = client.describe_volumes(VolumeIds=[params["VolumeId"]])["Volumes"]
            return imagined.snapshot(created, params, volume["Size"])
        if name == "CreateLaunchTemplate":
            return {"LaunchTemplate": {"LaunchTemplateId": created}}
        return {"GroupId": created}

    def _changed(self, name: str, params: Params) -> dict[str, Any] | None:
        imagined = self._imagined
        does: dict[str, Callable[[], dict[str, Any] | None]] = {
            "TerminateInstances": lambda: imagined.become(
                params["InstanceIds"], "shutting-down", "terminated"
            ),
            "StopInstances": lambda: imagined.become(params["InstanceIds"], "stopping", "stopped"),
            "StartInstances": lambda: imagined.become(params["InstanceIds"], "pending", "running"),
            "AttachVolume": lambda: imagined.attach(params),
            "DetachVolume": lambda: imagined.detach(params),
            "ModifyVolume": lambda: imagined.modify(params),
            "DeleteVolume": lambda: imagined.delete(params["VolumeId"]),
            "DeleteSnapshot": lambda: imagined.delete(params["SnapshotId"]),
            "CreateTags": lambda: imagined.tag(params, gone=False),
            "DeleteTags": lambda: imagined.tag(params, gone=True),
            "CreateRole": lambda: imagined.role(params),
            "CreateInstanceProfile": lambda: imagined.profile(params),
            "AddRoleToInstanceProfile": lambda: imagined.join(params),
            "PutRolePolicy": lambda: imagined.policy(params),
            "AttachRolePolicy": lambda: imagined.attach_policy(params),
        }
        return does[name]() if name in does else None


MAKES: Mapping[str, tuple[str, str, str]] = {
    "RunInstances": ("INSTANCE_ID", "i-", "Instances[0].InstanceId"),
    "CreateFleet": ("INSTANCE_ID", "i-", "Instances[0].InstanceIds[0]"),
    "CreateVolume": ("VOLUME_ID", "vol-", "VolumeId"),
    "CopyVolumes": ("VOLUME_ID", "vol-", "Volumes[0].VolumeId"),
    "CreateSnapshot": ("SNAPSHOT_ID", "snap-", "SnapshotId"),
    "CreateLaunchTemplate": ("LAUNCH_TEMPLATE_ID", "lt-", "LaunchTemplate.LaunchTemplateId"),
    "CreateSecurityGroup": ("GROUP_ID", "sg-", "GroupId"),
}
"""The calls whose answer names what they have made: the variable, the id's beginning, and the query for it."""
ONCE: Mapping[str, Callable[[Params], str]] = {
    "CreateRole": lambda params: f"aws iam get-role --role-name {quote(params['RoleName'])}",
    "CreateInstanceProfile": lambda params: (
        f"aws iam get-instance-profile --instance-profile-name {quote(params['InstanceProfileName'])}"
    ),
    "AddRoleToInstanceProfile": lambda params: (
        f"aws iam get-instance-profile --instance-profile-name {quote(params['InstanceProfileName'])}"
        " --query 'InstanceProfile.Roles[].RoleName' --output text |"
        f" grep -qx {quote(params['RoleName'])}"
    ),
}
"""Calls that fail the second time, and what says whether there was a first."""
ALL_OF_FLEET = "Instances[].InstanceIds[]"
"""The query for the ids where CreateFleet makes several."""
GLOBAL = frozenset({"iam", "budgets", "sts"})
"""Services that the AWS CLI finds in any region."""

ABOUT = """
The same with the AWS CLI. Nothing was changed: variables have the ids of what these commands make, and
comments say what runctl does itself."""


class _Answer:
    """What botocore looks at of an answer that nobody sent."""

    def __init__(self, status_code: int) -> None:
        self.status_code = status_code
        self.headers: dict[str, str] = {}
        self.content = b""


def _failed(code: str, message: str) -> tuple[_Answer, dict[str, Any]]:
    return _Answer(400), {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": _metadata(400),
    }


def _metadata(status: int) -> dict[str, Any]:
    return {"HTTPStatusCode": status, "HTTPHeaders": {}, "RetryAttempts": 0, "RequestId": ""}


def _zone(client: Any, subnet: str | None) -> str:
    """Of a subnet; empty where EC2 chooses."""
    if subnet is None:
        return ""
    return str(client.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["AvailabilityZone"])


def _snapshot_size(client: Any, params: Params) -> int:
    return int(client.describe_snapshots(SnapshotIds=[params["SnapshotId"]])["Snapshots"][0]["VolumeSize"])
