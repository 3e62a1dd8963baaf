"""Ways to a machine: looks which of them would work, chooses, and keeps what it has chosen."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any

from runctl.core.errors import Unreachable, Unsupported
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance, InstanceState
from runctl.core.progress import Progress
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ec2.access import Access, Offer
from runctl.providers.aws.ec2.ssh_access import SshAccess
from runctl.providers.aws.ec2.ssm_access import SsmAccess
from runctl.providers.aws.settings import AwsTransport
from runctl.providers.registry import when_not_running
from runctl.transport.agent import AgentClient
from runctl.transport.choice import AUTO, NoChoice, choose
from runctl.transport.interface import Transport

_STATE_ASKED = 'printf %s "${RUNCTL_AGENT_STATE:-/var/lib/runctl}"'


class Connections:
    """The transports and agents of one provider, one for each machine and choice. Safe to use from threads."""

    def __init__(self, context: AwsContext) -> None:
        self._context = context
        self._lock = threading.RLock()
        self._transports: dict[tuple[InstanceId, str], Transport] = {}
        self._agents: dict[tuple[InstanceId, str], AgentClient] = {}
        self._access: Mapping[str, Access] = {
            AwsTransport.SSH: SshAccess(context),
            AwsTransport.SSM: SsmAccess(context),
        }
        """By transport, in the order in which they are tried."""

    def transport(self, instance: Instance, choice: str, progress: Progress) -> Transport:
        """See `Provider.transport`."""
        self._context.session.journal.reached_machines = True
        wanted = self._context.settings.transport if choice == AUTO else choice
        with self._lock:
            known = self._transports.get((instance.id, wanted))
        if known is not None:
            return known
        if wanted not in {AUTO, *self._access}:
            names = " or ".join(self._access)
            raise Unsupported(f"an AWS machine cannot be reached by {wanted}", hint=f"use {AUTO}, {names}")
        if instance.state is not InstanceState.RUNNING:
            raise Unreachable(
                f"{instance.id} is {instance.state.value}",
                hint="create another" if instance.state.is_over else when_not_running(instance),
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
        asked = {name: access for name, access in self._access.items() if wanted in {AUTO, name}}
        with ThreadPoolExecutor(len(asked)) as pool:
            found = [
                pool.submit(access.offer, instance, insisted=wanted != AUTO) for access in asked.values()
            ]
            offers: dict[str, Offer] = dict(zip(asked, (each.result() for each in found), strict=True))
        choice = choose(wanted, [offer.candidate for offer in offers.values()])
        if isinstance(choice, NoChoice):
            raise choice.error(instance.id)
        progress.detail(f"transport {choice.name}: {choice.reason}")
        return offers[choice.name].open(progress)
