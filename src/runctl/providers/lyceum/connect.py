"""The way to a VM: SSH as its login user, with a key that was given to it when it was made."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

from runctl.core.errors import InstanceEnded, NotFound, RunctlError, Unreachable, Unsupported
from runctl.core.files import expand_user, runtime_folder
from runctl.core.ids import InstanceId
from runctl.core.models import Instance, InstanceState
from runctl.core.progress import Progress
from runctl.providers.ended import ended
from runctl.providers.lyceum.context import LyceumContext
from runctl.providers.lyceum.machines import door_of
from runctl.transport.choice import AUTO
from runctl.transport.ssh import SshTransport
from runctl.transport.ssh_connection import SshTarget, one_time_key
from runctl.transport.ssh_connection import public_key as public_half
from runctl.transport.ssh_failure import SshHints

_HINTS = SshHints(
    unreachable="a new VM needs some minutes: runctl lyceum wait",
    key_refused="was the VM made with {identity}? another computer's VMs let in that computer's key",
    no_key="name the private key that the VM was made with: runctl config set lyceum.identity_file FILE",
    unknown_host_key="Lyceum publishes no host keys: leave --strict-host-key (lyceum.strict_host_key) out",
)


def identity(context: LyceumContext) -> Path:
    """The private key that VMs let in: the configured one, else one of this computer's own."""
    if context.settings.identity_file:
        return expand_user(context.settings.identity_file)
    return one_time_key(context.state_directory)


def public_key(context: LyceumContext) -> str:
    """Its public half, for a new VM. Raises `CredentialsError`."""
    return public_half(identity(context))


class Connections:
    """The transports of one provider, one for each VM. Safe to use from threads."""

    def __init__(self, context: LyceumContext) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._known: dict[InstanceId, SshTransport] = {}

    def transport(self, instance: Instance, choice: str, progress: Progress) -> SshTransport:
        """See `Provider.transport`."""
        if choice not in {AUTO, "ssh"}:
            raise Unsupported(f"a Lyceum VM cannot be reached by {choice}", hint="leave --transport out")
        if instance.state is not InstanceState.RUNNING:
            hint = "create another" if instance.state.is_over else f"runctl lyceum wait {instance.id}"
            raise Unreachable(f"{instance.id} is {instance.state.value}", hint=hint)
        self._context.journal.reached_machines = True
        with self._lock:
            known = self._known.get(instance.id)
        if known is not None:
            return known
        made = self._connect(instance, progress)
        with self._lock:
            return self._known.setdefault(instance.id, made)

    def forget(self, instance_id: InstanceId) -> None:
        """The next use connects anew."""
        with self._lock:
            known = self._known.pop(instance_id, None)
        if known is not None:
            known.close()

    def close(self) -> None:
        """All are closed."""
        for instance_id in list(self._known):
            self.forget(instance_id)

    def _connect(self, instance: Instance, progress: Progress) -> SshTransport:
        # The port may be another than 22, and no `Instance` says it.
        door = door_of(self._context.api.vm(instance.id).ip_address)
        if door is None:
            raise Unreachable(f"{instance.id} has no address yet", hint=f"runctl lyceum wait {instance.id}")

        def still_there(silent_seconds: float) -> None:
            try:
                over = ended(self._context.instance(self._context.api.vm(instance.id)), silent_seconds)
            except NotFound:
                over = InstanceEnded(f"instance {instance.id} no longer exists")
            except RunctlError:
                # It cannot be seen, which does not mean that it is gone.
                return
            if over is not None:
                raise over

        progress.detail("transport ssh: it is the only one that Lyceum's VMs have")
        return SshTransport(
            SshTarget(door.host, self._context.settings.login_user, instance.id, door.port),
            runtime_dir=runtime_folder(),
            known_hosts=self._context.state_directory / "known_hosts",
            identity=identity(self._context),
            connect_timeout=timedelta(seconds=10),
            still_there=still_there,
            strict_host_key=self._context.settings.strict_host_key,
            hints=_HINTS,
            on_first_key=lambda fingerprints: progress.detail(
                f"the host key of {instance.id} ({fingerprints}) is taken on trust: Lyceum publishes none"
            ),
        )
