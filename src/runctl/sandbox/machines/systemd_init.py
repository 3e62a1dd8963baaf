"""systemd as a machine's first process: what its root has to have for it, and how it begins.

The units are this computer's own, without those that its administrator has enabled, and without those that would reach
the kernel's settings and devices that a machine shares with this computer. Runs in the machine's first process:
standard library only.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

if not __package__:
    import own_paths  # type: ignore[import-not-found]  # beside this file
else:
    from runctl.sandbox.machines import own_paths

PROGRAMS = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")
NEEDED = ("systemctl", "dbus-daemon", "sudo", "useradd")
"""What the computer must have besides for its machines to have systemd."""
UNITS = "etc/systemd/system"
EXIT_SIGNALS = {signal.SIGINT: "poweroff", signal.SIGHUP: "reboot"}
"""How the first process of a pid namespace dies of reboot(2): see pid_namespaces(7)."""
SWITCHES = {"poweroff": signal.SIGRTMIN + 4, "reboot": signal.SIGRTMIN + 5}
"""What systemd does on a signal: see systemd(1)."""
MASKED = (
    # Of the kernel's, for the whole computer.
    *("proc-sys-fs-binfmt_misc.automount", "proc-sys-fs-binfmt_misc.mount", "systemd-binfmt.service"),
    *("sys-kernel-config.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount"),
    *("sys-fs-fuse-connections.mount", "dev-hugepages.mount", "systemd-modules-load.service"),
    *("systemd-sysctl.service", "kmod-static-nodes.service", "systemd-pstore.service"),
    *("systemd-random-seed.service", "systemd-journald-audit.socket", "systemd-timesyncd.service"),
    # Of devices, which a machine gets from the sandbox.
    *("systemd-udevd.service", "systemd-udevd-control.socket", "systemd-udevd-kernel.socket"),
    *("systemd-udev-trigger.service", "systemd-udev-settle.service", "systemd-hwdb-update.service"),
    *("systemd-tmpfiles-setup-dev.service", "systemd-repart.service", "systemd-remount-fs.service"),
    *("systemd-firstboot.service", "systemd-pcrphase.service", "systemd-pcrphase-sysinit.service"),
    *("systemd-networkd.service", "systemd-networkd.socket", "systemd-resolved.service"),
    # Of a screen, which it has not.
    *("getty.target", "console-getty.service", "systemd-ask-password-console.path"),
    "systemd-ask-password-wall.path",
)
SSH = """\
[Unit]
Description=OpenBSD Secure Shell server
After=network.target cloud-init.service
[Service]
Type=notify
ExecStart=/usr/sbin/sshd -D -f /etc/ssh/sshd_config
ExecReload=/bin/kill -HUP $MAINPID
KillMode=process
Restart=on-failure
RestartPreventExitStatus=255
RuntimeDirectory=sshd
RuntimeDirectoryMode=0755
[Install]
WantedBy=multi-user.target
Alias=sshd.service
"""
CLOUD_INIT = """\
[Unit]
Description=Initial cloud-init job of a sandbox machine
After=systemd-tmpfiles-setup.service
Before=ssh.service systemd-user-sessions.service
[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutSec=0
KillMode=process
ExecStart={program} early
"""
CLOUD_FINAL = """\
[Unit]
Description=Execute cloud user/final scripts
After=network.target ssh.service cloud-init.service runctl-sandbox-up.service
[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutSec=0
KillMode=process
ExecStart={program} final
"""
BOOTED = """\
[Unit]
Description=Tells the sandbox that the machine can be used
After=ssh.service dbus.service systemd-logind.service systemd-user-sessions.service docker.socket
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStartPre=-/bin/mount --all
ExecStart=/bin/touch {up}
"""
DOCKER_SOCKET = """\
[Unit]
Description=Docker Socket for the API
[Socket]
ListenStream=/run/docker.sock
SocketMode=0660
SocketUser=root
SocketGroup=docker
[Install]
WantedBy=sockets.target
"""
DOCKER = """\
[Unit]
Description=Docker Application Container Engine
After=network.target docker.socket
Requires=docker.socket
[Service]
Type=notify
ExecStartPre={hub}
ExecStart={dockerd}
ExecReload=/bin/kill -s HUP $MAINPID
Delegate=yes
KillMode=process
TimeoutStartSec=0
[Install]
WantedBy=multi-user.target
"""
JOURNAL = "[Journal]\nReadKMsg=no\nAudit=no\n"


def program() -> str | None:
    """This computer's systemd, which is its machines' too; ``None`` where there is none."""
    return next((path for path in PROGRAMS if Path(path).exists()), None)


def install(
    root: Path,
    *,
    cloud_init: Sequence[str],
    up: str,
    environment: Mapping[str, str],
    hub: Sequence[str],
    dockerd: Sequence[str] | None,
) -> None:
    """``root`` has the units of a machine. ``cloud_init`` and ``hub`` are programs in it, ``up`` is the file that
    appears when it can be used; ``dockerd`` is the engine's command line."""
    own_paths.make_folder(root, UNITS)
    for name in MASKED:
        own_paths.link(root, f"{UNITS}/{name}", "/dev/null")
    words = " ".join(cloud_init)
    units = {
        "ssh.service": SSH,
        "cloud-init.service": CLOUD_INIT.format(program=words),
        "cloud-final.service": CLOUD_FINAL.format(program=words),
        "runctl-sandbox-up.service": BOOTED.format(up=up),
    }
    if dockerd is not None:
        units["docker.socket"] = DOCKER_SOCKET
        units["docker.service"] = DOCKER.format(hub=" ".join(hub), dockerd=" ".join(dockerd))
    else:
        for name in ("docker.service", "docker.socket", "containerd.service"):
            own_paths.link(root, f"{UNITS}/{name}", "/dev/null")
    for name, text in units.items():
        own_paths.write(root, f"{UNITS}/{name}", text)
    wanted = f"{UNITS}/multi-user.target.wants"
    own_paths.make_folder(root, wanted)
    for name in ("ssh.service", "cloud-init.service", "cloud-final.service", "runctl-sandbox-up.service"):
        own_paths.link(root, f"{wanted}/{name}", f"../{name}")
    own_paths.link(root, f"{UNITS}/sshd.service", "ssh.service")
    own_paths.link(root, f"{UNITS}/default.target", _unit_of_this_computer("multi-user.target"))
    if dockerd is not None:
        own_paths.make_folder(root, f"{UNITS}/sockets.target.wants")
        own_paths.link(root, f"{UNITS}/sockets.target.wants/docker.socket", "../docker.socket")
    _setting(root, "journald.conf.d", JOURNAL)
    values = " ".join(f'"{name}={value}"' for name, value in environment.items())
    _setting(root, "system.conf.d", f"[Manager]\nDefaultEnvironment={values}\nDefaultTimeoutStopSec=20s\n")


def begin(path: str, environment: Mapping[str, str]) -> None:
    """This process becomes systemd. It knows by ``container`` that kernel and devices are not its own, and touches
    neither. Does not return; raises `OSError`."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    command = [path, "--system", "--show-status=0"]
    os.execve(path, command, {**environment, "container": "runctl-sandbox"})  # noqa: S606 - it takes this one's place


def _setting(root: Path, folder: str, text: str) -> None:
    own_paths.write(root, f"etc/systemd/{folder}/50-runctl-sandbox.conf", text)


def _unit_of_this_computer(name: str) -> str:
    folder = "/usr/lib/systemd/system" if Path("/usr/lib/systemd/system").is_dir() else "/lib/systemd/system"
    return f"{folder}/{name}"
