"""This computer as a provider: one instance, always running, free of charge."""

# ruff: noqa: ARG002 (the interface has arguments that this computer does not need)
from __future__ import annotations

import getpass
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path, PurePosixPath

from runctl.core.errors import NotFound, Unsupported
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance, InstanceState, Market
from runctl.core.progress import SILENT, Progress
from runctl.providers.abilities.prices import FreePrices
from runctl.providers.interface import (
    Check,
    DoctorStatus,
    Provider,
)
from runctl.providers.registry import command, owner_of
from runctl.transport.agent import AgentClient
from runctl.transport.interface import Transport
from runctl.transport.local import LocalTransport

LOCAL = InstanceId("local")


class LocalProvider(Provider):
    """One instance, named ``local``."""

    name = "local"
    transports = ("local",)
    renting = Unsupported(
        "this computer is yours: runctl neither creates nor terminates it",
        hint="runctl local train SCRIPT; to rent a machine: runctl PROVIDER create",
    )
    stop_and_start = Unsupported("runctl does not stop this computer: it is yours, not rented")
    volumes = Unsupported("this computer has no volumes to attach; use its folders")
    snapshots = Unsupported("this computer has no volumes, and so no snapshots")
    clones = Unsupported("this computer has no volumes to copy")
    resizing = Unsupported("this computer has no volumes to resize")
    filling = Unsupported("this computer has no volumes to fill")
    catalogue = Unsupported("this computer is yours: there is nothing to rent")
    prices = FreePrices("this computer is not rented")
    inventory = Unsupported(
        "nothing is rented on this computer", hint="runctl runs prune removes what ended runs keep on it"
    )
    registry = Unsupported(
        "this computer has no image registry", hint='name one: [docker] registry = "HOST/PATH"'
    )

    def __init__(self, *, project: str | None, state_directory: Path, cache_directory: Path) -> None:
        """``state_directory`` is the agent's: runs and projects are kept there."""
        self._project = project
        self._state_directory = state_directory
        self._cache_directory = cache_directory
        self._transport: LocalTransport | None = None

    def wait_ready(
        self, instance_id: InstanceId, *, timeout: timedelta, progress: Progress = SILENT
    ) -> Instance:
        """This computer runs, or nobody would ask."""
        return self.instance(instance_id)

    def instance(self, instance_id: InstanceId) -> Instance:
        """This computer. Raises `NotFound` for any other id."""
        if instance_id != LOCAL:
            owner = owner_of(instance_id)
            raise NotFound(
                f"instance {instance_id!r} does not exist: this computer is the instance 'local'",
                hint="use local" if owner is None else command(owner, "status", instance_id),
            )
        return Instance(
            id=LOCAL,
            provider=self.name,
            state=InstanceState.RUNNING,
            instance_type=f"{platform.system().lower()}-{platform.machine()}",
            market=Market.OWNED,
            zone=None,
            public_ip=None,
            private_ip="127.0.0.1",
            price_per_hour=Decimal(0),
            project=self._project,
            owner=_user_name(),
            created_at=_booted_at(),
            tags={"Name": socket.gethostname()},
        )

    def instances(self, *, everyone: bool = False, include_ended: bool = False) -> tuple[Instance, ...]:
        """This computer."""
        return (self.instance(LOCAL),)

    def transport(self, instance: Instance, choice: str = "auto", progress: Progress = SILENT) -> Transport:
        """This computer's own processes."""
        if choice not in {"auto", "local"}:
            raise Unsupported(f"this computer is not reached by {choice}", hint="leave --transport out")
        self.journal.reached_machines = True
        if self._transport is None:
            progress.detail("transport local: this computer")
            self._transport = LocalTransport(env={"RUNCTL_AGENT_STATE": str(self._state_directory)})
        return self._transport

    def agent(self, instance: Instance, choice: str = "auto", progress: Progress = SILENT) -> AgentClient:
        """The agent on this computer, run by the Python that runs this."""
        from runctl.agent.package import build

        return AgentClient(
            self.transport(instance, choice, progress),
            agent_file=lambda: build(self._cache_directory / "agent"),
            state_directory=PurePosixPath(self._state_directory),
            python=sys.executable or "python3",
            progress=progress,
            journal=self.journal,
        )

    def costs_money(self) -> bool:
        """Nobody sends a bill for this computer."""
        return False

    def doctor(self) -> tuple[Check, ...]:
        """What a run on this computer needs."""
        return (self._state_check(), _docker_check())

    def _state_check(self) -> Check:
        nearest = self._state_directory
        while not nearest.exists():
            nearest = nearest.parent
        if os.access(nearest, os.W_OK | os.X_OK) and nearest.is_dir():
            return Check("local: state", DoctorStatus.OK, str(self._state_directory))
        return Check(
            "local: state",
            DoctorStatus.FAILED,
            f"{self._state_directory} cannot be written",
            fix=f"sudo chown {_user_name()} {nearest}, or set XDG_DATA_HOME to a folder of yours",
        )


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A number without an entry in /etc/passwd, as containers give it.
        return str(os.getuid())


def _booted_at() -> datetime:
    """When this computer started; Linux and macOS count from there."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    booted = datetime.now(UTC) - timedelta(seconds=time.clock_gettime(clock))
    return booted.replace(microsecond=0)


def _docker_check() -> Check:
    name = "local: docker"
    if shutil.which("docker") is None:
        return Check(
            name,
            DoctorStatus.WARNING,
            "docker is not installed: runs go without a container",
            fix="https://docs.docker.com/engine/install, or apt-get install docker.io",
        )
    try:
        done = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"],
            capture_output=True,
            timeout=10,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Check(name, DoctorStatus.WARNING, "docker does not answer within 10 s", fix="restart Docker")
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        return Check(
            name,
            DoctorStatus.WARNING,
            f"docker's engine does not answer: {said[-1] if said else 'it says nothing'}",
            fix="start it: sudo systemctl start docker; and be in its group: sudo usermod -aG docker $USER",
        )
    return Check(name, DoctorStatus.OK, f"engine {done.stdout.decode().strip()}")
