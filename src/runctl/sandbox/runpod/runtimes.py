"""What a pod runs in: a container of its image, on an engine that all pods share; without Docker, a machine."""

from __future__ import annotations

import shlex
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from runctl.sandbox.api.rest import MachineMaker
from runctl.sandbox.machines.hardware import Hardware
from runctl.sandbox.machines.machine import BootFailed, Machine
from runctl.sandbox.runpod.forwarding import MappedPort

HERE = "127.0.0.1"
VOLUMES = "/srv/network-volumes"
"""Where the host of the pods has the folders of network volumes."""
VENDORS = "runpod/"
"""Images of RunPod's own, of which there is one stand-in."""
PULL_SECONDS = 600.0
SSH = 22


class NoImage(Exception):
    """The pod's image cannot be had; the message is the engine's own."""


@dataclass(frozen=True)
class Door:
    """Where a pod's SSH port is mapped to."""

    host: str
    port: int


@dataclass(frozen=True)
class Login:
    """A login to an image registry that RunPod keeps (``/registries``)."""

    login_id: str
    name: str
    username: str
    password: str


@dataclass(frozen=True)
class PodContainer:
    """What is known of a pod before it is placed."""

    pod_id: str
    image: str
    env: Mapping[str, str]
    folders: Mapping[str, Path]
    """Of network volumes, by their paths in the pod."""
    entrypoint: tuple[str, ...] = ()
    """Empty: the image's."""
    command: tuple[str, ...] = ()
    login: Login | None = None


class Runtime(ABC):
    """Of one pod. `start` and `end` may follow each other: its disk is new each time (§8)."""

    @abstractmethod
    def start(self) -> Door:
        """Its main process runs. Raises `NoImage`, `BootFailed`."""

    @abstractmethod
    def end(self) -> None:
        """Its processes and its own disk are gone."""


class ContainerRuntime(Runtime):
    """A container, as at RunPod: started again when its main process ends (§6)."""

    def __init__(self, host: PodHost, container: PodContainer) -> None:
        self._host = host
        self._container = container

    def start(self) -> Door:
        """The image is pulled, and its container runs; port 22 is mapped to a new one of the host."""
        wanted = self._container
        image = self._host.pull(wanted.image, wanted.login)
        argv = ["docker", "run", "--detach", "--name", wanted.pod_id, "--restart", "always"]
        argv += ["--hostname", wanted.pod_id, "--publish", str(SSH)]
        for name, value in wanted.env.items():
            argv += ["--env", f"{name}={value}"]
        for path, folder in wanted.folders.items():
            argv += ["--volume", f"{VOLUMES}/{folder.name}:{path}"]
        first, *rest = wanted.entrypoint or ("",)
        argv += ["--entrypoint", first] if first else []
        self._host.docker([*argv, image, *rest, *wanted.command])
        mapped = self._host.docker(["docker", "port", wanted.pod_id, f"{SSH}/tcp"]).split()[0]
        return Door(self._host.address, int(mapped.rpartition(":")[2]))

    def end(self) -> None:
        """Nothing is left of the container."""
        self._host.docker(["docker", "rm", "--force", "--volumes", self._container.pod_id], check=False)


class PodHost:
    """The machine whose engine all containers of pods run on; booted when the first pod needs it."""

    def __init__(
        self,
        machines: MachineMaker,
        volumes: Path,
        provide_stand_in: Callable[[], str],
        serve: Callable[[Machine], object],
    ) -> None:
        """``provide_stand_in`` names the image for RunPod's own; ``serve`` gives the machine the registries."""
        self._bodies = machines
        self._volumes = volumes
        self._provide_stand_in = provide_stand_in
        self._serve = serve
        self._machine: Machine | None = None
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        """Of the machine."""
        return self._booted().address

    def pull(self, image: str, login: Login | None) -> str:
        """The engine has the image, by the name that is returned. Raises `NoImage`."""
        name = self._provide_stand_in() if image.startswith(VENDORS) else image
        config = "/root/.docker"
        if login is not None:
            config = f"/root/logins/{login.login_id}"
            host = name.partition("/")[0]
            login_argv = [
                "docker",
                "--config",
                config,
                "login",
                "--username",
                login.username,
                "--password-stdin",
                host,
            ]
            said = f"printf %s {shlex.quote(login.password)} | {shlex.join(login_argv)}"
            self.docker(["sh", "-c", said], NoImage)
        try:
            self.docker(["docker", "--config", config, "pull", "--quiet", name], NoImage)
        except NoImage:
            # One that was built on the host itself, as by a test.
            self.docker(["docker", "image", "inspect", "--format", ".", name], NoImage)
        return name

    def docker(self, argv: list[str], error: type[Exception] = BootFailed, *, check: bool = True) -> str:
        """What the command says on the host. Raises ``error`` with its last words."""
        done = self._booted().run(argv, timeout=PULL_SECONDS)
        if check and done.returncode:
            raise error(done.stderr.decode(errors="replace").strip()[-500:])
        return done.stdout.decode(errors="replace").strip()

    def _booted(self) -> Machine:
        with self._lock:
            if self._machine is None:
                self._volumes.mkdir(parents=True, exist_ok=True)
                machine = self._bodies.new_machine(
                    Hardware(
                        instance_id="runpod-host",
                        login_user="root",
                        docker=True,
                        authorized_key=None,
                        user_data=None,
                        environment={},
                        shares=((self._volumes, VOLUMES),),
                    )
                )
                machine.boot(first=True)
                self._serve(machine)
                self._machine = machine
            return self._machine


class MachineRuntime(Runtime):
    """A machine of the sandbox, where there is no Docker: root's, without the image, started again like a container."""

    def __init__(self, machines: MachineMaker, hardware: Hardware) -> None:
        self._bodies = machines
        self._hardware = hardware
        self._door: MappedPort | None = None
        self._ended = False

    def start(self) -> Door:
        """It runs, and a port of this computer leads to its SSH."""
        self._ended = False
        machine = self._bodies.new_machine(self._hardware)

        def main_process_ended(_action: str) -> None:
            if not self._ended:
                machine.boot(first=False)

        machine.on_power_off = main_process_ended
        machine.boot(first=True)
        self._door = MappedPort(HERE, (machine.address, SSH))
        return Door(self._door.host, self._door.port)

    def end(self) -> None:
        """Nothing is left of it."""
        self._ended = True
        door, self._door = self._door, None
        if door is not None:
            door.close()
        self._bodies.forget_machine(self._hardware.instance_id)
