"""Machines that are reached by SSH alone: the address is the provider's word, the key our own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cached_property
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.core.clock import Clock
from runctl.core.errors import (
    CredentialsError,
    HostKeyChanged,
    NotFound,
    RunctlError,
    Unreachable,
    Unsupported,
)
from runctl.core.files import expand_user, runtime_folder
from runctl.core.ids import InstanceId
from runctl.core.journal import Journal
from runctl.core.machine_models import Instance, InstanceState
from runctl.core.progress import Progress
from runctl.core.text import time_span
from runctl.core.waiting import attempts
from runctl.providers.ended import ended, forgotten
from runctl.providers.registry import command, when_not_running
from runctl.transport.choice import AUTO
from runctl.transport.interface import Completed
from runctl.transport.known_hosts import KnownHosts
from runctl.transport.ssh import SshTransport
from runctl.transport.ssh_connection import SshTarget, one_time_key, public_key
from runctl.transport.ssh_failure import SshHints

CONNECT_TIMEOUT = timedelta(seconds=10)
PROBE_TIMEOUT = timedelta(seconds=45)


@dataclass(frozen=True)
class Door:
    """Where a machine's SSH is."""

    host: str
    port: int


@dataclass(frozen=True)
class SshAccess:
    """How a provider's machines let us in."""

    provider: str
    login_user: str
    state_directory: Path
    """Keys and known hosts of this provider's machines; the user's alone."""
    identity_file: str | None
    """The private key; ``None``: one of this computer's own."""
    strict_host_key: bool
    door: Callable[[InstanceId], Door | None]
    """Asks the provider where the machine's SSH is now; ``None``: nowhere yet."""
    instance: Callable[[InstanceId], Instance]
    """Asks the provider how the machine is."""
    journal: Journal
    clock: Clock

    @cached_property
    def identity(self) -> Path:
        """The private key that machines let in; made where there is none."""
        if self.identity_file:
            return expand_user(self.identity_file)
        return one_time_key(self.state_directory)

    @property
    def known_hosts(self) -> Path:
        """The host keys that were learned of them."""
        return self.state_directory / "known_hosts"

    @property
    def public_key(self) -> str:
        """Its public half, for a new machine. Raises `CredentialsError`."""
        return public_key(self.identity)


