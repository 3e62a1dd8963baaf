"""What a machine finds at 169.254.169.254: its metadata, as IMDS version 2 (and 1, where that is allowed)."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.sts.models import sts_backends

from runctl.sandbox.api.http_server import HttpServer
from runctl.sandbox.api.listener import Listener, relayed_to
from runctl.sandbox.machines import network
from runctl.sandbox.metadata.facts import InstanceFacts, facts_of
from runctl.sandbox.metadata.http import Metadata
from runctl.sandbox.metadata.tree import Credentials
from runctl.sandbox.world import ACCOUNT, World

CREDENTIAL_SECONDS = 6 * 3600


class MetadataService:
    """Serves the machines of one world."""

    def __init__(self, world: World, issue: Callable[[InstanceFacts], Credentials] | None = None) -> None:
        """``issue`` makes keys for a role; by default moto's STS does."""
        self._world = world
        self._issue = issue or assume_role

    def serve(self, machine: Any, describe: Callable[[], InstanceFacts]) -> Callable[[], None]:
        """The machine's metadata is answered until the returned function is called.

        In a machine with a network of its own at 169.254.169.254; for a folder machine on a loopback port, which
        `metadata_endpoint` then names.
        """
        namespace = getattr(machine, "namespace", None)
        if namespace is not None:
            listening = network.listen(namespace, network.METADATA_ADDRESS, 80)
            own = frozenset({network.METADATA_ADDRESS, "127.0.0.1", machine.address})
        else:
            listening = socket.create_server(("127.0.0.1", 0), backlog=64)
            machine.metadata_endpoint = f"http://127.0.0.1:{listening.getsockname()[1]}"
            own = frozenset({"127.0.0.1"})
        return HttpServer(Metadata(self._world, describe, self._issue, own), listening, "metadata").stop


def relay(world: World, machine: Any) -> Callable[[], None]:
    """The server's own address works inside the machine too, until the returned function is called.

    URLs that were signed for 127.0.0.1 and the server's port are good there as they are.
    """
    namespace = getattr(machine, "namespace", None)
    if namespace is None or world.network is None:
        return lambda: None
    listening = network.listen(namespace, "127.0.0.1", world.port)
    # To the bridge's address: on this computer's loopback the sandbox can also be commanded.
    return Listener(listening, relayed_to((world.network.gateway, world.port)), "relay").stop


def install(world: World) -> None:
    """Every machine of the world that boots from now on has metadata and the server's address."""
    service = MetadataService(world)
    world.providers.append(
        lambda _, machine, instance: service.serve(machine, lambda: facts_of(instance, world.region))
    )
    world.providers.append(lambda _, machine, __: relay(world, machine))


def assume_role(facts: InstanceFacts) -> Credentials:
    """Keys of the instance's role from moto's STS, so that GetCallerIdentity knows them."""
    assert facts.role is not None  # noqa: S101 - asked for a role's keys only where there is one
    backend = sts_backends[ACCOUNT]["aws"]
    role = backend.assume_role(
        region_name=facts.region,
        role_session_name=facts.instance_id,
        role_arn=facts.role.arn,
        policy="",
        duration=CREDENTIAL_SECONDS,
        external_id="",
    )
    now = datetime.now(UTC)
    return Credentials(
        role.access_key_id,
        role.secret_access_key,
        role.session_token,
        now,
        now + timedelta(seconds=CREDENTIAL_SECONDS),
    )
