"""The provider: machines that are there, reached over SSH. Nobody sends a bill."""

# ruff: noqa: ARG002 (the interface has arguments that these machines do not need)
from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from ipaddress import ip_address
from pathlib import PurePosixPath

from runctl.agent.package import build
from runctl.core.clock import Clock, SystemClock, parse_duration
from runctl.core.errors import (
    HostKeyChanged,
    HostKeyUnknown,
    MachineError,
    NotFound,
    RunctlError,
    Unreachable,
    Unsupported,
)
from runctl.core.files import cache_folder, data_folder, runtime_folder
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance, InstanceState, Market
from runctl.core.names import did_you_mean
from runctl.core.progress import SILENT, Progress
from runctl.core.tags import LOGIN_USER
from runctl.providers.abilities.prices import FreePrices
from runctl.providers.interface import Check, DoctorStatus, Provider
from runctl.transport.agent import AgentClient
from runctl.transport.interface import Transport
from runctl.transport.ssh import SshTransport
from runctl.transport.ssh_connection import SshTarget
from runctl.transport.ssh_failure import SshHints
from runctl_hosts.facts import ASK, Facts, FactsMemory, parse
from runctl_hosts.settings import HostsConfig, names_of
from runctl_hosts.ssh_config import Way, known_host_keys, way_to

_MOST_AT_ONCE = 32
_ANSWER = timedelta(seconds=20)
"""For what a machine that lets us in is; a GPU's driver takes its time after a boot."""
_PAUSE_SECONDS = 2.0
_HINTS = SshHints(
    unreachable="is it switched on, and does `ssh` reach it from here? runctl hosts list shows those that answer",
    no_key="name the key that it lets in: identity_file in its table of [hosts.machines]; or add it to ssh-agent",
    unknown_host_key="connect once with ssh, which records its key; or leave the strict check out",
)
_NONE = "no machine is named"
_HOW_TO_NAME = (
    'runctl config set hosts.machines.NAME.address ADDRESS, or in a file: [hosts] aliases = ["HOST"]'
)


