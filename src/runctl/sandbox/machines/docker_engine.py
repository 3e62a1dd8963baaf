"""Docker inside a sandbox machine: what its root needs so that an engine starts at the first connection.

`prepare` runs in the machine's own mount namespace, before its processes are locked into ``root``; what it
leaves there (`docker_supervisor`, `systemd`) runs inside. The engine, its containers and their mounts end with
the machine's pid and mount namespaces; `remove_cgroups` takes away what the kernel keeps beyond them.
Standard library only: it also runs as a program, ``prepare ROOT`` with the `Engine` as JSON on stdin.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if not __package__:
    sys.path.insert(0, str(Path(__file__).parent))
    import own_paths  # type: ignore[import-not-found]  # beside this file
else:
    from runctl.sandbox.machines import own_paths

LIBRARY = "/usr/lib/runctl-sandbox"
"""Where the machine finds our programs."""

MODULES = ("cloud_init.py", "docker_supervisor.py", "systemd.py")
CONFIG = f"{LIBRARY}/engine.json"
DATA_ROOT = "/var/lib/docker"
CGROUP_PARENT = "runctl-sandbox"

PROGRAMS = ("dockerd", "containerd", "runc", "iptables", "docker")
"""What the computer must have for its machines to have Docker."""

_PLUGIN_FOLDERS = (
    "usr/lib/docker/cli-plugins",
    "usr/libexec/docker/cli-plugins",
    "usr/local/lib/docker/cli-plugins",
    "usr/local/libexec/docker/cli-plugins",
)


@dataclass(frozen=True)
class Engine:
    """How the engine of one machine is set up."""

    machine: str
    """The instance's id: names its control groups."""
    data_root: str
    """Folder on the computer's real file system, the machine's own, for images and containers."""
    mtu: int
    """Of the machine's network; a container's packets must fit through it."""
    login_user: str
    """Becomes a member of the group ``docker``."""
    registry: str | None = None
    """``host:port`` that stands in for Docker Hub, over plain HTTP."""
    insecure_registries: tuple[str, ...] = ()
    """Others that speak plain HTTP."""

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Engine:
        """What `as_json` wrote, read back."""
        return cls(**{**document, "insecure_registries": tuple(document.get("insecure_registries", ()))})


@dataclass(frozen=True)
class CgroupMount:
    """One mount below /sys/fs/cgroup."""

    folder: str
    """Name below /sys/fs/cgroup; empty for the one unified hierarchy itself."""
    fstype: str
    options: str
    aliases: tuple[str, ...] = ()
    """Links to ``folder``: the single names of controllers that share a hierarchy."""


