"""What a sandbox leaves on a computer, looked for with the system's own tools and not with the sandbox's."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

from runctl.sandbox.layout import Layout


def traces(home: Path) -> list[str]:
    """Every process, mount, namespace, device and rule that belongs to the sandbox in that folder."""
    tag = Layout(home).tag
    found = [f"process {line}" for line in _processes(home)]
    found += [f"mount {line}" for line in _mounts(home)]
    for what, command, mark in (
        ("namespace", ["ip", "netns", "list"], tag),
        ("device", ["ip", "-o", "link", "show"], tag),
        ("loop device", ["losetup", "--list", "--noheadings"], str(home)),
        ("rule", ["iptables", "-w", "-S"], tag),
        ("forwarding", ["find", "/run", "-maxdepth", "2", "-path", "/run/runctl-sandbox.forwarding/*"], tag),
        ("nat rule", ["iptables", "-w", "-t", "nat", "-S"], tag),
    ):
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        found += [f"{what} {line}" for line in lines if mark in line]
    return found


def _processes(home: Path) -> list[str]:
    """By command line, and by the root file system that they have: machines' processes do not say where they live."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or entry.name == str(os.getpid()):
            continue
        with suppress(OSError):
            argv = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if argv and (str(home) in argv or str(home) in _root_of(entry)):
                found.append(f"{entry.name} {argv.strip()}")
    return found


def _root_of(process: Path) -> str:
    """The line of its mounts that says what its root is."""
    lines = (process / "mountinfo").read_text(errors="replace").splitlines()
    return next((line for line in lines if line.split()[4] == "/"), "")


def _mounts(home: Path) -> set[str]:
    """In any mount namespace of the computer."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                lines = (entry / "mountinfo").read_text(errors="replace").splitlines()
                found |= {line for line in lines if str(home) in line}
    return found
