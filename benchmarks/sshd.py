"""A real sshd on a high port of loopback, with keys of its own, as whoever runs this."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.free_port import free_port
from benchmarks.measure import Skipped

SYSTEM_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


@dataclass(frozen=True)
class Server:
    """Where it listens and which files let one in."""

    port: int
    user: str
    identity: Path
    known_hosts: Path
    host_key: str
    """The public key, as a line of known_hosts has it after the name."""
    control: Path
    leaving: contextlib.ExitStack
    """What ends with it, before it does."""

    def options(self) -> list[str]:
        """For ssh and scp: this server alone, over one connection that stays open, as runctl has it."""
        settings = {
            "IdentityFile": self.identity,
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": self.known_hosts,
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "ControlMaster": "auto",
            "ControlPath": self.control,
            "ControlPersist": "60",
        }
        return [
            "-F",
            "none",
            *(word for name, value in settings.items() for word in ("-o", f"{name}={value}")),
        ]

    def ssh(self) -> list[str]:
        """The command that rsync is told to use."""
        return ["ssh", *self.options(), "-p", str(self.port)]


@contextlib.contextmanager
def sshd(folder: Path) -> Iterator[Server]:
    """It answers; at the end it is gone, and the shared connection with it."""
    program = shutil.which("sshd", path=SYSTEM_PATH)
    if program is None or shutil.which("ssh-keygen") is None:
        raise Skipped("OpenSSH's server is not installed")
    for name in ("host", "user"):
        key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(key, check=True, stdin=subprocess.DEVNULL)
    port = free_port()
    host_key = " ".join((folder / "host.pub").read_text().split()[:2])
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    (folder / "authorized_keys").write_text((folder / "user.pub").read_text())
    (folder / "authorized_keys").chmod(0o600)
    lines = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {folder / 'host'}",
        f"AuthorizedKeysFile {folder / 'authorized_keys'}",
        f"PidFile {folder / 'sshd.pid'}",
        "StrictModes no",
        "UsePAM no",
        "PasswordAuthentication no",
        "PermitRootLogin prohibit-password",
        # bash reads the user's start-up file at the end of an ssh connection, unless it is no first shell.
        "SetEnv SHLVL=2",
        "Subsystem sftp internal-sftp",
    ]
    (folder / "sshd_config").write_text("\n".join(lines) + "\n")
    if os.geteuid() == 0:
        # sshd's own rule for root; it is there on any machine whose sshd has run once.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    leaving = contextlib.ExitStack()
    server = Server(
        port,
        getpass.getuser(),
        folder / "user",
        folder / "known_hosts",
        host_key,
        folder / "control",
        leaving,
    )
    with (folder / "sshd.log").open("wb") as log:
        argv = [program, "-D", "-e", "-f", str(folder / "sshd_config")]
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=log) as process:
            try:
                wait_until_it_listens(port, process)
                yield server
            finally:
                leaving.close()
                leave = [*server.ssh(), "-O", "exit", "127.0.0.1"]
                subprocess.run(leave, check=False, capture_output=True)
                process.terminate()


def wait_until_it_listens(port: int, process: subprocess.Popen[bytes]) -> None:
    """Returns when it does; raises when it ended or took ten seconds."""
    deadline = time.monotonic() + 10
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
