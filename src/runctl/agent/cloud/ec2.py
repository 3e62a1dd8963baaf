"""What a machine asks EC2 for about itself, signed with its own role's keys (the Query API of EC2 and its like)."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import TypeVar
from urllib.parse import urlencode, urlsplit

from runctl.agent.cloud.credentials import Credentials
from runctl.agent.cloud.http import Broken, Connection, pause_before_try
from runctl.agent.cloud.metadata import ENDPOINT_VARIABLE, Metadata
from runctl.agent.cloud.signing import signed
from runctl.agent.errors import AgentError
from runctl.agent.machine.root import machine_variables
from runctl.agent.object_store import domain_of

TIMEOUT_SECONDS = 5.0
TRIES = 3
_TEMPORARY = (
    *("RequestLimitExceeded", "Throttling", "Unavailable", "InternalError", "InternalFailure"),
    *("ServiceUnavailable", "ResourceContention", "ScalingActivityInProgress", "ServerException"),
    *("ThrottlingException",),
)
_DENIED = ("UnauthorizedOperation", "AccessDenied", "AccessDeniedException")
_GONE = ("IncorrectState", "InvalidAttachment.NotFound")
"""The volume is not attached (any more)."""
_HELD = ("VolumeInUse", "IncorrectState")
"""Another machine has it still, or is letting go of it."""
DEVICES = tuple(f"/dev/sd{letter}" for letter in "fghijklmnop")
"""What EC2 recommends for EBS volumes ("Device names" in its user guide)."""


class Ec2Refusal(AgentError):
    """EC2's answer is no."""

    def __init__(self, ec2_code: str, message: str) -> None:
        super().__init__("ec2-refused", message)
        self.ec2_code = ec2_code
        """EC2's own word, such as ``VolumeInUse``."""


Service = TypeVar("Service", bound="Ec2")


