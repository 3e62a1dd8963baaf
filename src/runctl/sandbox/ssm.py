"""moto's Systems Manager with commands that run: Run Command, the agents' registration, public parameters."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import IO, Any

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import ec2_backends
from moto.s3.exceptions import S3ClientError
from moto.s3.models import s3_backends
from moto.ssm.exceptions import SSMException
from moto.ssm.models import Parameter, SimpleSystemManagerBackend, ssm_backends
from moto.ssm.responses import SimpleSystemManagerResponse
from moto.ssm.urls import url_bases

from runctl.sandbox import ssm_request
from runctl.sandbox.instance_role import role_of
from runctl.sandbox.ssm_invocation import FINAL, LIST_OUTPUT_BYTES, Body, Gone, Invocation, Look, Order
from runctl.sandbox.world import ACCOUNT, World, current

PLUGIN = "aws:runShellScript"
AGENT_VERSION = "3.3.2299.0"
AT_ONCE = 5
"""How many commands of one machine the agent works on at a time."""
REGISTRATION_SECONDS = 0.8
"""From the power button to the agent's first word."""
VISIBLE_SECONDS = 0.05
"""SendCommand has answered, and GetCommandInvocation does not know the command yet."""

_booting: dict[str, float] = {}
"""When the machines of this process were switched on."""


class SandboxCommand:
    """A command and its invocations."""

    def __init__(
        self, request: ssm_request.Request, invocations: Sequence[Invocation], command_id: str
    ) -> None:
        self.request = request
        self.command_id = command_id
        self.invocations = {invocation.order.instance_id: invocation for invocation in invocations}
        self.requested = utcnow()

    @property
    def instance_ids(self) -> list[str]:
        """Where it goes."""
        return list(self.invocations)

    def is_visible(self) -> bool:
        """Whether it has reached every part of the service."""
        return (utcnow() - self.requested).total_seconds() >= VISIBLE_SECONDS

    def status(self) -> tuple[str, str]:
        """Of the whole command: while one invocation goes on, so does it; then the worst of them."""
        looks = [invocation.look() for invocation in self.invocations.values()]
        if not looks:
            return "Success", "NoInstancesInTag"
        for status in ("InProgress", "Pending", "Failed", "Undeliverable", "TimedOut", "Cancelled"):
            for look in looks:
                if look.status == status:
                    return ("Failed", status) if status == "Undeliverable" else (status, look.details)
        return "Success", "Success"

    def response_object(self) -> dict[str, Any]:
        """The API's ``Command``."""
        request = self.request
        looks = [invocation.look() for invocation in self.invocations.values()]
        status, details = self.status()
        return {
            "CommandId": self.command_id,
            "DocumentName": request.document_name,
            "DocumentVersion": "$DEFAULT",
            "Comment": request.comment,
            "ExpiresAfter": self.requested
            + timedelta(seconds=request.timeout_seconds + request.execution_seconds),
            "Parameters": request.parameters,
            "InstanceIds": [] if request.targets else self.instance_ids,
            "Targets": list(request.targets),
            "RequestedDateTime": self.requested,
            "Status": status,
            "StatusDetails": details,
            "OutputS3Region": request.bucket_region,
            "OutputS3BucketName": request.bucket,
            "OutputS3KeyPrefix": request.prefix,
            "MaxConcurrency": "50",
            "MaxErrors": "0",
            "TargetCount": len(looks),
            "CompletedCount": sum(look.status in FINAL for look in looks),
            "ErrorCount": sum(look.status in {"Failed", "Undeliverable"} for look in looks),
            "DeliveryTimedOutCount": sum(look.details == "DeliveryTimedOut" for look in looks),
            "ServiceRole": "",
            "NotificationConfig": {"NotificationArn": "", "NotificationEvents": [], "NotificationType": ""},
            "TimeoutSeconds": request.timeout_seconds,
            "CloudWatchOutputConfig": _NO_CLOUDWATCH,
        }

    def output_url(self, instance_id: str, name: str) -> str:
        """Where all of an output is; empty when it goes to no bucket."""
        if not self.request.bucket:
            return ""
        region = self.request.bucket_region
        return f"https://s3.{region}.amazonaws.com/{self.request.bucket}/{self.output_key(instance_id, name)}"

    def output_key(self, instance_id: str, name: str) -> str:
        """The object's key."""
        parts = (self.request.prefix.strip("/"), self.command_id, instance_id)
        return "/".join((*filter(None, parts), "awsrunShellScript", "0.awsrunShellScript", name))


