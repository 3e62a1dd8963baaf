"""A sandbox machine as the host sees it: namespaces of its own over this computer's root."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from runctl.sandbox.layout import Layout
from runctl.sandbox.machines import (
    disk_face,
    docker_engine,
    first_process,
    own_kernel,
    own_paths,
    systemd_init,
)
from runctl.sandbox.machines.hardware import Hardware, image_disk
from runctl.sandbox.machines.machine_folder import discard, furnish, own_text
from runctl.sandbox.machines.network import Network, kill_all

BOOT_SECONDS = 20.0
SYSTEMD_BOOT_SECONDS = 90.0
SHELL_PATH = first_process.PATH


class BootFailed(Exception):
    """The machine did not boot; the message has the end of its console."""


class Machine:
    """One machine. `boot` and `kill` may follow each other: the root disk outlives its processes."""

    def __init__(self, layout: Layout, network: Network, hardware: Hardware) -> None:
        self.hardware = hardware
        self._layout = layout
        self._network = network
        self.folder = layout.machines / hardware.instance_id
        self.number, self.address = network.connect()
        self._process: subprocess.Popen[bytes] | None = None
        self._init_pid: int | None = None
        self._power = threading.Lock()
        """Held while its first process is started or taken away, so that none is started that nobody would end."""
        self._removed = False
        self.nodes: dict[str, tuple[str, str]] = {}
        """By volume id: the node in /dev and the name that the attachment asked for."""
        self.on_power_off: Callable[[str], None] = lambda _: None
        """Called with ``poweroff`` or ``reboot`` when the machine ends by itself."""

    @property
    def namespace(self) -> str:
        """Its network namespace."""
        return self._layout.namespace(self.number)

    @property
    def root(self) -> Path:
        """Its root, visible from inside its mount namespace only."""
        return self.folder / "root"

    @property
    def upper(self) -> Path:
        """What its root disk holds beyond this computer's root."""
        return self.folder / "upper"

    @property
    def is_up(self) -> bool:
        """Whether its first process lives."""
        return self._process is not None and self._process.poll() is None and self._init_pid is not None

    def boot(self, *, first: bool) -> None:
        """It runs, user-data has begun (on the first boot), and sshd listens, if that has not to wait for user-data.

        Raises `BootFailed`, also when the machine has been removed meanwhile.
        """
        for folder in (self.root, self.upper, self.folder / "work", self.folder / "image"):
            folder.mkdir(parents=True, exist_ok=True)
        if first:
            furnish(
                self.upper,
                self.hardware,
                sandbox_home=self._layout.home,
                hostname=self._hostname(),
                address=self.address,
            )
        # At a reboot the layer has the machine's own links.
        ready = own_paths.resolve(self.upper, first_process.UP)
        ready.parent.mkdir(parents=True, exist_ok=True)
        ready.unlink(missing_ok=True)
        console = (self.folder / "console.log").open("ab")
        with console, self._power:
            if self._removed:
                raise BootFailed(f"{self.hardware.instance_id} has been removed")
            process = self._process = subprocess.Popen(
                [
                    *("nsenter", f"--net=/run/netns/{self.namespace}"),
                    *("unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"),
                    *("--propagation", "private", "--"),
                    *(_python(), "-IS", first_process.__file__),
                ],
                stdin=subprocess.PIPE,
                stdout=console,
                stderr=console,
                start_new_session=True,
                env={"PATH": SHELL_PATH},
            )
        assert process.stdin is not None  # noqa: S101 - a pipe was asked for
        process.stdin.write(json.dumps(self._boot_parameters()).encode())
        process.stdin.close()
        self._wait_for(process, ready)
        threading.Thread(target=self._watch, args=(process,), daemon=True).start()

    def kill(self) -> None:
        """Kill all its processes, without notice; its disks stay."""
        with self._power:
            process, self._process = self._process, None
        if process is not None:
            pid = self._init_pid or _only_child(process.pid)
            for target in filter(None, (pid, process.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(target, signal.SIGKILL)
            process.wait(timeout=30)
        self._init_pid = None
        with contextlib.suppress(OSError):
            docker_engine.remove_cgroups(self.hardware.instance_id)

    def wait_until_down(self, seconds: float) -> None:
        """Return when its first process has ended, or after that long."""
        limit = time.monotonic() + seconds
        while self.is_up and time.monotonic() < limit:
            time.sleep(0.05)

    def remove(self) -> None:
        """Nothing is left of it but what the volumes hold, and it boots no more."""
        with self._power:
            self._removed = True
        self.kill()
        # What was cut off from its parent while it was being started.
        kill_all(self.namespace)
        self._network.disconnect(self.number)
        discard(self.folder)

    def power(self, action: str) -> None:
        """As if ``shutdown`` had been called inside."""
        if self.hardware.systemd and self._init_pid is not None:
            os.kill(self._init_pid, systemd_init.SWITCHES[action])
            return
        self.run(["sh", "-c", f"echo {action} 0 > /{first_process.POWER}"])

    def popen(
        self,
        argv: Sequence[str],
        *,
        user: str = "root",
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = subprocess.PIPE,
        stderr: int | IO[bytes] | None = subprocess.PIPE,
    ) -> subprocess.Popen[bytes]:
        """Start a program in the machine. Raises `ProcessLookupError` when the machine is not up."""
        if self._init_pid is None:
            raise ProcessLookupError(f"{self.hardware.instance_id} is not running")
        as_user = [] if user == "root" else ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        return subprocess.Popen(
            [
                *(
                    "nsenter",
                    "-t",
                    str(self._init_pid),
                    "-m",
                    "-u",
                    "-i",
                    "-n",
                    "-p",
                    "-r",
                    f"--wdns={cwd}",
                    "--",
                ),
                *own_kernel.without_dropped(),
                *as_user,
                *argv,
            ],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env={"PATH": SHELL_PATH, "LANG": "C.UTF-8", **(env or {})},
            start_new_session=True,
        )

    def run(self, argv: Sequence[str], *, timeout: float = 30) -> subprocess.CompletedProcess[bytes]:
        """Run a program in the machine, as root, to its end."""
        process = self.popen(argv)
        out, err = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(list(argv), process.returncode, out, err)

    def console(self) -> str:
        """What GetConsoleOutput shows: the console, and the host keys as cloud-init prints them."""
        parts = []
        with contextlib.suppress(OSError):
            parts.append((self.folder / "console.log").read_text(errors="replace"))
        with contextlib.suppress(OSError):
            parts.append(own_text(self.upper, Path("var/log/cloud-init-output.log")))
            key = own_text(self.upper, Path("etc/ssh/ssh_host_ed25519_key.pub")).strip()
            if key:
                parts.append(f"-----BEGIN SSH HOST KEY KEYS-----\n{key}\n-----END SSH HOST KEY KEYS-----\n")
        return "".join(parts)

    def authorize(self, user: str, public_key: str) -> Callable[[], None]:
        """EC2 Instance Connect: the key opens that login until the returned function is called."""
        self.run(
            [
                "sh",
                "-c",
                'mkdir -p -m 755 /run/eic && printf "%s\\n" "$2" >> "/run/eic/$1" && chmod 644 "/run/eic/$1"',
                *("sh", user, public_key),
            ]
        )

        def withdraw() -> None:
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                self.run(
                    [
                        "sh",
                        "-c",
                        'grep -vxF "$2" "/run/eic/$1" > /run/eic/.new; mv /run/eic/.new "/run/eic/$1"',
                        "sh",
                        user,
                        public_key,
                    ]
                )

        return withdraw

    def add_disk(self, volume_id: str, node: str, device: str, loop: str) -> None:
        """The volume's loop device appears as ``/dev/<node>``, as udev shows it on AWS, and as ``device``."""
        disk_face.show(self.run, disk_face.of_volume(volume_id), node, loop, device)

    def remove_disk(self, volume_id: str, node: str, device: str) -> None:
        """The device is gone from the machine."""
        with contextlib.suppress(ProcessLookupError):
            disk_face.hide(self.run, disk_face.of_volume(volume_id), node, device)

    def add_store(self, name: str, node: str, loop: str) -> None:
        """The loop device appears as an instance-store disk."""
        disk_face.show(self.run, disk_face.of_instance_store(name), node, loop, "")

    def has_mounted(self, loop: str) -> bool:
        """Whether a file system on that device is mounted anywhere in the machine."""
        return bool(self.mount_points(loop))

    def mount_points(self, loop: str) -> list[str]:
        """Where in the machine a file system on that device is mounted."""
        info = os.stat(loop)  # noqa: PTH116 - the numbers of the device itself
        wanted = f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"
        if self._init_pid is None:
            return []
        try:
            rows = [
                line.split() for line in Path(f"/proc/{self._init_pid}/mountinfo").read_text().splitlines()
            ]
        except OSError:
            return []
        return [row[4].encode().decode("unicode_escape") for row in rows if row[2] == wanted]

    @contextlib.contextmanager
    def frozen(self, loop: str) -> Iterator[None]:
        """While this lasts nothing is written to that device: who would write to its file system waits."""
        points = self.mount_points(loop)[:1]
        if points:
            self.run(["fsfreeze", "--freeze", *points])
        try:
            yield
        finally:
            if points:
                with contextlib.suppress(ProcessLookupError):
                    self.run(["fsfreeze", "--unfreeze", *points])

    def _boot_parameters(self) -> dict[str, object]:
        engine = None
        if self.hardware.docker:
            registry = (
                f"{self._network.gateway}:{registry_port(self._layout)}"
                if registry_port(self._layout)
                else None
            )
            engine = docker_engine.Engine(
                machine=self.hardware.instance_id,
                data_root=str(self.folder / "docker"),
                mtu=self._network.mtu,
                login_user=self.hardware.login_user,
                registry=registry,
            )
        library = f"{docker_engine.LIBRARY}/runctl/sandbox/machines"
        return {
            "machine": self.hardware.instance_id,
            "systemd": systemd_init.program() if self.hardware.systemd else None,
            "root": str(self.root),
            "image": str(image_disk(self.hardware.image)) if self.hardware.image is not None else None,
            "upper": str(self.upper),
            "work": str(self.folder / "work"),
            "hostname": self._hostname(),
            "shares": [(str(folder), path) for folder, path in self.hardware.shares],
            "environment": dict(self.hardware.environment),
            "docker_engine": docker_engine.__file__,
            "docker": json.loads(docker_engine.as_json(engine)),
            "dockerd": None
            if engine is None
            else ["/usr/sbin/dockerd", *docker_engine.dockerd_options(engine)],
            "cloud_init": [_python(), "-IS", f"{library}/cloud_init.py"],
            "hub_command": [_python(), "-IS", docker_engine.LIBRARY, "hub"],
            "boot_command": [_python(), "-IS", docker_engine.LIBRARY, "boot", "--detach"],
        }

    def _hostname(self) -> str:
        return "ip-" + self.address.replace(".", "-")

    def _wait_for(self, process: subprocess.Popen[bytes], ready: Path) -> None:
        limit = time.monotonic() + (SYSTEMD_BOOT_SECONDS if self.hardware.systemd else BOOT_SECONDS)
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > limit:
                said = (self.folder / "console.log").read_text(errors="replace")[-2000:]
                self.kill()
                raise BootFailed(f"{self.hardware.instance_id} did not boot: {said}")
            time.sleep(0.02)
        self._init_pid = _only_child(process.pid)

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        if self._process is not process:
            return
        actions = {value: action for action, value in first_process.EXIT_CODES.items()}
        if self.hardware.systemd:
            actions = {-number: action for number, action in systemd_init.EXIT_SIGNALS.items()}
        self._process, self._init_pid = None, None
        self.on_power_off(actions.get(code, "lost"))


def registry_port(layout: Layout) -> int | None:
    """Where the sandbox's registry listens on the bridge, when there is one."""
    try:
        return int((layout.home / "registry.port").read_text())
    except (OSError, ValueError):
        return None


def _only_child(pid: int) -> int | None:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return None
    return int(children[0]) if children else None


def _python() -> str:
    """An interpreter that is there inside the machine as well, whatever environment this one runs in."""
    return "/usr/bin/python3" if Path("/usr/bin/python3").exists() else str(sys._base_executable)  # type: ignore[attr-defined]