class Ec2:
    """EC2 as one machine may ask it."""

    service = "ec2"
    """As its rights begin."""
    host_prefix = ""
    """As its address begins, where that is something else."""
    content_type = "application/x-www-form-urlencoded; charset=utf-8"
    target = ""
    """What the header that names an action begins with, where there is one."""
    title = "EC2"
    version = "2016-11-15"

    def __init__(
        self,
        instance_id: str,
        region: str,
        credentials: Credentials,
        endpoint: str = "",
        clock_ahead: float = 0.0,
    ) -> None:
        """``clock_ahead``: seconds by which this machine's clock is ahead of EC2's."""
        self.instance_id = instance_id
        self._region, self._credentials, self._clock_ahead = region, credentials, clock_ahead
        url = urlsplit(endpoint or f"https://{self.host_prefix or self.service}.{region}.{domain_of(region)}")
        self._host, self._path = url.netloc, url.path or "/"
        tls = None
        if url.scheme == "https":
            import ssl

            tls = ssl.create_default_context()
        port = url.port or (443 if tls else 80)
        self._connection = Connection(url.hostname or "", port, tls, TIMEOUT_SECONDS)

    def detach_volume(self, volume_id: str) -> None:
        """EC2 is taking the volume from this machine, or it is not attached.

        Raises `AgentError`: ``ec2-refused``, ``ec2-unreachable``, ``no-role``.
        """
        try:
            self._call("DetachVolume", {"VolumeId": volume_id, "InstanceId": self.instance_id})
        except Ec2Refusal as refusal:
            if refusal.ec2_code not in _GONE:
                raise

    def attach_volume(self, volume_id: str) -> str | None:
        """The name of the device under which EC2 attaches the volume; ``None`` while another machine has it.

        Raises `AgentError` as `detach_volume` does.
        """
        for device in DEVICES:
            parameters = {"VolumeId": volume_id, "InstanceId": self.instance_id, "Device": device}
            try:
                self._call("AttachVolume", parameters)
            except Ec2Refusal as refusal:
                if refusal.ec2_code in _HELD:
                    return None
                if refusal.ec2_code != "InvalidParameterValue" or device not in refusal.message:
                    raise
                # Another volume has this name.
                continue
            return device
        raise AgentError("ec2-refused", f"this machine has no free device name for {volume_id}")

    def delete_tags(self, resource_id: str, keys: Sequence[str]) -> None:
        """It has none of these tags, of which there is at least one. Raises `AgentError` as `detach_volume` does."""
        named = {f"Tag.{number}.Key": key for number, key in enumerate(keys, 1)}
        self._call("DeleteTags", {"ResourceId.1": resource_id, **named})

    def has_terminated(self, instance_id: str) -> bool:
        """Whether EC2 says that the machine does nothing any more: one that is still shutting down may.

        Raises `AgentError` as `detach_volume` does.
        """
        text = self._call("DescribeInstances", {"InstanceId.1": instance_id})
        state = re.search(r"<instanceState>.*?<name>([^<]*)</name>", text, re.DOTALL)
        return state is not None and state.group(1) == "terminated"

    def delete_launch_template(self, name: str) -> None:
        """There is no such template. Raises `AgentError` as `detach_volume` does."""
        try:
            self._call("DeleteLaunchTemplate", {"LaunchTemplateName": name})
        except AgentError as error:
            if "NotFound" not in error.message:
                raise

    def _call(self, action: str, parameters: Mapping[str, str]) -> str:
        return self._asked(
            action, urlencode({"Action": action, "Version": self.version, **parameters}).encode()
        )

    def _asked(self, action: str, body: bytes) -> str:
        error = AgentError("ec2-unreachable", f"{self.title} cannot be reached from this machine")
        for number in range(TRIES):
            if number:
                pause_before_try(number)
            try:
                status, text = self._post(action, body)
            except Broken:
                continue
            if status < 300:
                return text
            code, message = self._refusal(status, text)
            if code in _DENIED:
                why = f"its role does not allow {self.service}:{action}"
            else:
                why = f"{self.title} refuses {action}: {code} {message}".rstrip()
            error = Ec2Refusal(code, why)
            if code not in _TEMPORARY:
                break
        raise error

    def _refusal(self, status: int, text: str) -> tuple[str, str]:
        """Its code, and what it says."""
        return _between(text, "Code") or str(status), _between(text, "Message")

    def _post(self, action: str, body: bytes) -> tuple[int, str]:
        named = {"x-amz-target": self.target + action} if self.target else {}
        headers = signed(
            "POST",
            self._host,
            self._path,
            "",
            {"content-type": self.content_type, **named},
            self._credentials.now(),
            self._region,
            time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() - self._clock_ahead)),
            hashlib.sha256(body).hexdigest(),
            self.service,
        )
        try:
            head = self._connection.ask(
                "POST", self._path, {**headers, "content-length": str(len(body))}, body
            )
            text = b"".join(map(bytes, self._connection.body("POST", head)))
        finally:
            self._connection.close()
        return head.status, text.decode("utf-8", "replace")


def this_machine() -> Ec2:
    """EC2 for the machine that this program runs on. Raises as `of_this_machine` does."""
    return of_this_machine(Ec2)


def of_this_machine(kind: type[Service]) -> Service:
    """The service for the machine that this program runs on.

    Its role's keys alone are used: a user's own keys may belong to another account. Raises `AgentError`
    (``ec2-unreachable``).
    """
    variables = {**machine_variables(), **os.environ}
    service = {ENDPOINT_VARIABLE: variables.get(ENDPOINT_VARIABLE, "")}
    metadata = Metadata(service, TIMEOUT_SECONDS)
    try:
        instance_id, region = metadata.get("instance-id"), metadata.get("placement/region")
    except OSError as error:
        raise AgentError("ec2-unreachable", f"the machine's metadata cannot be read: {error}") from error
    if instance_id is None or region is None:
        raise AgentError("ec2-unreachable", "the machine's metadata names no instance")
    own = variables.get("AWS_ENDPOINT_URL_" + kind.service.replace("-", "_").upper())
    endpoint = own or variables.get("AWS_ENDPOINT_URL") or ""
    return kind(instance_id, region, Credentials(service), endpoint, metadata.clock_ahead)


def _between(text: str, name: str) -> str:
    found = re.search(f"<{name}>([^<]*)</{name}>", text)
    return found.group(1) if found else ""