class SandboxSsm(SimpleSystemManagerBackend):
    """One region of Systems Manager whose agents are in the sandbox's machines."""

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self._slots: dict[str, threading.BoundedSemaphore] = {}
        self._sent: dict[str, SandboxCommand] = {}

    @property
    def _url_module(self) -> Any:
        return SimpleNamespace(url_bases=url_bases, url_paths={"{0}/$": SandboxSsmResponse.dispatch})

    def run_command(self, request: ssm_request.Request) -> SandboxCommand:
        """The command is on its way. Raises `SSMException` as AWS refuses it."""
        targets = self._targets(request)
        if len(set(request.instance_ids)) < len(request.instance_ids):
            raise SSMException("DuplicateInstanceId", "")
        if not request.targets:
            absent = [instance_id for instance_id in targets if not self.is_online(instance_id)]
            if absent:
                raise SSMException(
                    "InvalidInstanceId",
                    f"Instances [[{', '.join(absent)}]] not in a valid state for account {self.account_id}",
                )
        if request.document_name != "AWS-RunShellScript":
            raise SSMException(
                "InvalidDocument", f"Document with name {request.document_name} does not exist."
            )
        command_id = str(uuid.uuid4())
        command: SandboxCommand

        def keeper(instance_id: str) -> Callable[[str, IO[bytes]], None]:
            return lambda name, file: self._keep_output(command, instance_id, name, file)

        invocations = [
            Invocation(
                Order(
                    command_id,
                    instance_id,
                    self.region_name,
                    request.commands,
                    request.working_directory,
                    request.execution_seconds,
                    request.timeout_seconds,
                ),
                find=self._finder(instance_id),
                slots=self._slots.setdefault(instance_id, threading.BoundedSemaphore(AT_ONCE)),
                keep=keeper(instance_id),
            )
            for instance_id in targets
        ]
        command = SandboxCommand(request, invocations, command_id)
        self._sent[command_id] = command
        for invocation in invocations:
            threading.Thread(target=invocation.run, name=f"ssm-{command_id[:8]}", daemon=True).start()
        return command

    def sent(self, command_id: str | None, instance_id: str | None = None) -> list[SandboxCommand]:
        """Commands, the newest first. Raises `SSMException` for an id that no command has."""
        if command_id is not None and command_id not in self._sent:
            raise SSMException("InvalidCommandId", "")
        found = [self._sent[command_id]] if command_id is not None else list(self._sent.values())[::-1]
        return [command for command in found if instance_id is None or instance_id in command.invocations]

    def get_command_invocation(
        self, command_id: str, instance_id: str, plugin_name: str | None
    ) -> dict[str, Any]:
        """The API's answer. Raises `SSMException` for one that is not there, or not there yet."""
        command = self._sent.get(command_id)
        if (
            command is None
            or instance_id not in command.invocations
            or not command.is_visible()
            or plugin_name not in {None, "", PLUGIN}
        ):
            raise SSMException("InvocationDoesNotExist", "")
        look = command.invocations[instance_id].look()
        return {
            "CommandId": command_id,
            "InstanceId": instance_id,
            "Comment": command.request.comment,
            "DocumentName": command.request.document_name,
            "DocumentVersion": "$DEFAULT",
            "PluginName": PLUGIN,
            "ResponseCode": look.code,
            "ExecutionStartDateTime": _iso(look.started),
            "ExecutionElapsedTime": _elapsed(look),
            "ExecutionEndDateTime": _iso(look.ended if look.started else None),
            "Status": look.status,
            "StatusDetails": look.details,
            "StandardOutputContent": _text(look.stdout),
            "StandardOutputUrl": command.output_url(instance_id, "stdout"),
            "StandardErrorContent": _text(look.stderr),
            "StandardErrorUrl": command.output_url(instance_id, "stderr"),
            "CloudWatchOutputConfig": _NO_CLOUDWATCH,
        }

    def is_online(self, instance_id: str) -> bool:
        """Whether the machine's agent answers."""
        world = current()
        instance = _instance(self, instance_id)
        if instance is None or instance.state != "running" or instance_id in world.faults.ssm_offline:
            return False
        machine = world.machine(instance_id)
        role = role_of(ec2_backends[self.account_id][self.region_name], instance_id)
        if machine is None or not machine.is_up or role is None or not role.registers_with_ssm:
            return False
        return time.monotonic() >= _booting.get(instance_id, 0) + REGISTRATION_SECONDS

    def instance_information(self) -> list[dict[str, Any]]:
        """The API's ``InstanceInformation`` of every instance whose agent is or was registered."""
        found = []
        backend = ec2_backends[self.account_id][self.region_name]
        for instance in backend.all_instances():
            role = role_of(backend, instance.id)
            over = instance.state in {"pending", "shutting-down", "terminated"}
            if over or role is None or not role.registers_with_ssm:
                continue
            online = self.is_online(instance.id)
            offline = instance.state != "running" or instance.id in current().faults.ssm_offline
            if not online and not offline:
                # Up, and the agent has not said its first word.
                continue
            ubuntu = "ubuntu" in str(getattr(current().machine(instance.id), "hardware", "")).lower()
            found.append(
                {
                    "InstanceId": instance.id,
                    "PingStatus": "Online" if online else "ConnectionLost",
                    "LastPingDateTime": utcnow(),
                    "AgentVersion": AGENT_VERSION,
                    "IsLatestVersion": True,
                    "PlatformType": "Linux",
                    "PlatformName": "Ubuntu" if ubuntu else "Amazon Linux",
                    "PlatformVersion": "22.04" if ubuntu else "2023",
                    "ResourceType": "EC2Instance",
                    "IPAddress": instance.private_ip or "",
                    "ComputerName": "ip-" + (instance.private_ip or "").replace(".", "-"),
                    "SourceId": instance.id,
                    "SourceType": "AWS::EC2::Instance",
                }
            )
        return found

    def set_public_parameter(self, name: str, value: str) -> None:
        """AWS has published this value."""
        versions = self._parameters[name]
        versions.append(
            Parameter(  # type: ignore[abstract]  # as moto itself makes them
                account_id=self.account_id,
                name=name,
                value=value,
                parameter_type="String",
                description=None,
                allowed_pattern=None,
                keyid=None,
                last_modified_date=utcnow(),
                version=len(versions) + 1,
                data_type="aws:ec2:image" if value.startswith("ami-") else "text",
                tier="Standard",
            )
        )

    def _targets(self, request: ssm_request.Request) -> list[str]:
        if not request.targets:
            return list(request.instance_ids)
        backend = ec2_backends[self.account_id][self.region_name]
        chosen: list[str] | None = None
        for target in request.targets:
            key, values = target["Key"], list(target["Values"])
            if key.lower() == "instanceids":
                these = values
            elif key.startswith("tag:"):
                these = [
                    instance.id
                    for instance in backend.all_instances()
                    if _tags(instance).get(key.removeprefix("tag:")) in values
                ]
            else:
                raise SSMException("InvalidTarget", f"The target key {key} is not valid here.")
            chosen = these if chosen is None else [one for one in chosen if one in these]
        managed = {row["InstanceId"] for row in self.instance_information()}
        return [instance_id for instance_id in dict.fromkeys(chosen or ()) if instance_id in managed]

    def _finder(self, instance_id: str) -> Callable[[], Body | None]:
        def find() -> Body | None:
            instance = _instance(self, instance_id)
            if instance is None or instance.state in {"shutting-down", "terminated"}:
                raise Gone(instance_id)
            return current().machine(instance_id) if self.is_online(instance_id) else None

        return find

    def _keep_output(self, command: SandboxCommand, instance_id: str, name: str, file: IO[bytes]) -> None:
        if not command.request.bucket:
            return
        try:
            s3_backends[self.account_id][self.partition].put_object(
                command.request.bucket, command.output_key(instance_id, name), file.read()
            )
        except S3ClientError:
            # The agent logs it on the machine and goes on: the command's own result stands.
            return


