"""A command of Run Command: what it was asked, its invocations, and how the API describes both."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.core.utils import utcnow

from runctl.sandbox.ssm import request as ssm_request
from runctl.sandbox.ssm.invocation import FINAL, LIST_OUTPUT_BYTES, Invocation, Progress

PLUGIN = "aws:runShellScript"
VISIBLE_SECONDS = 0.05
"""SendCommand has answered, and GetCommandInvocation does not know the command yet."""
_NO_CLOUDWATCH = {"CloudWatchLogGroupName": "", "CloudWatchOutputEnabled": False}


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
        progresses = [invocation.progress() for invocation in self.invocations.values()]
        if not progresses:
            return "Success", "NoInstancesInTag"
        for status in ("InProgress", "Pending", "Failed", "Undeliverable", "TimedOut", "Cancelled"):
            for progress in progresses:
                if progress.status == status:
                    return ("Failed", status) if status == "Undeliverable" else (status, progress.details)
        return "Success", "Success"

    def response_object(self) -> dict[str, Any]:
        """The API's ``Command``."""
        request = self.request
        progresses = [invocation.progress() for invocation in self.invocations.values()]
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
            "TargetCount": len(progresses),
            "CompletedCount": sum(progress.status in FINAL for progress in progresses),
            "ErrorCount": sum(progress.status in {"Failed", "Undeliverable"} for progress in progresses),
            "DeliveryTimedOutCount": sum(progress.details == "DeliveryTimedOut" for progress in progresses),
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

    def invocation_object(self, instance_id: str) -> dict[str, Any]:
        """GetCommandInvocation's answer."""
        progress = self.invocations[instance_id].progress()
        return {
            "CommandId": self.command_id,
            "InstanceId": instance_id,
            "Comment": self.request.comment,
            "DocumentName": self.request.document_name,
            "DocumentVersion": "$DEFAULT",
            "PluginName": PLUGIN,
            "ResponseCode": progress.code,
            "ExecutionStartDateTime": _iso(progress.started),
            "ExecutionElapsedTime": _elapsed(progress),
            "ExecutionEndDateTime": _iso(progress.ended if progress.started else None),
            "Status": progress.status,
            "StatusDetails": progress.details,
            "StandardOutputContent": _text(progress.stdout),
            "StandardOutputUrl": self.output_url(instance_id, "stdout"),
            "StandardErrorContent": _text(progress.stderr),
            "StandardErrorUrl": self.output_url(instance_id, "stderr"),
            "CloudWatchOutputConfig": _NO_CLOUDWATCH,
        }

    def listed_object(self, instance_id: str, *, details: bool) -> dict[str, Any]:
        """A row of ListCommandInvocations; with ``details``, with its output."""
        progress = self.invocations[instance_id].progress()
        common = {
            "Status": progress.status,
            "StatusDetails": progress.details,
            "StandardOutputUrl": self.output_url(instance_id, "stdout"),
            "StandardErrorUrl": self.output_url(instance_id, "stderr"),
        }
        plugin = {
            "Name": PLUGIN,
            "ResponseCode": progress.code,
            "Output": _list_output(progress),
            "OutputS3Region": self.request.bucket_region,
            "OutputS3BucketName": self.request.bucket,
            "OutputS3KeyPrefix": self.request.prefix,
            **({"ResponseStartDateTime": progress.started} if progress.started else {}),
            **({"ResponseFinishDateTime": progress.ended} if progress.started and progress.ended else {}),
            **common,
        }
        return {
            "CommandId": self.command_id,
            "InstanceId": instance_id,
            "InstanceName": "",
            "Comment": self.request.comment,
            "DocumentName": self.request.document_name,
            "DocumentVersion": "$DEFAULT",
            "RequestedDateTime": self.requested,
            "ServiceRole": "",
            "CommandPlugins": [plugin] if details else [],
            "CloudWatchOutputConfig": _NO_CLOUDWATCH,
            **common,
        }


def _list_output(progress: Progress) -> str:
    both = progress.stdout + (b"\n----------ERROR-------\n" + progress.stderr if progress.stderr else b"")
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


def _elapsed(progress: Progress) -> str:
    if progress.started is None:
        return ""
    seconds = ((progress.ended or datetime.now(UTC)) - progress.started).total_seconds()
    return f"PT{seconds:.3f}S"
