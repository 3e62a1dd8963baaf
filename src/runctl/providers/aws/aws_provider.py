"""The AWS provider: machines of EC2, and what else it can do, each an object of the module that knows its subject."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta

from runctl.core.ids import InstanceId
from runctl.core.models import Instance
from runctl.core.progress import SILENT, Progress
from runctl.providers.aws.calls.errors import raising_our_errors
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ebs.clones import EbsClones
from runctl.providers.aws.ebs.filling import EbsFilling
from runctl.providers.aws.ebs.modifications import EbsResizing
from runctl.providers.aws.ebs.snapshots import EbsSnapshots
from runctl.providers.aws.ebs.volumes import EbsVolumes
from runctl.providers.aws.ec2 import instances, readiness
from runctl.providers.aws.ec2.connect import TRANSPORTS, Connections
from runctl.providers.aws.ec2.instances import Ec2StopAndStart
from runctl.providers.aws.ec2.renting import Ec2Renting
from runctl.providers.aws.ecr import EcrRegistry, platform_of
from runctl.providers.interface import Check, Provider, Scope
from runctl.transport.agent import AgentClient
from runctl.transport.interface import Transport


@raising_our_errors
class AwsProvider(Provider):
    """EC2 instances, EBS volumes and ECR images of one account and region."""

    name = "aws"
    transports = TRANSPORTS
    renting: Ec2Renting
    stop_and_start: Ec2StopAndStart
    volumes: EbsVolumes
    snapshots: EbsSnapshots
    clones: EbsClones
    resizing: EbsResizing
    filling: EbsFilling
    registry: EcrRegistry

    def __init__(self, context: AwsContext) -> None:
        self._context = context
        self.session = context.session
        self.journal = context.session.journal
        self._connections = Connections(context)
        self.renting = Ec2Renting(context, self._connections.forget)
        self.stop_and_start = Ec2StopAndStart(context, self._connections.forget)
        self.volumes = EbsVolumes(context)
        self.snapshots = EbsSnapshots(context)
        self.clones = EbsClones(context)
        self.resizing = EbsResizing(context)
        self.filling = EbsFilling(context)
        self.registry = EcrRegistry(context)

    def scope(self) -> Scope:
        """The account and region, and the configuration's ``[aws]`` section."""
        session = self._context.session
        return Scope(session.identity.account, session.region, asdict(self._context.settings))

    def report_to(self, progress: Progress) -> None:
        """See `Provider.report_to`."""
        self.session.report_to(progress)

    def wait_ready(
        self, instance_id: InstanceId, *, timeout: timedelta, progress: Progress = SILENT
    ) -> Instance:
        """The machine can be used: running, reachable, user-data finished, its volumes attached and mounted."""
        return readiness.wait_ready(self._context, self._connections, instance_id, timeout, progress)

    def instance(self, instance_id: InstanceId) -> Instance:
        """As it is now."""
        return instances.priced(self._context, instances.describe(self._context, instance_id))

    def instances(self, *, everyone: bool = False, include_ended: bool = False) -> tuple[Instance, ...]:
        """All of them, newest first, every page."""
        return instances.list_instances(self._context, everyone=everyone, include_ended=include_ended)

    def transport(self, instance: Instance, choice: str = "auto", progress: Progress = SILENT) -> Transport:
        """A way to the machine: ``auto``, ``ssh`` or ``ssm``."""
        return self._connections.transport(instance, choice, progress)

    def agent(self, instance: Instance, choice: str = "auto", progress: Progress = SILENT) -> AgentClient:
        """The agent on the machine."""
        return self._connections.agent(instance, choice, progress)

    @property
    def region(self) -> str | None:
        """The session's."""
        return self.session.region

    def costs_money(self) -> bool:
        """Not in the sandbox."""
        return not self.session.in_sandbox

    def platform(self, instance_type: str) -> str | None:
        """By the type's name."""
        return platform_of(instance_type)

    def doctor(self) -> tuple[Check, ...]:
        """What works, what is missing, and the exact fix."""
        # What it asks with takes a while to import, and no other command needs it.
        from runctl.providers.aws.doctor import doctor

        return doctor(self._context)