def missing_programs() -> tuple[str, ...]:
    """What has to be installed before machines of this computer can have Docker; empty when nothing."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"))
    return tuple(program for program in PROGRAMS if shutil.which(program, path=path) is None)


def command(root: Path) -> list[str]:
    """The command that starts what a machine starts at boot, to be run inside it, as root; returns at once.

    Afterwards /run/docker.sock listens, where there is an engine, and enabled oneshot services run. The process
    that stays, by /run/docker-supervisor.pid, ends the engine in order on SIGTERM.
    """
    return [_interpreter(root), "-IS", LIBRARY, "boot", "--detach"]


def prepare(root: Path, engine: Engine | None, *, systemd: bool = False) -> None:
    """The file system at ``root`` is ready for `command`; without an engine it has the ``systemctl`` only, and with
    ``systemd``, which has its own, not even that.

    ``root`` has its own /proc and /sys mounted, and is not the computer's own root. Raises `ValueError` when it
    is, ``subprocess.CalledProcessError`` when something cannot be mounted.
    """
    if os.path.realpath(root) == "/":
        raise ValueError("refusing to change this computer's own root")
    if not own_paths.resolve(root, LIBRARY).exists():
        _forget_the_computers_docker(root)
    _install_library(root)
    settings = None if engine is None else dockerd_options(engine)
    own_paths.write(root, CONFIG, json.dumps({"dockerd": settings}))
    if not systemd:
        _install_shims(root)
    if systemd or engine is not None:
        _mount_cgroups(own_paths.resolve(root, "sys/fs/cgroup"), Path("/proc/self/cgroup").read_text())
    if engine is None:
        return
    group = own_paths.resolve(root, "etc/group")
    group.write_text(with_member(group.read_text(), "docker", engine.login_user))
    _prefer_the_client_that_builds(root)
    data_root = Path(engine.data_root)
    data_root.mkdir(parents=True, exist_ok=True)
    _mount("--bind", str(data_root), str(own_paths.make_folder(root, DATA_ROOT)))


def dockerd_options(engine: Engine) -> list[str]:
    """The engine's command line, without the program.

    The storage driver is left to the engine: it takes overlay2 wherever the file system carries it.
    """
    options = [
        "--host=fd://",
        f"--data-root={DATA_ROOT}",
        "--exec-root=/run/docker",
        "--pidfile=/run/docker.pid",
        "--exec-opt=native.cgroupdriver=cgroupfs",
        f"--cgroup-parent=/{CGROUP_PARENT}/{engine.machine}",
        f"--mtu={engine.mtu}",
    ]
    insecure = list(engine.insecure_registries)
    if engine.registry is not None:
        options.append(f"--registry-mirror=http://{engine.registry}")
        insecure.insert(0, engine.registry)
    # With the scheme: the engine itself drops it, its BuildKit takes plain HTTP only from it.
    return options + [f"--insecure-registry=http://{address}" for address in insecure]


def remove_cgroups(
    machine: str, *, hierarchies: Path = Path("/sys/fs/cgroup"), limit_seconds: float = 5
) -> None:
    """Remove the control groups of a machine that has ended. Runs on the computer, not in the machine.

    Raises `OSError` when a process is still in one of them after ``limit_seconds``.
    """
    deadline = time.monotonic() + limit_seconds
    for parent in [*hierarchies.glob(f"*/{CGROUP_PARENT}"), hierarchies / CGROUP_PARENT]:
        while True:
            try:
                _remove_tree_of_cgroups(parent / machine)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        # Other machines may be in it.
        with suppress(OSError):
            parent.rmdir()


def cgroup_mounts(own_cgroups: str) -> list[CgroupMount]:
    """The hierarchies that this kernel has, from a process's ``/proc/PID/cgroup``."""
    found = []
    for line in own_cgroups.splitlines():
        number, controllers, _path = line.split(":", 2)
        if number == "0":
            continue
        if controllers.startswith("name="):
            name = controllers.partition("=")[2]
            found.append(CgroupMount(name, "cgroup", f"none,{controllers}"))
        else:
            names = controllers.split(",")
            aliases = tuple(names) if len(names) > 1 else ()
            found.append(CgroupMount(controllers, "cgroup", controllers, aliases))
    return found or [CgroupMount("", "cgroup2", "rw")]


def with_member(groups: str, group: str, user: str) -> str:
    """The text of /etc/group with ``user`` in ``group``, which is made if it is not there."""
    lines = groups.splitlines()
    taken = {
        int(line.split(":")[2]) for line in lines if line.count(":") == 3 and line.split(":")[2].isdigit()
    }
    for index, line in enumerate(lines):
        name, _, _rest = line.partition(":")
        if name == group:
            head, _, members = line.rpartition(":")
            names = [member for member in members.split(",") if member]
            if user not in names:
                lines[index] = f"{head}:{','.join([*names, user])}"
            break
    else:
        number = next(n for n in range(990, 100, -1) if n not in taken)
        lines.append(f"{group}:x:{number}:{user}")
    return "\n".join(lines) + "\n"


def _remove_tree_of_cgroups(top: Path) -> None:
    for folder, _subfolders, _files in os.walk(top, topdown=False):
        with suppress(FileNotFoundError):
            Path(folder).rmdir()


