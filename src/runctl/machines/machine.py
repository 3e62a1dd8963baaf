"""One machine as a run needs it: who rents it out, what it is, and the agent on it."""

from __future__ import annotations

from dataclasses import dataclass

from runctl.core.models import Instance
from runctl.core.progress import SILENT, Progress
from runctl.providers.interface import Provider
from runctl.transport.agent import AgentClient
from runctl.transport.interface import Transport


@dataclass(frozen=True)
class Machine:
    """A reachable instance."""

    provider: Provider
    instance: Instance
    transport: Transport
    agent: AgentClient

    def reconnect(self) -> None:
        """The next call makes a new connection."""
        self.transport.close()


def open_machine(
    provider: Provider, instance: Instance, choice: str = "auto", progress: Progress = SILENT
) -> Machine:
    """Choose the way to the instance. Raises what `Provider.transport` raises."""
    agent = provider.agent(instance, choice, progress)
    return Machine(provider, instance, agent.transport, agent)
