"""What machines do not see of this computer, made in a machine's upper layer before it is mounted.

White-outs and opaque folders are the overlay's own way to hide: see "overlayfs" in the kernel's documentation.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

OPAQUE = "trusted.overlay.opaque"
"""The attribute of a folder, with the value ``y``, below which nothing shows of the layers beneath."""
_SYSTEM_FOLDERS = frozenset(
    {
        *("bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "media", "mnt", "opt"),
        *("proc", "root", "run", "sbin", "srv", "sys", "tmp", "usr", "var"),
    }
)
"""Of the file system hierarchy standard: anything else at the top is a user's."""
_EMPTY = {
    "root": 0o700,
    "var/tmp": 0o1777,
    **dict.fromkeys(
        ("home", "media", "mnt", "srv", "var/log", "var/spool/cron", "var/backups", "var/mail"), 0o755
    ),
    # Of what is in memory, the machine has its own on top; whoever takes that away finds nothing below.
    "dev": 0o755,
    "proc": 0o555,
    "run": 0o755,
    "sys": 0o555,
    "tmp": 0o1777,
    **dict.fromkeys(("var/lib/cloud", "var/lib/runctl", "var/lib/amazon"), 0o755),
    **dict.fromkeys(("var/lib/docker", "var/lib/containerd"), 0o710),
    **dict.fromkeys(("etc/ssh", "etc/sudoers.d", "etc/cron.d"), 0o755),
}
_OF_THE_ADMINISTRATOR = (
    # Units, generators of units, settings; those of packages are below /usr/lib.
    *("etc/systemd", "usr/local/lib/systemd", "etc/modules-load.d", "etc/binfmt.d"),
    # What systemd's own generators make units of.
    *("etc/rc.local", "etc/rc.d", "etc/rc[0-6S].d", "etc/init.d"),
)
"""What this computer's administrator has set up for its systemd to do, as patterns."""
_PRIVATE_BELOW = {"etc": 8, "opt": 2, "var": 3}
"""Where the computer keeps what not everybody on it may read, and how many folders deep that is looked for."""
_LEFT = frozenset({"etc/shadow", "etc/sudoers", *_EMPTY})
"""A machine has its own shadow file, and empty folders of its own; without the rules for sudo there is no sudo."""
_DOCKER = (
    *("docker", "dockerd", "containerd", "containerd-shim-runc-v2", "ctr", "runc", "docker-compose"),
    *("docker-proxy", "docker-init", "docker-buildx", "podman", "nerdctl"),
)
_INSTALLERS = ("apt", "apt-get", "dnf", "yum")
"""A machine that has no Docker gets it when it starts. In these it would not run, and each would ask the internet."""
_PROGRAMS = ("usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin")
_DOCKER_PLUGINS = ("usr/libexec/docker", "usr/lib/docker", "usr/local/lib/docker", "usr/local/libexec/docker")


def hide(upper: Path, *, sandbox_home: Path, docker: bool, systemd: bool = False) -> None:
    """People's files, logs, keys and the sandbox's folder are not on the machine; nor, without ``docker``, is Docker or
    what installs it; nor, with ``systemd``, are the services that this computer has enabled.

    Nor is what an ordinary user of this computer may not read: root in a machine could.

    ``upper`` is new. What a machine keeps in these places is its own.
    """
    upper.chmod(0o755)
    for top in Path("/").iterdir():
        if top.name not in _SYSTEM_FOLDERS:
            _white_out(upper, Path(top.name))
    for folder, mode in _EMPTY.items():
        if Path("/", folder).is_dir():
            _empty(upper, Path(folder), mode)
    for found in administrators_paths() if systemd else ():
        if Path("/", found).is_dir():
            _empty(upper, found, 0o755)
        else:
            _white_out(upper, found)
    for private in private_paths():
        _hide_private(upper, private)
    home = sandbox_home.resolve().relative_to("/")
    # The others are hidden altogether.
    if home.parts[0] in _SYSTEM_FOLDERS:
        _empty(upper, home, 0o700)
    if not docker:
        programs = (f"{folder}/{name}" for folder in _PROGRAMS for name in (*_DOCKER, *_INSTALLERS))
        for path in (*programs, *_DOCKER_PLUGINS):
            if os.path.lexists(Path("/", path)):
                _white_out(upper, Path(path))


def hide_instance(upper: Path) -> None:
    """Of an image that was made of an instance, the next one does not have what cloud-init kept of the first one."""
    (upper / "var/lib/cloud").mkdir(parents=True, exist_ok=True)
    (upper / "var/lib/cloud/instance").mkdir(exist_ok=True)
    os.setxattr(upper / "var/lib/cloud/instance", OPAQUE, b"y")


def administrators_paths(root: Path = Path("/")) -> list[Path]:
    """What there is of `_OF_THE_ADMINISTRATOR`, in folders of the system itself."""
    found = [path for pattern in _OF_THE_ADMINISTRATOR for path in sorted(root.glob(pattern))]
    return [path.relative_to(root) for path in found]


def private_paths(root: Path = Path("/")) -> Iterator[Path]:
    """What of the system's folders not everybody on this computer may read, each without what is below it."""
    todo = [(Path(name), depth) for name, depth in _PRIVATE_BELOW.items() if (root / name).is_dir()]
    while todo:
        folder, depth = todo.pop()
        with suppress(OSError):
            for entry in os.scandir(root / folder):
                path, mode = folder / entry.name, entry.stat(follow_symlinks=False).st_mode
                is_folder = stat.S_ISDIR(mode)
                if str(path) in _LEFT or not (is_folder or stat.S_ISREG(mode)):
                    continue
                wanted = stat.S_IXOTH if is_folder else stat.S_IROTH
                if mode & wanted != wanted:
                    yield path
                elif is_folder and depth > 1:
                    todo.append((path, depth - 1))


def _hide_private(upper: Path, path: Path) -> None:
    info = Path("/", path).lstat()
    if stat.S_ISDIR(info.st_mode):
        _empty(upper, path, stat.S_IMODE(info.st_mode))
        os.chown(upper / path, info.st_uid, info.st_gid)
    else:
        _white_out(upper, path)


def _empty(upper: Path, path: Path, mode: int) -> None:
    _make_parents(upper, path)
    (upper / path).mkdir(exist_ok=True)
    (upper / path).chmod(mode)
    os.setxattr(upper / path, OPAQUE, b"y")


def _white_out(upper: Path, path: Path) -> None:
    _make_parents(upper, path)
    # It may be hidden already, for another reason.
    with suppress(FileExistsError):
        os.mknod(upper / path, stat.S_IFCHR, os.makedev(0, 0))


def _make_parents(upper: Path, path: Path) -> None:
    """Folders above have the modes and owners that they have on this computer."""
    for parent in reversed(path.parents[:-1]):
        if not (upper / parent).exists():
            (upper / parent).mkdir()
            with suppress(FileNotFoundError):
                shutil.copystat(Path("/", parent), upper / parent)