def _mount_cgroups(target: Path, own_cgroups: str) -> None:
    mounts = cgroup_mounts(own_cgroups)
    if mounts[0].folder:
        _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(target))
    for mount in mounts:
        folder = target / mount.folder
        folder.mkdir(exist_ok=True)
        _mount("-t", mount.fstype, "-o", mount.options, "cgroup", str(folder))
        for alias in mount.aliases:
            (target / alias).symlink_to(mount.folder)


def _install_library(root: Path) -> None:
    """The modules that run in the machine, as a program: nothing else of runctl has to be there."""
    for package in ("runctl", "runctl/sandbox", "runctl/sandbox/machines"):
        own_paths.write(root, f"{LIBRARY}/{package}/__init__.py", "")
    for name in MODULES:
        installed = own_paths.resolve(root, f"{LIBRARY}/runctl/sandbox/machines/{name}")
        shutil.copyfile(Path(__file__).with_name(name), installed)
    start = "import sys\nfrom runctl.sandbox.machines.systemd import main\nsys.exit(main(sys.argv[1:]))\n"
    own_paths.write(root, f"{LIBRARY}/__main__.py", start)


def _forget_the_computers_docker(root: Path) -> None:
    """On a machine's first boot: this computer's engine settings and registry logins are not the machine's."""
    own_paths.resolve(root, "etc/docker/daemon.json", follow_last=False).unlink(missing_ok=True)
    shutil.rmtree(own_paths.resolve(root, "root/.docker", follow_last=False), ignore_errors=True)


def _prefer_the_client_that_builds(root: Path) -> None:
    """A newer client without its buildx plug-in cannot build; the distribution's own can."""
    plugins = (own_paths.resolve(root, f"{folder}/docker-buildx") for folder in _PLUGIN_FOLDERS)
    if own_paths.resolve(root, "usr/bin/docker").exists() and not any(path.exists() for path in plugins):
        own_paths.resolve(root, "usr/local/bin/docker", follow_last=False).unlink(missing_ok=True)


def _install_shims(root: Path) -> None:
    interpreter = _interpreter(root)
    # Where systemd is installed these are links to systemctl: whoever writes through them would write over ours.
    for name in ("shutdown", "poweroff", "reboot", "halt"):
        link = own_paths.resolve(root, f"usr/sbin/{name}", follow_last=False)
        if link.is_symlink():
            link.unlink()
    for path in ("usr/bin/systemctl", "usr/sbin/service"):
        target = own_paths.resolve(root, path, follow_last=False)
        target.unlink(missing_ok=True)
        target.write_text(f'#!/bin/sh\nexec {interpreter} -IS {LIBRARY} {target.name} "$@"\n')
        target.chmod(0o755)


def _interpreter(root: Path) -> str:
    """A Python of the machine, by the path that it has there."""
    for candidate in (sys._base_executable, sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):  # type: ignore[attr-defined]
        if candidate and own_paths.resolve(root, candidate).exists():
            return str(candidate)
    raise FileNotFoundError(f"no Python was found below {root}")


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def main(arguments: list[str] | None = None) -> int:
    """``prepare ROOT [--systemd]``, with the engine (or ``null``) as JSON on stdin."""
    parser = argparse.ArgumentParser(description="Prepare a machine's root for Docker.")
    parser.add_argument("verb", choices=["prepare"])
    parser.add_argument("root", type=Path)
    parser.add_argument("--systemd", action="store_true", help="the machine has a systemd of its own")
    options = parser.parse_args(arguments)
    document = json.load(sys.stdin)
    engine = None if document is None else Engine.from_json(document)
    prepare(options.root, engine, systemd=options.systemd)
    return 0


def as_json(engine: Engine | None) -> str:
    """What `main` reads."""
    return json.dumps(None if engine is None else dataclasses.asdict(engine))


if __name__ == "__main__":
    raise SystemExit(main())
