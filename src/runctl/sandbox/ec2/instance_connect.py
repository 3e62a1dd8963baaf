"""EC2 Instance Connect with effect: the key that is sent opens the machine for a minute."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import re
import subprocess
import threading
import uuid
from types import SimpleNamespace
from typing import Any

from moto.core.exceptions import ServiceException
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import ec2_backends
from moto.ec2instanceconnect.models import Ec2InstanceConnectBackend, ec2instanceconnect_backends
from moto.ec2instanceconnect.responses import Ec2InstanceConnectResponse
from moto.ec2instanceconnect.urls import url_bases

from runctl.sandbox.world import current

SECONDS = 60.0
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,31}")
_KEY_TYPES = ("ssh-rsa", "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")


class ConnectError(ServiceException):
    """A refusal with AWS's code."""


class SandboxConnect(Ec2InstanceConnectBackend):
    """One region of EC2 Instance Connect."""

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self._withdrawals: dict[tuple[str, str, str], threading.Timer] = {}
        self._lock = threading.Lock()

    @property
    def _url_module(self) -> Any:
        return SimpleNamespace(url_bases=url_bases, url_paths={"{0}/$": SandboxConnectResponse.dispatch})

    def send_key(self, instance_id: str, user: str, public_key: str) -> str:
        """The key opens the user's login for a minute; the request's id. Raises `ConnectError`.

        As on AWS, it says nothing of whether the machine has that user.
        """
        if not _USER.fullmatch(user):
            raise ConnectError("InvalidArgsException", "Instance OS username is not valid.")
        key = " ".join(public_key.split()[:2])
        if not _is_public_key(key):
            raise ConnectError("InvalidArgsException", "SSH public key is not valid.")
        machine = self._machine(instance_id)
        authorize = getattr(machine, "authorize", None)
        if authorize is None:
            raise ConnectError(
                "EC2InstanceUnavailableException",
                f"The instance {instance_id} has no SSH server: this sandbox's machines are folders.",
            )
        name = (instance_id, user, key)
        with self._lock:
            earlier = self._withdrawals.pop(name, None)
            if earlier is not None:
                earlier.cancel()
            try:
                withdraw = authorize(user, key)
            except (ProcessLookupError, subprocess.TimeoutExpired) as error:
                raise _not_running(instance_id) from error
            timer = threading.Timer(SECONDS, self._withdraw, (name, withdraw))
            timer.daemon = True
            self._withdrawals[name] = timer
            timer.start()
        return str(uuid.uuid4())

    def _withdraw(self, name: tuple[str, str, str], withdraw: Any) -> None:
        with self._lock:
            # One that was sent again in the meantime has a timer of its own.
            if self._withdrawals.get(name) is threading.current_thread():
                del self._withdrawals[name]
                with contextlib.suppress(ProcessLookupError):
                    withdraw()

    def _machine(self, instance_id: str) -> Any:
        try:
            instance = ec2_backends[self.account_id][self.region_name].get_instance(instance_id)
        except EC2ClientError as error:
            raise _not_found(instance_id) from error
        if instance.state == "terminated":
            raise _not_found(instance_id)
        machine = current().machine(instance_id)
        if instance.state != "running" or machine is None or not machine.is_up:
            raise _not_running(instance_id)
        return machine


class SandboxConnectResponse(Ec2InstanceConnectResponse):
    """The requests."""

    def send_ssh_public_key(self) -> str:
        """SendSSHPublicKey."""
        backend = ec2instanceconnect_backends[self.current_account][self.region]
        if not isinstance(backend, SandboxConnect):
            raise AssertionError("install() has not run")
        request_id = backend.send_key(
            self._get_param("InstanceId") or "",
            self._get_param("InstanceOSUser") or "",
            self._get_param("SSHPublicKey") or "",
        )
        return json.dumps({"RequestId": request_id, "Success": True})


def install() -> None:
    """From now on moto makes these."""
    ec2instanceconnect_backends.backend = SandboxConnect
    ec2instanceconnect_backends.clear()


def _is_public_key(text: str) -> bool:
    kind, _, body = text.partition(" ")
    if kind not in _KEY_TYPES:
        return False
    try:
        blob = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        return False
    return blob[4 : 4 + len(kind)] == kind.encode()


def _not_found(instance_id: str) -> ConnectError:
    return ConnectError("EC2InstanceNotFoundException", f"No EC2 instance with ID {instance_id} was found.")


def _not_running(instance_id: str) -> ConnectError:
    return ConnectError(
        "EC2InstanceStateInvalidException",
        f"The instance {instance_id} is not in a running state. Start it and try again.",
    )
