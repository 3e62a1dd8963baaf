"""The least of a machine that a Docker engine needs, made without the sandbox's own machines."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from runctl.sandbox.ecr.registry import Registry
from runctl.sandbox.machines import docker_engine, network
from runctl.sandbox.machines.docker_engine import Engine


def until(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)


def run(*command: str, timeout: float = 60, input_text: str | None = None) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, input=input_text, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def reserve_namespace() -> int:
    """A number whose network namespace did not exist: other test runs on this computer take others."""
    for number in range(250):
        created = subprocess.run(["ip", "netns", "add", f"rct-{number}"], capture_output=True, check=False)
        if created.returncode == 0:
            return number
    raise AssertionError("every test network is taken")


class Machine:
    """The least that the engine needs of a machine: an overlay of this root, its own namespaces, a network."""

    INIT = """
set -e
root=$1 base=$2 python=$3
mount -t overlay -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" overlay "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
hostname engine-test
"$python" "$4" prepare "$root" < "$base/engine.json"
exec chroot "$root" /bin/sh -c \
    '"$@" && touch /run/booted && while :; do sleep 60; done' sh "$python" -IS "$5" boot --detach
"""

    registry: Registry
    process: subprocess.Popen[bytes]

    def __init__(self, base: Path, name: str, stack: ExitStack) -> None:
        third = reserve_namespace()
        self.name = name
        self.host = f"10.254.{third}.1"
        self.root = base / "root"
        self.data = base / "docker"
        self.base = base
        self._stack = stack
        for folder in (self.root, base / "upper", base / "work"):
            folder.mkdir()
        self._network(f"10.254.{third}.2", third)

    def _network(self, address: str, third: int) -> None:
        namespace, outer = f"rct-{third}", f"rcth{third}"
        mtu = "1400"
        self._stack.callback(run, "ip", "netns", "delete", namespace)
        run(
            "ip",
            "link",
            "add",
            outer,
            "mtu",
            mtu,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "mtu",
            mtu,
            "netns",
            namespace,
        )
        self._stack.callback(run, "ip", "link", "delete", outer)
        run("ip", "addr", "add", f"{self.host}/24", "dev", outer)
        run("ip", "link", "set", outer, "up")
        inside = ("ip", "-n", namespace)
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "addr", "add", "169.254.169.254/32", "dev", "lo")
        run(*inside, "addr", "add", f"{address}/24", "dev", "eth0")
        run(*inside, "link", "set", "eth0", "up")
        run(*inside, "route", "add", "default", "via", self.host)
        network.hold_forwarding(outer)
        self._stack.callback(network.release_forwarding, outer)
        subnet = f"10.254.{third}.0/24"
        for rule in (
            ("-t", "nat", "{}", "POSTROUTING", "-s", subnet, "!", "-d", subnet, "-j", "MASQUERADE"),
            ("{}", "FORWARD", "-i", outer, "-j", "ACCEPT"),
            ("{}", "FORWARD", "-o", outer, "-j", "ACCEPT"),
        ):
            run("iptables", "-w", *(word.format("-I") for word in rule))
            self._stack.callback(run, "iptables", "-w", *(word.format("-D") for word in rule))
        self.namespace = namespace

    def boot(self, registry: str) -> None:
        engine = Engine(self.name, str(self.data), 1400, "nobody", registry)
        (self.base / "engine.json").write_text(docker_engine.as_json(engine))
        unshare = (
            "unshare",
            "--mount",
            "--pid",
            "--uts",
            "--fork",
            "--kill-child",
            "--propagation",
            "private",
        )
        self.log = self.base / "init.log"
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                [
                    *("ip", "netns", "exec", self.namespace, *unshare, "sh", "-c", self.INIT, "sh"),
                    *(str(self.root), str(self.base), "/usr/bin/python3"),
                    *(docker_engine.__file__, docker_engine.LIBRARY),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.process = process
        self._stack.callback(self.end)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")

        def booted() -> bool:
            assert process.poll() is None, self.log.read_text()
            if not children.read_text().split():
                return False
            self.pid = int(children.read_text().split()[0])
            return Path(f"/proc/{self.pid}/root/run/booted").exists() and Path(
                f"/proc/{self.pid}/root"
            ).resolve() != Path("/")

        until(booted, "the machine's boot")

    def end(self) -> None:
        if self.process.poll() is not None:
            return
        number = self.namespace_of_processes()
        self.process.kill()
        self.process.wait(10)

        def gone() -> bool:
            return not [p for p in Path("/proc").glob("[0-9]*") if pid_namespace(p) == number]

        until(gone, "the machine's processes to end")
        docker_engine.remove_cgroups(self.name)

    def do(
        self, *command: str, timeout: float = 60, user: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        switch = () if user is None else ("runuser", "-u", user, "--")
        return subprocess.run(
            [
                "nsenter",
                "-t",
                str(self.pid),
                "-a",
                "-r",
                "-w",
                "env",
                "-i",
                path,
                "HOME=/tmp",
                *switch,
                *command,
            ],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def ok(self, *command: str, timeout: float = 60, user: str | None = None) -> str:
        done = self.do(*command, timeout=timeout, user=user)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def namespace_of_processes(self) -> str:
        return pid_namespace(Path(f"/proc/{self.pid}"))

    def write(self, path: str, text: str) -> None:
        target = Path(f"/proc/{self.pid}/root{path}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def pid_namespace(process: Path) -> str:
    try:
        return str((process / "ns/pid").readlink())
    except OSError:
        return ""
