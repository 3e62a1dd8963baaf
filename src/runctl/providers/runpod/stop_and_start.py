"""Pods that are stopped, and started again on the host that they were on."""

from __future__ import annotations

from collections.abc import Mapping, Set

from runctl.core import tags as tag
from runctl.core.errors import Conflict
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance, InstanceState
from runctl.core.progress import SILENT, Progress
from runctl.providers.interface import StopAndStart
from runctl.providers.preparing import LEAST_SECONDS, limits_of
from runctl.providers.registry import command
from runctl.providers.runpod.context import RunPodContext
from runctl.providers.runpod.machines import PROVIDER, pod_tags
from runctl.providers.ssh_machines import SshMachines


class RunPodStopAndStart(StopAndStart):
    """See `StopAndStart`."""

    keeps_disks = False

    def __init__(self, context: RunPodContext, machines: SshMachines) -> None:
        self._context = context
        self._machines = machines

    def stop(self, instance_id: InstanceId, progress: Progress = SILENT) -> Instance:
        """It is stopped; its own disk is empty at the next start."""
        self._check_ours(instance_id)
        del progress
        self._machines.forget(instance_id)
        return self._act(instance_id, "stop", {InstanceState.STOPPED})

    def start(self, instance_id: InstanceId, progress: Progress = SILENT) -> Instance:
        """It is starting on the host that it was on; where that has no free GPUs, it stays stopped.

        Raises `Conflict` (code ``expired``) where its time to live has passed: it would end itself at once.
        """
        del progress
        self._check_time(instance_id, self._check_ours(instance_id))
        # Its disk, with its host key, was lost when it stopped.
        self._machines.forget_key(instance_id)
        return self._act(instance_id, "start", {InstanceState.PENDING, InstanceState.RUNNING})

    def _act(self, instance_id: InstanceId, action: str, wanted: Set[InstanceState]) -> Instance:
        try:
            self._context.api.act(instance_id, action)
        except Conflict:
            # It was so before, or an answer was lost.
            instance = self._context.instance(instance_id)
            if instance.state not in wanted:
                raise
            return instance
        return self._context.instance(instance_id)

    def _check_time(self, instance_id: InstanceId, tags: Mapping[str, str]) -> None:
        left = limits_of(tags, self._context.clock.now()).ttl_seconds
        if left is not None and left <= LEAST_SECONDS:
            raise Conflict(
                f"the time to live of pod {instance_id} is over at {tags[tag.EXPIRES_AT]}: started, it would end"
                " itself within a minute",
                hint=f"{command(PROVIDER, 'create')} makes another one, with the same network volume if need be;"
                f" {command(PROVIDER, 'terminate', instance_id)} ends this one",
                code="expired",
            )

    def _check_ours(self, instance_id: InstanceId) -> dict[str, str]:
        tags = pod_tags(self._context.api.pod(instance_id))
        if not tags:
            raise Conflict(
                f"pod {instance_id} was not created by runctl", hint="use RunPod's console", code="not-ours"
            )
        return tags
