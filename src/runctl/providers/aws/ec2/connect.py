"""Ways to a machine: looks whether SSH and Systems Manager would work, chooses, and keeps what it has chosen."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from runctl.core import tags as tag
from runctl.core.errors import (
    InstanceEnded,
    NotFound,
    PermissionDenied,
    RunctlError,
    Unreachable,
    Unsupported,
)
from runctl.core.files import expand_user, runtime_folder
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance, InstanceState
from runctl.core.progress import Progress
from runctl.providers.aws.calls.errors import our_errors
from runctl.providers.aws.calls.parse import instance_of
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ec2.hostkeys import console_host_keys
from runctl.providers.aws.ec2.instances import describe
from runctl.providers.aws.ec2.network import lets_ssh_in
from runctl.providers.aws.settings import TRANSPORTS
from runctl.providers.aws.ssm.candidate import ssm_candidate
from runctl.providers.ended import ended
from runctl.transport.agent import AgentClient
from runctl.transport.choice import AUTO, Candidate, NoChoice, SshFacts, choose, ssh_candidate
from runctl.transport.interface import Transport
from runctl.transport.silence import StillThere
from runctl.transport.ssh_failure import SshHints

if TYPE_CHECKING:
    from runctl.providers.aws.ssm.transport import SsmTransport
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
_STATE_ASKED = 'printf %s "${RUNCTL_AGENT_STATE:-/var/lib/runctl}"'


class Connections:
    """The transports and agents of one provider, one for each machine and choice. Safe to use from threads."""

    def __init__(self, context: AwsContext) -> None:
        self._context = context
        self._lock = threading.RLock()
        self._transports: dict[tuple[InstanceId, str], Transport] = {}
        self._agents: dict[tuple[InstanceId, str], AgentClient] = {}
        self._no_instance_connect: dict[InstanceId, str] = {}
        """Why AWS would not let our key in, by machine."""

    def transport(self, instance: Instance, choice: str, progress: Progress) -> Transport:
        """See `Provider.transport`."""
        self._context.session.journal.reached_machines = True
        wanted = self._context.settings.transport if choice == AUTO else choice
        with self._lock:
            known = self._transports.get((instance.id, wanted))
        if known is not None:
            return known
        if wanted not in {AUTO, *TRANSPORTS}:
            names = " or ".join(TRANSPORTS)
            raise Unsupported(f"an AWS machine cannot be reached by {wanted}", hint=f"use {AUTO}, {names}")
        if instance.state is not InstanceState.RUNNING:
            raise Unreachable(
                f"{instance.id} is {instance.state.value}",
                hint=f"runctl aws start {instance.id}" if not instance.state.is_over else "create another",
            )
        transport = self._choose(instance, wanted, progress)
        with self._lock:
            return self._transports.setdefault((instance.id, wanted), transport)

    def agent(self, instance: Instance, choice: str, progress: Progress) -> AgentClient:
        """See `Provider.agent`."""
        from runctl.agent.package import build

        transport = self.transport(instance, choice, progress)
        with self._lock:
            known = self._agents.get((instance.id, choice))
        if known is not None and known.transport is transport:
            return known
        client = AgentClient(
            transport,
            agent_file=lambda: build(self._context.cache_directory / "agent"),
            progress=progress,
            journal=self._context.session.journal,
            **self._state_directory(transport),
        )
        with self._lock:
            self._agents[instance.id, choice] = client
        return client

    def forget(self, instance_id: InstanceId) -> None:
        """The next use chooses anew; connections are closed."""
        with self._lock:
            gone = [self._transports.pop(key) for key in list(self._transports) if key[0] == instance_id]
            for key in [key for key in self._agents if key[0] == instance_id]:
                del self._agents[key]
        for transport in gone:
            transport.close()

    def _state_directory(self, transport: Transport) -> dict[str, Any]:
        """Machines of a stand-in for AWS may keep their files elsewhere; AWS's own never do."""
        if self._context.session.endpoint is None:
            return {}
        done = transport.run(["sh", "-c", _STATE_ASKED], timeout=timedelta(seconds=60))
        return {"state_directory": PurePosixPath(done.stdout.decode())} if done.stdout else {}

    def _choose(self, instance: Instance, wanted: str, progress: Progress) -> Transport:
        identity: Path | None = None
        ssh: SshFacts | None = None
        ssm: Candidate | None = None
        with ThreadPoolExecutor(2) as pool:
            asked = pool.submit(self._ssm_candidate, instance) if wanted != "ssh" else None
            lets_in = wanted == "ssh"
            if wanted != "ssm":
                described = describe(self._context, instance.id)
                identity = self._identity(described)
                lets_in = lets_in or self._lets_ssh_in(described)
            ssm = asked.result() if asked else None
        if wanted != "ssm":
            # A closed port drops what knocks: waiting for it would cost seconds of every command.
            ssh = self._ssh_facts(instance, identity) if lets_in else _closed(instance)
        candidates = [ssh_candidate(ssh)] if ssh else []
        choice = choose(wanted, candidates + ([ssm] if ssm else []))
        if isinstance(choice, NoChoice):
            raise choice.error(instance.id)
        progress.detail(f"transport {choice.name}: {choice.reason}")
        if choice.name == "ssm":
            return self._ssm(instance, progress)
        return self._ssh(instance, ssh.address if ssh and ssh.address else "", identity, progress)

    def _ssh_facts(self, instance: Instance, identity: Path | None) -> SshFacts:
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

    def _ssm_candidate(self, instance: Instance) -> Candidate:
        try:
            with our_errors(self._context.session.endpoint):
                answer = self._context.session.ssm.describe_instance_information(
                    Filters=[{"Key": "InstanceIds", "Values": [instance.id]}]
                )
        except PermissionDenied as error:
            return ssm_candidate(None, problem=error.message)
        found = answer["InstanceInformationList"]
        return ssm_candidate(found[0]["PingStatus"] if found else None)

    def _ssm(self, instance: Instance, progress: Progress) -> SsmTransport:
        from runctl.providers.aws.ssm.transport import SsmTransport
        from runctl.providers.aws.staging import S3Staging

        session = self._context.session
        return SsmTransport(
            session.ssm,
            instance.id,
            user=login_user(instance),
            staging=S3Staging(session, self._context.settings.staging_bucket, progress),
            progress=progress,
            still_there=self._asker(instance),
        )

    def _asker(self, instance: Instance) -> StillThere:
        def still_there(silent_seconds: float) -> None:
            try:
                with our_errors(self._context.session.endpoint):
                    gone = ended(instance_of(describe(self._context, instance.id)), silent_seconds)
            except NotFound:
                gone = InstanceEnded(f"instance {instance.id} no longer exists")
            except RunctlError:
                # It cannot be seen, which does not mean that it is gone.
                return
            if gone is not None:
                raise gone

        return still_there

    def _ssh(
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
            still_there=self._asker(instance),
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


def login_user(instance: Instance) -> str:
    """Who logs in to the machine."""
    return instance.tags.get(tag.LOGIN_USER) or "ec2-user"


def _closed(instance: Instance) -> SshFacts:
    return SshFacts(
        instance.public_ip or instance.private_ip,
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
