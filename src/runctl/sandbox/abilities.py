"""What a sandbox can do on this computer, and why it cannot do the rest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from runctl.sandbox.machines import docker_engine, own_cgroup, systemd_init

NEEDED = ("unshare", "nsenter", "ip", "iptables", "losetup", "mkfs.ext4", "sshd", "ssh-keygen")
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where programs may be that are on root's PATH only."""


def why_no_namespaces() -> str:
    """Why machines cannot be namespaces on this computer; empty when they can."""
    if sys.platform != "linux":
        return "that needs Linux"
    if os.geteuid() != 0:
        return "that needs root"
    absent = _absent(NEEDED)
    if absent:
        return f"not installed: {', '.join(absent)}"
    probe = subprocess.run(
        [
            "unshare",
            "--mount",
            "--pid",
            "--net",
            "--uts",
            "--ipc",
            "--fork",
            "mount",
            "-t",
            "tmpfs",
            "x",
            "/mnt",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    return f"the kernel refuses: {probe.stderr.strip()}" if probe.returncode else ""


def why_no_systemd() -> str:
    """Why the first process of machines that are namespaces cannot be systemd on this computer; empty when it can."""
    if systemd_init.program() is None:
        return "systemd is not installed"
    absent = _absent(systemd_init.NEEDED)
    if absent:
        return f"not installed: {', '.join(absent)}"
    if not own_cgroup.hierarchies(Path("/proc/self/mountinfo").read_text()):
        return "this computer's control groups are not mounted below /sys/fs/cgroup"
    return ""


def _absent(programs: Sequence[str]) -> list[str]:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS])
    return [name for name in programs if shutil.which(name, path=path) is None]


def left_out(kind: str, against_namespaces: str, docker: str) -> tuple[str, ...]:
    """What a sandbox of that kind cannot do on this computer, and why, as sentences."""
    from runctl.sandbox.ecr.registry import PROGRAM

    ecr = () if shutil.which(PROGRAM) else (f"no images in ECR: {PROGRAM} is not installed",)
    if kind == "folders":
        because = against_namespaces or "asked for"
        what = f"machines are folders and processes of this computer, not namespaces ({because}): no SSH, no Docker,"
        return (
            f"{what} volumes are folders",
            "no images of instances (CreateImage), and of user data scripts only",
            "no machines of RunPod and Lyceum: those are reached by SSH",
            *ecr,
        )
    missing = docker_engine.missing_programs()
    if docker == "off":
        return ("no Docker in the machines (asked for)", *ecr)
    without = f"no Docker in the machines: not installed: {', '.join(missing)}"
    return ((without,) if missing else ()) + ecr
