"""EC2 instances that are created and ended."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance
from runctl.core.progress import SILENT, Progress
from runctl.providers.aws.calls.errors import raising_our_errors
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ec2 import instances, launch, planning, releasing
from runctl.providers.capacity import RefusalListener, no_listener
from runctl.providers.instance_plans import CreatePlan, InstanceRequest
from runctl.providers.interface import Renting


@raising_our_errors
class Ec2Renting(Renting):
    """See `Renting`."""

    # Every launch asks for InstanceInitiatedShutdownBehavior=terminate.
    ends_on_shutdown = True
    choosing = True

    def __init__(self, context: AwsContext, close_connections: Callable[[InstanceId], None]) -> None:
        self._context = context
        self._close_connections = close_connections

    def plan(self, request: InstanceRequest, progress: Progress = SILENT) -> CreatePlan:
        """Zone, image, network, rights and prices."""
        return planning.plan_create(self._context, request, progress)

    def create(
        self, plan: CreatePlan, progress: Progress = SILENT, refused: RefusalListener = no_listener
    ) -> Instance:
        """RunInstances, or CreateFleet where several pools will do; with its volumes attached."""
        return launch.create(self._context, plan, progress, refused)

    def request_like(self, instance: Instance) -> InstanceRequest:
        """With its image, key, security groups, role and root disk."""
        return instances.request_like(self._context, instance)

    def terminate(self, instance_id: InstanceId, progress: Progress = SILENT) -> Instance:
        """TerminateInstances, for what is ours."""
        instance = instances.terminate(self._context, instance_id, progress)
        self._close_connections(instance_id)
        return instance

    def wait_ended(
        self, instance_id: InstanceId, *, timeout: timedelta, progress: Progress = SILENT
    ) -> Instance:
        """EC2 says that it is terminated, and shows its volumes as free."""
        return releasing.wait_ended(self._context, instance_id, timeout, progress)
