"""One machine as a run needs it: who rents it out, what it is, and the agent on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runctl._dataclasses import dataclass
from runctl.core.machine_models import Instance
from runctl.core.progress import SILENT, Progress
from runctl.providers.interface import Provider
from runctl.transport.agent import AgentClient
from runctl.transport.interface import Transport

if TYPE_CHECKING:
    from runctl.machines.session import Session


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


def transport_choice(session: Session, instance: Instance, choice: str | None = None) -> str:
    """``choice``, else what the configuration of the instance's provider says; ``auto`` leaves it to the provider."""
    return choice or session.defaults(instance.provider).transport


def reach(session: Session, instance: Instance, choice: str | None = None) -> Machine:
    """The machine of an instance, by the transport that was chosen or configured."""
    return open_machine(
        session.provider(instance.provider),
        instance,
        transport_choice(session, instance, choice),
        session.progress,
    )
