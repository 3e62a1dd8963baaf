"""The volumes of one ``train``: looked up for the plan, attached for the start, given back if there is none."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from runctl.agent.spec import EndReason
from runctl.cli.context import Cli
from runctl.cli.machines.resolve import wanted_transport
from runctl.core.models import Instance, Volume
from runctl.machines.machine import Machine
from runctl.providers.interface import Provider
from runctl.runs.mounts.attachments import volumes_attached
from runctl.runs.mounts.facts import find_holder, look_around
from runctl.runs.mounts.plan import Surroundings
from runctl.runs.mounts.volume_conflicts import Holder
from runctl.runs.plan import ProjectPlan, RunPlan
from runctl.transport.agent import AgentClient


@dataclass(frozen=True)
class VolumesOfTraining:
    """What ``train`` does with volumes on its machine."""

    cli: Cli
    machine: Machine
    transport: str | None

    def look_around(self, project: ProjectPlan) -> Surroundings:
        """See `runctl.runs.mounts.facts.look_around`; on this computer there are no volumes."""
        instance = self.machine.instance
        if instance.provider == "local":
            return Surroundings(instance)
        return look_around(
            project.mount_requests,
            project.volume_wishes,
            instance=instance,
            agent=self.machine.agent,
            provider=self._provider,
            store=self.cli.store,
            agent_on=self._agent_on,
            progress=self.cli.progress,
        )

    def attached(self, plan: RunPlan) -> AbstractContextManager[None]:
        """See `runctl.runs.mounts.attachments.volumes_attached`."""

        def may_have_started() -> bool:
            known = self.cli.store.find(plan.run_id)
            return known is not None and known.end_reason != EndReason.NOT_STARTED.value

        return volumes_attached(
            plan.mounts,
            self.machine.instance,
            provider=self._provider,
            agent_on=self._agent_on,
            find_holder=self._holder,
            may_have_started=may_have_started,
            progress=self.cli.progress,
        )

    @property
    def _provider(self) -> Provider:
        return self.cli.provider(self.machine.instance.provider)

    def _agent_on(self, instance: Instance) -> AgentClient:
        if instance.id == self.machine.instance.id:
            return self.machine.agent
        choice = wanted_transport(self.cli, instance, self.transport)
        return self.cli.provider(instance.provider).agent(instance, choice, self.cli.progress)

    def _holder(self, volume: Volume) -> Holder:
        return find_holder(volume, self._provider, self.cli.store, self._agent_on, self.cli.progress)
