"""A machine's folder: what is in it before the first boot, and how it is discarded."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import threading
import time
import uuid
from pathlib import Path

from runctl.sandbox.machines import cloud_init, first_process, own_root
from runctl.sandbox.machines.hardware import Hardware
from runctl.sandbox.machines.user_data import steps_of

SSHD_CONFIG = """\
Port 22
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin {root_login}
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM {pam}
StrictModes no
MaxStartups 100
MaxSessions 100
UseDNS no
AuthorizedKeysFile .ssh/authorized_keys /run/eic/%u
SetEnv {environment}
Subsystem sftp internal-sftp
PidFile /run/sshd.pid
"""


def furnish(upper: Path, hardware: Hardware, *, sandbox_home: Path, hostname: str, address: str) -> None:
    """Its upper layer has what its image and its launch put there."""
    if hardware.image is None:
        own_root.hide(upper, sandbox_home=sandbox_home, docker=hardware.docker, systemd=hardware.systemd)
        _install_image(upper / "etc", hardware.login_user)
    else:
        upper.chmod(0o755)
        own_root.hide_instance(upper)
    _install_key(upper, hardware)
    etc = upper / "etc"
    (etc / "environment").write_text(
        "".join(f'{name}="{value}"\n' for name, value in hardware.environment.items())
    )
    (etc / "hostname").write_text(hostname + "\n")
    (etc / "hosts").write_text(f"127.0.0.1 localhost\n{address} {hostname}\n")
    # Without one systemd takes the boot for that of a new image, and enables whatever this computer has installed.
    (etc / "machine-id").write_text(f"{uuid.uuid4().hex}\n")
    _install_sshd(etc / "ssh", hardware)
    steps = upper / cloud_init.STEPS.relative_to("/")
    steps.parent.mkdir(parents=True, exist_ok=True)
    steps.write_text(json.dumps(steps_of(hardware.user_data, hardware.login_user)))
    steps.chmod(0o600)


def _install_image(etc: Path, user: str) -> None:
    """What an image has that nobody has changed."""
    (etc / "sudoers.d").mkdir(parents=True, exist_ok=True)
    sudoers = etc / "sudoers.d/90-cloud-init-users"
    sudoers.write_text(f"{user} ALL=(ALL) NOPASSWD:ALL\n")
    sudoers.chmod(0o440)
    (etc / "fstab").write_text("")
    for name, text in accounts(user).items():
        (etc / name).write_text(text)
    (etc / "shadow").chmod(0o600)


def _install_key(upper: Path, hardware: Hardware) -> None:
    """The key pair opens the image's login, as do the keys that the image had."""
    is_root = hardware.login_user == "root"
    home = Path("root" if is_root else f"home/{hardware.login_user}")
    owner = 0 if is_root else 1000
    ssh = upper / home / ".ssh"
    # What is above is the image's.
    (upper / "etc").mkdir(exist_ok=True)
    ssh.mkdir(parents=True, mode=0o700)
    kept = own_text(hardware.image, home / ".ssh/authorized_keys") if hardware.image is not None else ""
    keys = [kept.strip()] if kept else []
    keys += [hardware.authorized_key.strip()] if hardware.authorized_key else []
    if keys:
        (ssh / "authorized_keys").write_text("\n".join([*keys, ""]))
        (ssh / "authorized_keys").chmod(0o600)
    for path in (upper / home, ssh, *ssh.iterdir()):
        os.chown(path, owner, owner)


def own_text(folder: Path, name: Path) -> str:
    """What a machine has written into that file below ``folder``; empty where there is none.

    A link in it leads to a file of the machine's, and here to one of this computer's: none is followed. What a machine
    has deleted is a device there.
    """
    here = folder
    for part in name.parts:
        if not stat.S_ISDIR(here.lstat().st_mode):
            return ""
        here /= part
        if not os.path.lexists(here):
            return ""
    return here.read_text(errors="replace") if stat.S_ISREG(here.lstat().st_mode) else ""


def _install_sshd(folder: Path, hardware: Hardware) -> None:
    """A host key of its own, and settings."""
    folder.mkdir(exist_ok=True)
    key = folder / "ssh_host_ed25519_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)], check=True)
    variables = {"PATH": first_process.PATH, "LANG": "C.UTF-8", **hardware.environment}
    (folder / "sshd_config").write_text(
        SSHD_CONFIG.format(
            root_login="prohibit-password" if hardware.login_user == "root" else "no",
            pam="yes" if hardware.systemd else "no",
            environment=" ".join(f'"{name}={value}"' for name, value in variables.items()),
        )
    )


def accounts(login_user: str) -> dict[str, str]:
    """This computer's accounts with the image's login user as 1000, whoever has that number here; root stays root."""
    found = {}
    rows = {
        "passwd": f"{login_user}:x:1000:1000::/home/{login_user}:/bin/bash",
        "group": f"{login_user}:x:1000:",
        "shadow": f"{login_user}:*:19000:0:99999:7:::",
    }
    for name, row in rows.items():
        lines = Path("/etc", name).read_text().splitlines()
        kept = [
            line
            for line in lines
            if login_user == "root"
            or (
                not line.startswith(f"{login_user}:")
                and (name == "shadow" or line.split(":")[2:3] != ["1000"])
            )
        ]
        if name == "shadow":
            kept = [_without_password(line) for line in kept]
        found[name] = "\n".join([*kept, *([] if login_user == "root" else [row]), ""])
    return found


def _without_password(line: str) -> str:
    """Nobody logs in by a password, and this computer's are kept from machines."""
    user, _, rest = line.partition(":")
    return f"{user}:*:{rest.partition(':')[2]}"


ENDED = ".ended"
"""The suffix of a machine's folder whose content is being removed."""


def discard(folder: Path) -> None:
    """Remove it; its content is removed in the background, as an image's files take seconds."""
    ended = folder.with_name(folder.name + ENDED)
    with contextlib.suppress(FileNotFoundError):
        folder.rename(ended)
        threading.Thread(target=remove_folder, args=(ended,), daemon=True).start()


def remove_folder(folder: Path) -> None:
    """Remove it, whatever modes the machine gave to what is in it."""
    limit = time.monotonic() + 10
    while folder.exists():
        # Several machines go at once: a program of its own does not wait for Python's lock.
        subprocess.run(["rm", "-rf", "--", str(folder)], check=False, capture_output=True)
        if time.monotonic() > limit:
            break
        if folder.exists():
            time.sleep(0.1)