class HostsProvider(Provider):
    """The machines of ``[hosts]``, each under its own name."""

    name = "hosts"
    renting = Unsupported(
        "these machines are there already: runctl neither creates nor ends them",
        hint=f"to name one: {_HOW_TO_NAME}",
    )
    stop_and_start = Unsupported("runctl does not switch these machines on or off: others may be using them")
    volumes = Unsupported("these machines have no volumes that could be attached: use their own folders")
    snapshots = Unsupported("these machines have no volumes, and so no snapshots")
    clones = Unsupported("these machines have no volumes to copy")
    resizing = Unsupported("these machines have no volumes to resize")
    filling = Unsupported("these machines have no volumes to fill")
    catalogue = Unsupported("these machines are yours: there is nothing to rent")
    prices = FreePrices("these machines are yours")
    registry = Unsupported(
        "these machines come without an image registry", hint='name one: [docker] registry = "HOST/PATH"'
    )

    def __init__(
        self, settings: HostsConfig, *, memory: FactsMemory | None = None, clock: Clock | None = None
    ) -> None:
        """``memory`` is where what was seen of the machines is kept."""
        self._settings = settings
        self._memory = memory or FactsMemory.in_cache()
        self._clock = clock or SystemClock()
        self._progress = SILENT
        self._lock = threading.Lock()
        self._ways: dict[str, Way] = {}
        self._transports: dict[str, SshTransport] = {}
        self._facts = dict(self._memory.all())

    def report_to(self, progress: Progress) -> None:
        """Say there which machines do not answer."""
        self._progress = progress

    def instance(self, instance_id: InstanceId) -> Instance:
        """The machine, which answers. Raises `NotFound`, and `Unreachable` or `CredentialsError` where it does not."""
        self._check_name(instance_id)
        facts = self._ask(instance_id)
        self._memory.keep({instance_id: facts})
        return self._running(instance_id, facts)

    def instances(self, *, everyone: bool = False, include_ended: bool = False) -> tuple[Instance, ...]:
        """All of them, asked at once; those that do not answer are unreachable, with the reason."""
        names = names_of(self._settings)
        if not names:
            self._progress.note(f"{_NONE}: {_HOW_TO_NAME}")
            return ()
        with ThreadPoolExecutor(min(len(names), _MOST_AT_ONCE)) as pool:
            found = list(pool.map(self._look_at, names))
        answering = {each.id for each in found if each.state is InstanceState.RUNNING}
        self._memory.keep({name: self._facts[name] for name in answering})
        return tuple(sorted(found, key=lambda each: each.created_at, reverse=True))

    def wait_ready(
        self, instance_id: InstanceId, *, timeout: timedelta, progress: Progress = SILENT
    ) -> Instance:
        """It answers: after a reboot, for one."""
        limit = self._clock.monotonic() + timeout.total_seconds()
        progress.step(f"waiting for {instance_id} to answer")
        while True:
            try:
                return self.instance(instance_id)
            except Unreachable as error:
                if isinstance(error, HostKeyChanged | HostKeyUnknown) or self._clock.monotonic() >= limit:
                    raise
                progress.update(error.message)
                self._clock.sleep(_PAUSE_SECONDS)

    def transport(self, instance: Instance, choice: str = "auto", progress: Progress = SILENT) -> Transport:
        """SSH, over a connection that commands share."""
        if choice not in {"auto", *self.transports}:
            raise Unsupported(f"these machines are not reached by {choice}", hint="leave --transport out")
        self._check_name(instance.id)
        self.journal.reached_machines = True
        progress.detail("transport ssh: it is the only one that these machines have")
        return self._ssh(instance.id)

    def agent(self, instance: Instance, choice: str = "auto", progress: Progress = SILENT) -> AgentClient:
        """The agent on the machine; its files are the login user's own, as nobody else's consent is needed for them."""
        return AgentClient(
            self.transport(instance, choice, progress),
            agent_file=lambda: build(cache_folder() / "agent"),
            state_directory=self._state_directory(instance.id),
            progress=progress,
            journal=self.journal,
        )

    def doctor(self) -> tuple[Check, ...]:
        """Whether there is ssh, and which machines answer."""
        if shutil.which("ssh") is None:
            missing = "ssh is not installed on this computer"
            return (Check("hosts: ssh", DoctorStatus.FAILED, missing, fix="install OpenSSH's client"),)
        names = names_of(self._settings)
        if not names:
            return (Check("hosts", DoctorStatus.SKIPPED, _NONE, fix=_HOW_TO_NAME),)
        with ThreadPoolExecutor(min(len(names), _MOST_AT_ONCE)) as pool:
            return tuple(pool.map(self._check, names))

    def close(self) -> None:
        """No new command gets one of today's connections."""
        for transport in self._transports.values():
            transport.close()

    def costs_money(self) -> bool:
        """Nobody sends a bill."""
        return False

    def platform(self, instance_type: str) -> str | None:
        """For the processors of the machines that are of this kind."""
        found = {facts.platform for facts in self._facts.values() if facts.kind == instance_type}
        return found.pop() if len(found) == 1 else None

    def _check_name(self, name: str) -> None:
        names = names_of(self._settings)
        if name not in names:
            raise NotFound(
                f"there is no host {name!r} in the configuration",
                hint=did_you_mean(name, names) or f"there are: {', '.join(names) or _NONE}",
                code="instance-not-found",
            )

    def _way(self, name: str) -> Way:
        with self._lock:
            known = self._ways.get(name)
        if known is None:
            known = way_to(name, self._settings)
            with self._lock:
                self._ways[name] = known
        return known

    def _ssh(self, name: str) -> SshTransport:
        way = self._way(name)
        with self._lock:
            known = self._transports.get(name)
            if known is None:
                known = self._transports[name] = SshTransport(
                    SshTarget(way.address, way.user, name, way.port, way.proxy_command),
                    runtime_dir=runtime_folder(),
                    known_hosts=data_folder() / "hosts" / "known_hosts",
                    identity=way.identity,
                    host_keys=lambda: known_host_keys(way),
                    connect_timeout=parse_duration(self._settings.timeout),
                    strict_host_key=self._settings.strict_host_key,
                    hints=_HINTS,
                    on_first_key=lambda fingerprints: self._progress.warn(
                        f"the host key of {name} ({fingerprints}) is taken on trust: no known_hosts file has it"
                        " (--strict-host-key refuses such a machine)"
                    ),
                )
            return known

    def _ask(self, name: str) -> Facts:
        """What the machine is now. Raises what its transport raises, and `MachineError`."""
        before = self._facts.get(name)
        argv = ["sh", "-c", ASK, "sh", before.boot if before else ""]
        done = self._ssh(name).run(argv, timeout=_ANSWER)
        if done.exit_code != 0:
            raise MachineError(
                f"{name} cannot say what it is: {done.stderr.decode(errors='replace').strip()}"
            )
        facts = parse(done.stdout.decode(errors="replace"), before)
        self._facts[name] = facts
        return facts

    def _look_at(self, name: str) -> Instance:
        try:
            return self._running(name, self._ask(name))
        except RunctlError as error:
            self._progress.note(error.message)
            return self._silent(name, error.message)

    def _check(self, name: str) -> Check:
        label = f"hosts: {name}"
        try:
            facts = self._ask(name)
        except Unreachable as error:
            return Check(label, DoctorStatus.WARNING, error.message, fix=error.hint)
        except RunctlError as error:
            return Check(label, DoctorStatus.FAILED, error.message, fix=error.hint or "ssh to it says more")
        return Check(label, DoctorStatus.OK, facts.kind)

    def _running(self, name: str, facts: Facts) -> Instance:
        return self._described(name, InstanceState.RUNNING, facts, None)

    def _silent(self, name: str, reason: str) -> Instance:
        return self._described(name, InstanceState.UNREACHABLE, self._facts.get(name), reason)

    def _described(
        self, name: str, state: InstanceState, facts: Facts | None, reason: str | None
    ) -> Instance:
        try:
            way = self._way(name)
        except RunctlError:
            way = Way(name, "", 22, None)
        private = _is_private(way.address)
        return Instance(
            id=InstanceId(name),
            provider=self.name,
            state=state,
            instance_type=facts.kind if facts else "not seen yet",
            market=Market.OWNED,
            zone=None,
            public_ip=None if private else way.address,
            private_ip=way.address if private else None,
            price_per_hour=Decimal(0),
            project=None,
            owner=way.user,
            created_at=facts.booted_at if facts else self._clock.now().replace(microsecond=0),
            tags={LOGIN_USER: way.user},
            state_reason=reason,
        )

    def _state_directory(self, name: str) -> PurePosixPath:
        written = self._settings.machines.get(name)
        if written is not None and written.state_directory:
            return PurePosixPath(written.state_directory)
        facts = self._facts.get(name) or self._ask(name)
        return PurePosixPath(facts.home) / ".local" / "state" / "runctl"


def _is_private(address: str) -> bool:
    try:
        return ip_address(address).is_private
    except ValueError:
        return False