class SshMachines:
    """The transports of one provider, one for each machine. Safe to use from threads."""

    def __init__(self, access: SshAccess) -> None:
        self.access = access
        self._lock = threading.Lock()
        self._known: dict[InstanceId, SshTransport] = {}

    def transport(self, instance: Instance, choice: str, progress: Progress) -> SshTransport:
        """See `Provider.transport`."""
        provider = self.access.provider
        if choice not in {AUTO, "ssh"}:
            raise Unsupported(
                f"a machine of {provider} cannot be reached by {choice}", hint="leave --transport out"
            )
        if instance.state is not InstanceState.RUNNING:
            hint = command(provider, "create") if instance.state.is_over else when_not_running(instance)
            raise Unreachable(f"{instance.id} is {instance.state.value}", hint=hint)
        self.access.journal.reached_machines = True
        with self._lock:
            known = self._known.get(instance.id)
        if known is not None:
            return known
        created = self._connect(instance, progress)
        with self._lock:
            return self._known.setdefault(instance.id, created)

    def wait_ready(
        self,
        instance_id: InstanceId,
        alive: Callable[[], Instance],
        probe: Sequence[str],
        timeout: timedelta,
        progress: Progress,
        *,
        appears_within: float,
    ) -> Completed:
        """The machine runs, lets us in, and has run the probe; the answer is the probe's.

        ``alive`` asks the provider, and raises where the machine has ended; so many seconds after its creation it may
        still say that there is none. Raises `Unreachable` when the time is up, with what was seen last.
        """
        clock = self.access.clock
        end = clock.monotonic() + timeout.total_seconds()
        progress.step(f"waiting until {instance_id} runs")
        seen = ""
        for passed in attempts(clock, timeout, most=5.0):
            try:
                instance = alive()
            except NotFound:
                if passed > appears_within:
                    raise
                continue
            if instance.state is InstanceState.RUNNING:
                break
            seen = f"it is {instance.state.value}"
        else:
            raise self._late(instance_id, timeout, seen)
        progress.step(f"waiting until {instance_id} can be reached")
        left = timedelta(seconds=max(end - clock.monotonic(), 0))
        try:
            return self._wait_reachable(alive, probe, left, progress)
        except HostKeyChanged:
            raise
        except Unreachable as error:
            raise self._late(instance_id, timeout, error.message) from error

    def _late(self, instance_id: InstanceId, timeout: timedelta, seen: str) -> Unreachable:
        provider = self.access.provider
        return Unreachable(
            f"{instance_id} is not ready after {time_span(timeout)}" + (f" ({seen})" if seen else ""),
            hint=f"it is billed; go on: {command(provider, 'wait', instance_id)};"
            f" undo: {command(provider, 'terminate', instance_id)}",
        )

    def _wait_reachable(
        self, alive: Callable[[], Instance], probe: Sequence[str], left: timedelta, progress: Progress
    ) -> Completed:
        """The machine lets us in, and has run the probe; the answer is the probe's.

        ``alive`` asks the provider, and raises where the machine has ended. Raises `Unreachable`, with what was seen
        last, when the time is up.
        """
        seen = ""
        for _ in attempts(self.access.clock, left):
            try:
                instance = alive()
            except Unreachable as error:
                seen = error.message
                continue
            try:
                return self.transport(instance, AUTO, progress).run(probe, timeout=PROBE_TIMEOUT)
            except HostKeyChanged:
                raise
            except (Unreachable, CredentialsError) as error:
                # sshd comes after the address, and refuses keys for a moment that it accepts then; an address of
                # before may still be told.
                seen = error.message
                self.forget(instance.id)
                progress.update(seen)
        raise Unreachable(seen)

    def forget(self, instance_id: InstanceId) -> None:
        """The next use asks for the address again."""
        with self._lock:
            known = self._known.pop(instance_id, None)
        if known is not None:
            known.close()

    def forget_key(self, instance_id: InstanceId) -> None:
        """The machine is made anew, and will have another host key: the next one that answers is believed."""
        self.forget(instance_id)
        KnownHosts(self.access.known_hosts).forget(instance_id)

    def _connect(self, instance: Instance, progress: Progress) -> SshTransport:
        access = self.access
        # The port may be any, and no `Instance` says it.
        door = access.door(instance.id)
        if door is None:
            raise Unreachable(
                f"{instance.id} has no address yet", hint=command(access.provider, "wait", instance.id)
            )
        progress.detail(f"transport ssh: it is the only one that {access.provider}'s machines have")
        return SshTransport(
            SshTarget(door.host, access.login_user, instance.id, door.port),
            runtime_dir=runtime_folder(),
            known_hosts=access.known_hosts,
            identity=access.identity,
            connect_timeout=CONNECT_TIMEOUT,
            still_there=lambda silent_seconds: self._still_there(instance.id, silent_seconds),
            strict_host_key=access.strict_host_key,
            hints=_hints(access.provider),
            on_first_key=lambda fingerprints: progress.detail(
                f"the host key of {instance.id} ({fingerprints}) is taken on trust:"
                f" {access.provider} publishes none"
            ),
        )

    def _still_there(self, instance_id: InstanceId, silent_seconds: float) -> None:
        try:
            over = ended(self.access.instance(instance_id), silent_seconds)
        except NotFound:
            over = forgotten(instance_id)
        except RunctlError:
            # It cannot be seen, which does not mean that it is gone.
            return
        if over is not None:
            raise over


def _hints(provider: str) -> SshHints:
    return SshHints(
        unreachable=f"a new machine needs some minutes: {command(provider, 'wait')}",
        key_refused="was the machine made with {identity}? another computer's machines let in that computer's key",
        no_key=f"name the private key that the machine was made with: runctl config set {provider}.identity_file FILE",
        unknown_host_key=f"{provider} publishes no host keys: leave --strict-host-key"
        f" ({provider}.strict_host_key) out",
    )
