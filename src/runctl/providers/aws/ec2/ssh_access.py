"""The way to a machine over SSH: its address, the key that it lets in, and what its security groups allow."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runctl.core.errors import NotFound, PermissionDenied, RunctlError, Unreachable
from runctl.core.files import expand_user, runtime_folder
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance
from runctl.core.progress import Progress
from runctl.providers.aws.calls.errors import our_errors
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ec2.access import Offer, asks_ec2, login_user
from runctl.providers.aws.ec2.hostkeys import console_host_keys
from runctl.providers.aws.ec2.instances import describe
from runctl.providers.aws.ec2.network import lets_ssh_in
from runctl.transport.choice import SshFacts, ssh_candidate
from runctl.transport.ssh_failure import SshHints
from runctl.transport.ssh_programs import missing_program

if TYPE_CHECKING:
    from runctl.transport.ssh import SshTransport

SSH_PORT = 22
SSH_HINTS = SshHints(
    unreachable="is the instance running, and does its security group allow port 22 from here? --transport ssm needs no"
    " port",
    one_time_key="the image needs EC2 Instance Connect (ec2-instance-connect) for this; use --transport ssm, or the"
    " instance's key pair",
    key_refused="is {identity} the private key of the instance's key pair, and the login user the image's own?",
    no_key="name the private key of the instance's key pair (aws.identity_file), or use --transport ssm",
    unknown_host_key="the console shows the key some minutes after the boot: try again, or use --transport ssm, or"
    " leave --strict-host-key (aws.strict_host_key) out",
)
_CLOSED_HINT = "a new machine needs a minute; after that: does its security group allow the port from here?"
_PROBE_SECONDS = 2.0


class SshAccess:
    """See `Access`."""

    def __init__(self, context: AwsContext) -> None:
        self._context = context
        self._no_instance_connect: dict[InstanceId, str] = {}
        """Why AWS would not let our key in, by machine."""

    def offer(self, instance: Instance, *, insisted: bool) -> Offer:
        """See `Access.offer`. A closed port is tried only where SSH was asked for: it drops what knocks, and waiting
        for it would cost seconds of every command."""
        described = describe(self._context, instance.id)
        identity = self._identity(described)
        missing = missing_program(identity)
        if missing is not None:
            facts = SshFacts(_address(instance), SSH_PORT, missing=missing)
        elif insisted or self._lets_ssh_in(described):
            facts = self._facts(instance, identity)
        else:
            facts = _closed(instance)
        return Offer(
            ssh_candidate(facts),
            lambda progress: self._open(instance, facts.address or "", identity, progress),
        )

    def _facts(self, instance: Instance, identity: Path | None) -> SshFacts:
        addresses = [address for address in (instance.public_ip, instance.private_ip) if address]
        answering: str | None = None
        if addresses:
            with ThreadPoolExecutor(len(addresses)) as pool:
                answers = pool.map(_answers, addresses)
                answering = next((a for a, yes in zip(addresses, answers, strict=True) if yes), None)
        address = answering or (addresses[0] if addresses else None)
        if identity is not None:
            key = f"key file {identity}"
            return SshFacts(address, SSH_PORT, answering is not None, key, closed_hint=_CLOSED_HINT)
        refused = self._no_instance_connect.get(instance.id)
        if refused is not None:
            return SshFacts(
                address, SSH_PORT, answering is not None, no_key=refused, closed_hint=_CLOSED_HINT
            )
        connect = "EC2 Instance Connect"
        return SshFacts(address, SSH_PORT, answering is not None, connect, closed_hint=_CLOSED_HINT)

    def _lets_ssh_in(self, described: Mapping[str, Any]) -> bool:
        """Whether the machine's security groups do; where they may not be read, perhaps."""
        ids = [group["GroupId"] for group in described.get("SecurityGroups", ())]
        try:
            with our_errors(self._context.session.endpoint):
                groups = self._context.session.ec2.describe_security_groups(GroupIds=ids)["SecurityGroups"]
        except (NotFound, PermissionDenied):
            return True
        return lets_ssh_in(groups)

    def _identity(self, described: Mapping[str, Any]) -> Path | None:
        """The key file that the machine lets in, if there is one here; else EC2 Instance Connect has to do it."""
        aws = self._context.settings
        if aws.identity_file:
            return expand_user(aws.identity_file)
        key_name = described.get("KeyName")
        folder = expand_user("~/.ssh")
        files = [folder / f"{key_name}.pem", folder / key_name] if key_name and "/" not in key_name else []
        return next((file for file in files if file.is_file()), None)

    def _open(
        self, instance: Instance, address: str, identity: Path | None, progress: Progress
    ) -> SshTransport:
        from runctl.transport.ssh import SshTransport
        from runctl.transport.ssh_connection import SshTarget, one_time_key

        state = self._context.state_directory
        authorize = None
        if identity is None:
            identity = one_time_key(state)

            def authorize(public_key: str) -> None:
                self._let_in(instance, public_key)

        return SshTransport(
            SshTarget(address, login_user(instance), instance.id),
            runtime_dir=runtime_folder(),
            known_hosts=state / "known_hosts",
            identity=identity,
            host_keys=lambda: console_host_keys(self._context.session, instance.id),
            authorize=authorize,
            still_there=asks_ec2(self._context, instance),
            strict_host_key=self._context.settings.strict_host_key,
            hints=SSH_HINTS,
            on_first_key=lambda fingerprints: progress.warn(
                f"the host key of {instance.id} ({fingerprints}) is taken on trust: its console does not show it yet,"
                " so it is not verified (--strict-host-key refuses such a machine)"
            ),
        )

    def _let_in(self, instance: Instance, public_key: str) -> None:
        """EC2 Instance Connect lets the key in for a minute."""
        try:
            with our_errors(self._context.session.endpoint):
                self._context.session.instance_connect.send_ssh_public_key(
                    InstanceId=instance.id, InstanceOSUser=login_user(instance), SSHPublicKey=public_key
                )
        except NotFound as error:
            # Instance Connect sees no more than EC2 does, and what became of the machine is EC2's to say.
            raise Unreachable(f"EC2 Instance Connect cannot see {instance.id}: {error.message}") from error
        except RunctlError as error:
            # From now on SSH is no way to this machine, so that the automatic choice takes the other.
            self._no_instance_connect[instance.id] = f"EC2 Instance Connect: {error.message}"
            raise


def _address(instance: Instance) -> str | None:
    return instance.public_ip or instance.private_ip


def _closed(instance: Instance) -> SshFacts:
    return SshFacts(
        _address(instance),
        SSH_PORT,
        port_open=False,
        no_key="its security groups do not let port 22 in",
        closed_hint=_CLOSED_HINT,
    )


def _answers(address: str) -> bool:
    try:
        socket.create_connection((address, SSH_PORT), timeout=_PROBE_SECONDS).close()
    except OSError:
        return False
    return True