class SandboxSsmResponse(SimpleSystemManagerResponse):
    """The requests that moto has not, or not like this."""

    @property
    def ssm_backend(self) -> SandboxSsm:
        """The region's."""
        return _backend(self.current_account, self.region)

    def send_command(self) -> ActionResult:
        """SendCommand."""
        request = ssm_request.parse(self._get_param, self.region)
        return ActionResult({"Command": self.ssm_backend.run_command(request).response_object()})

    def list_commands(self) -> ActionResult:
        """ListCommands."""
        found = self.ssm_backend.sent(self._get_param("CommandId"), self._get_param("InstanceId"))
        rows = [command.response_object() for command in found]
        rows = ssm_request.filter_commands(rows, self._get_param("Filters", []), "RequestedDateTime")
        return self._page("Commands", rows, 50)

    def list_command_invocations(self) -> ActionResult:
        """ListCommandInvocations."""
        found = self.ssm_backend.sent(self._get_param("CommandId"), self._get_param("InstanceId"))
        wanted, details = self._get_param("InstanceId"), bool(self._get_param("Details"))
        rows = [
            _listed(command, instance_id, details=details)
            for command in found
            if command.is_visible()
            for instance_id in command.instance_ids
            if wanted in {None, instance_id}
        ]
        rows = ssm_request.filter_commands(rows, self._get_param("Filters", []), "RequestedDateTime")
        return self._page("CommandInvocations", rows, 50)

    def cancel_command(self) -> ActionResult:
        """CancelCommand."""
        wanted = self._get_param("InstanceIds", [])
        for command in self.ssm_backend.sent(self._get_param("CommandId")):
            for instance_id, invocation in command.invocations.items():
                if not wanted or instance_id in wanted:
                    invocation.cancel()
        return ActionResult({})

    def describe_instance_information(self) -> ActionResult:
        """DescribeInstanceInformation."""
        rows = ssm_request.filter_instances(
            self.ssm_backend.instance_information(),
            self._get_param("Filters", []),
            self._get_param("InstanceInformationFilterList", []),
        )
        return self._page("InstanceInformationList", rows, 50)

    def _page(self, name: str, rows: Sequence[Any], most: int) -> ActionResult:
        page, token = ssm_request.page(
            rows, self._get_param("NextToken"), self._get_param("MaxResults"), most
        )
        return ActionResult({name: page, **({"NextToken": token} if token else {})})


