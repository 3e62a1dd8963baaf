"""What a machine may do to the kernel that it shares with this computer.

Runs in the machine's first process: standard library only.
Root in a machine is root here, so this holds whoever asks by accident, not whoever means to get out: see
docs/sandbox.md.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

if not __package__:
    import own_paths  # type: ignore[import-not-found]  # beside this file
else:
    from runctl.sandbox.machines import own_paths

READ_ONLY = ("proc/sys", "proc/sysrq-trigger", "proc/bus", "proc/fs", "proc/irq", "sys")
"""Of the whole computer. Container runtimes do the same."""
WRITABLE = ("proc/sys/net", "proc/sys/fs/mqueue")
"""Within these, but of the machine's own namespaces."""
DROPPED = {"sys_module": 16, "sys_rawio": 17, "sys_time": 25}
"""Capabilities, with their numbers (linux/capability.h), that no program of a machine has: the kernel's modules, the
hardware and the clock are this computer's."""
_PR_CAPBSET_DROP = 24
_MNT_DETACH = 2


def shield(root: Path, mount: Callable[..., Any]) -> None:
    """The kernel's settings can be read below ``root``, and those changed that are the machine's own."""
    for path in (own_paths.resolve(root, name) for name in WRITABLE):
        if path.exists():
            mount("--bind", str(path), str(path))
    for path in (own_paths.resolve(root, name) for name in READ_ONLY):
        if path.exists():
            _make_read_only(path, mount)


def _make_read_only(path: Path, mount: Callable[..., Any]) -> None:
    if not os.path.ismount(path):
        # With what is mounted below: that keeps its own ways.
        mount("--rbind", str(path), str(path))
    mount("-o", "remount,bind,ro", str(path))


def drop_capabilities() -> None:
    """No program that this process starts from now on has `DROPPED`. Raises `OSError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    for number in DROPPED.values():
        if libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"cannot drop capability {number}")


def without_dropped() -> list[str]:
    """The wrapper of a command that is sent into a machine from outside: it can do no more than those inside."""
    return ["setpriv", "--bounding-set=" + ",".join(f"-{name}" for name in DROPPED), "--"]


def move_into(root: Path) -> None:
    """``root`` is the root of this mount namespace, and nothing else of it is left. Raises `OSError`.

    A ``chroot`` would leave the old root in the namespace: whoever enters that (``docker exec``, a health check,
    ``nsenter -m``) would be there.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    os.chdir(root)
    # The old root comes to lie on top of the new one, and is taken away from there: pivot_root(2).
    if libc.pivot_root(b".", b".") != 0:
        raise OSError(ctypes.get_errno(), f"cannot make {root} the root")
    if libc.umount2(b".", _MNT_DETACH) != 0:
        raise OSError(ctypes.get_errno(), "cannot take the old root away")
    os.chdir("/")
