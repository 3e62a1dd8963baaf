"""The AWS provider: machines of EC2, and what else it can do, each an object of the module that knows its subject."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from runctl.core.errors import Unsupported
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance
from runctl.core.progress import SILENT, Progress
from runctl.costs.billing import BillingRules
from runctl.providers.abilities import lazy_ability
from runctl.providers.aws.calls.errors import raising_our_errors
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.settings import TRANSPORTS
from runctl.providers.interface import Check, Provider, Scope

if TYPE_CHECKING:
    from runctl.providers.aws.account.setup import AwsAccountSetup
    from runctl.providers.aws.autoscaling.groups import AutoScalingGroups
    from runctl.providers.aws.bill import AwsBill
    from runctl.providers.aws.ebs.clones import EbsClones
    from runctl.providers.aws.ebs.filling import EbsFilling
    from runctl.providers.aws.ebs.modifications import EbsResizing
    from runctl.providers.aws.ebs.snapshots import EbsSnapshots
    from runctl.providers.aws.ebs.volumes import EbsVolumes
    from runctl.providers.aws.ec2.connect import Connections
    from runctl.providers.aws.ec2.instances import Ec2StopAndStart
    from runctl.providers.aws.ec2.limits import Ec2Limits
    from runctl.providers.aws.ec2.nodes import Ec2Nodes
    from runctl.providers.aws.ec2.renting import Ec2Renting
    from runctl.providers.aws.ec2.spot_market import Ec2SpotMarket
    from runctl.providers.aws.ecr import EcrRegistry
    from runctl.providers.aws.inventory.inventory import AwsInventory
    from runctl.providers.aws.kubernetes import AwsKubernetes
    from runctl.providers.aws.preview.ability import AwsPreview
    from runctl.providers.aws.prices.ability import AwsPrices
    from runctl.providers.aws.prices.catalogue import AwsCatalogue
    from runctl.providers.aws.s3_storage import S3Storage
    from runctl.providers.aws.terraform.ability import AwsTerraform
    from runctl.transport.agent import AgentClient
    from runctl.transport.interface import Transport


@raising_our_errors
class AwsProvider(Provider):
    """EC2 instances, EBS volumes, ECR images and S3 objects of one account and region.

    An ability is imported when it is asked for: a command needs one or two of them, and starts sooner.
    """

    name = "aws"
    transports = TRANSPORTS
    announces_interruptions = True
    # Linux machines: by the second, at least a minute of each start; nothing for a spot machine that EC2 takes back in
    # its first hour; the spot price at the start of an instance-hour holds for that hour (EC2 user guide, "Billing for
    # interrupted Spot Instances"; EC2 FAQ); and an hour of a public IPv4 address has a price (VPC pricing).
    billing = BillingRules(
        minimum=timedelta(seconds=60),
        free_if_taken_back_within=timedelta(hours=1),
        spot_price_holds_for=timedelta(hours=1),
        bills_addresses=True,
    )

    def __init__(self, context: AwsContext) -> None:
        self._context = context
        self.session = context.session
        self.journal = context.session.journal

    @cached_property
    def _connections(self) -> Connections:
        from runctl.providers.aws.ec2.connect import Connections

        return Connections(self._context)

    @lazy_ability
    def renting(self) -> Ec2Renting:
        """Instances are created and ended."""
        from runctl.providers.aws.ec2.renting import Ec2Renting

        return Ec2Renting(self._context, self._connections.forget)

    @lazy_ability
    def account(self) -> AwsAccountSetup:
        """Policies, the machines' role, the bucket and the alarm."""
        from runctl.providers.aws.account.setup import AwsAccountSetup

        return AwsAccountSetup(self._context)

    @lazy_ability
    def limits(self) -> Ec2Limits:
        """Instances end themselves at limits."""
        from runctl.providers.aws.ec2.limits import Ec2Limits

        return Ec2Limits(self._context)

    @lazy_ability
    def stop_and_start(self) -> Ec2StopAndStart:
        """Instances are stopped and started."""
        from runctl.providers.aws.ec2.instances import Ec2StopAndStart

        return Ec2StopAndStart(self._context, self._connections.forget)

    @lazy_ability
    def volumes(self) -> EbsVolumes:
        """EBS volumes."""
        from runctl.providers.aws.ebs.volumes import EbsVolumes

        return EbsVolumes(self._context)

    @lazy_ability
    def snapshots(self) -> EbsSnapshots:
        """EBS snapshots."""
        from runctl.providers.aws.ebs.snapshots import EbsSnapshots

        return EbsSnapshots(self._context)

    @lazy_ability
    def clones(self) -> EbsClones:
        """Volumes are copied."""
        from runctl.providers.aws.ebs.clones import EbsClones

        return EbsClones(self._context)

    @lazy_ability
    def resizing(self) -> EbsResizing:
        """Volumes are made larger or faster."""
        from runctl.providers.aws.ebs.modifications import EbsResizing

        return EbsResizing(self._context)

    @lazy_ability
    def filling(self) -> EbsFilling:
        """Volumes are filled from S3."""
        from runctl.providers.aws.ebs.filling import EbsFilling

        return EbsFilling(self._context)

    @lazy_ability
    def prices(self) -> AwsPrices:
        """What EC2, EBS, S3, ECR and the network cost."""
        from runctl.providers.aws.prices.ability import AwsPrices

        return AwsPrices(self._context)

    @lazy_ability
    def catalogue(self) -> AwsCatalogue:
        """Instance types in every region, with their prices."""
        from runctl.providers.aws.prices.catalogue import AwsCatalogue

        return AwsCatalogue(self._context)

    @lazy_ability
    def spot_market(self) -> Ec2SpotMarket:
        """Placement scores."""
        from runctl.providers.aws.ec2.spot_market import Ec2SpotMarket

        return Ec2SpotMarket(self._context)

    @lazy_ability
    def bill(self) -> AwsBill:
        """Cost Explorer."""
        from runctl.providers.aws.bill import AwsBill

        return AwsBill(self._context)

    @lazy_ability
    def registry(self) -> EcrRegistry:
        """ECR."""
        from runctl.providers.aws.ecr import EcrRegistry

        return EcrRegistry(self._context)

    @lazy_ability
    def object_storage(self) -> S3Storage:
        """Objects of S3 are read and written from here."""
        from runctl.providers.aws.s3_storage import S3Storage

        return S3Storage(self._context.session)

    @lazy_ability
    def groups(self) -> AutoScalingGroups:
        """Auto Scaling groups of size one."""
        from runctl.providers.aws.autoscaling.groups import AutoScalingGroups

        return AutoScalingGroups(self._context)

    @lazy_ability
    def kubernetes(self) -> AwsKubernetes:
        """Nodes of EKS, and the EBS CSI driver."""
        from runctl.providers.aws.kubernetes import AwsKubernetes

        return AwsKubernetes(self._context)

    @lazy_ability
    def nodes(self) -> Ec2Nodes:
        """Several instances in one zone, with a security group of their own."""
        from runctl.providers.aws.ec2.nodes import Ec2Nodes

        return Ec2Nodes(self._context)

    @lazy_ability
    def inventory(self) -> AwsInventory:
        """Everything that runctl has made in the account is listed and removed."""
        from runctl.providers.aws.inventory.inventory import AwsInventory

        return AwsInventory(self._context)

    @lazy_ability
    def terraform(self) -> AwsTerraform:
        """The resources of hashicorp/aws."""
        from runctl.providers.aws.terraform.ability import AwsTerraform

        return AwsTerraform(self._context)

    @lazy_ability
    def preview(self) -> AwsPreview:
        """Commands of the AWS CLI."""
        from runctl.providers.aws.preview.ability import AwsPreview

        return AwsPreview(self.session)

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
        from runctl.providers.aws.ec2 import readiness

        if self.preview.is_on:
            return readiness.show_ready(self._context, self.preview, instance_id, timeout, progress)
        return readiness.wait_ready(self._context, self._connections, instance_id, timeout, progress)

    def instance(self, instance_id: InstanceId) -> Instance:
        """As it is now."""
        from runctl.providers.aws.ec2 import instances

        return instances.priced(self._context, instances.describe(self._context, instance_id))

    def instances(self, *, everyone: bool = False, include_ended: bool = False) -> tuple[Instance, ...]:
        """All of them, newest first, every page."""
        from runctl.providers.aws.ec2 import instances

        return instances.list_instances(self._context, everyone=everyone, include_ended=include_ended)

    def transport(self, instance: Instance, choice: str = "auto", progress: Progress = SILENT) -> Transport:
        """A way to the machine: ``auto``, ``ssh`` or ``ssm``."""
        if self.preview.is_on:
            raise Unsupported("what is done on a machine cannot be shown: it is not reached")
        return self._connections.transport(instance, choice, progress)

    def agent(self, instance: Instance, choice: str = "auto", progress: Progress = SILENT) -> AgentClient:
        """The agent on the machine."""
        if self.preview.is_on:
            return self.preview.agent(instance)
        return self._connections.agent(instance, choice, progress)

    def client(self, service: str, *, region: str | None = None) -> Any:
        """boto3's: ``ec2``, ``s3``, …"""
        return self.session.plain_client(service, region)

    @property
    def region(self) -> str | None:
        """The session's."""
        return self.session.region

    def costs_money(self) -> bool:
        """Not in the sandbox."""
        return not self.session.in_sandbox

    def platform(self, instance_type: str) -> str | None:
        """By the type's name."""
        from runctl.providers.aws.ecr import platform_of

        return platform_of(instance_type)

    def doctor(self) -> tuple[Check, ...]:
        """What works, what is missing, and the exact fix."""
        from runctl.providers.aws.doctor import doctor

        return doctor(self._context)