_NO_CLOUDWATCH = {"CloudWatchLogGroupName": "", "CloudWatchOutputEnabled": False}


def install() -> None:
    """moto makes these from now on; machines of this process's world register when they have booted."""
    ssm_backends.backend = SandboxSsm
    ssm_backends.clear()
    _booting.clear()
    current().providers.append(_register)


def backend(region: str | None = None) -> SandboxSsm:
    """Systems Manager of a region; by default the sandbox's own."""
    return _backend(ACCOUNT, region or current().region)


def set_public_parameter(name: str, value: str) -> None:
    """AWS has published this value under ``/aws/service/…`` in the sandbox's region."""
    backend().set_public_parameter(name, value)


def _backend(account: str, region: str) -> SandboxSsm:
    found = ssm_backends[account][region]
    if not isinstance(found, SandboxSsm):
        raise AssertionError("install() has not run")
    return found


def _register(_world: World, _machine: Any, instance: Any) -> Callable[[], None]:
    _booting[instance.id] = time.monotonic()
    return lambda: None


def _tags(instance: Any) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in instance.get_tags()}


def _instance(backend: SandboxSsm, instance_id: str) -> Any:
    try:
        return ec2_backends[backend.account_id][backend.region_name].get_instance(instance_id)
    except EC2ClientError:
        return None


def _listed(command: SandboxCommand, instance_id: str, *, details: bool) -> dict[str, Any]:
    look = command.invocations[instance_id].look()
    common = {
        "Status": look.status,
        "StatusDetails": look.details,
        "StandardOutputUrl": command.output_url(instance_id, "stdout"),
        "StandardErrorUrl": command.output_url(instance_id, "stderr"),
    }
    plugin = {
        "Name": PLUGIN,
        "ResponseCode": look.code,
        "Output": _list_output(look),
        "OutputS3Region": command.request.bucket_region,
        "OutputS3BucketName": command.request.bucket,
        "OutputS3KeyPrefix": command.request.prefix,
        **({"ResponseStartDateTime": look.started} if look.started else {}),
        **({"ResponseFinishDateTime": look.ended} if look.started and look.ended else {}),
        **common,
    }
    return {
        "CommandId": command.command_id,
        "InstanceId": instance_id,
        "InstanceName": "",
        "Comment": command.request.comment,
        "DocumentName": command.request.document_name,
        "DocumentVersion": "$DEFAULT",
        "RequestedDateTime": command.requested,
        "ServiceRole": "",
        "CommandPlugins": [plugin] if details else [],
        "CloudWatchOutputConfig": _NO_CLOUDWATCH,
        **common,
    }


def _list_output(look: Look) -> str:
    both = look.stdout + (b"\n----------ERROR-------\n" + look.stderr if look.stderr else b"")
    if len(both) <= LIST_OUTPUT_BYTES:
        return _text(both)
    mark = b"---Output truncated---"
    return _text(both[: LIST_OUTPUT_BYTES - len(mark)] + mark)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _iso(moment: datetime | None) -> str:
    if moment is None:
        return ""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _elapsed(look: Look) -> str:
    if look.started is None:
        return ""
    seconds = ((look.ended or datetime.now(UTC)) - look.started).total_seconds()
    return f"PT{seconds:.3f}S"
