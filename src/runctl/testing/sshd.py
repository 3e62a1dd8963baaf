"""A real sshd on a high port of this computer, with keys and configuration of its own: a machine to reach over SSH."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.core.errors import Unsupported


@dataclass(frozen=True)
class Sshd:
    """A running server that lets ``identity`` in as ``user``."""

    port: int
    user: str
    identity: Path
    host_key: Path
    authorized_keys: Path
    log: Path
    pid: int

    @property
    def host_keys(self) -> tuple[str, ...]:
        """Its public key, as a line of a known_hosts file without the host."""
        return (self.host_key.with_suffix(".pub").read_text().strip(),)

    def log_text(self) -> str:
        """What it has logged."""
        return self.log.read_text(errors="replace")


def program() -> str | None:
    """Where it is installed; ``None`` where it is not."""
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def keygen(path: Path) -> Path:
    """A new key pair; its private half is at the path."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    home: Path, *, port: int | None = None, identity: Path | None = None, settings: str = ""
) -> Iterator[Sshd]:
    """An sshd that is there for the length of the block; its children end with it. Raises `Unsupported` without one."""
    path = program()
    if path is None:
        raise Unsupported("sshd is not installed on this computer", hint="install OpenSSH's server")
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    # The privilege separation folder; a package's init script makes it, and nothing else would here.
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    host_key = keygen(home / "host_key")
    identity = identity or keygen(home / "identity")
    authorized = home / "authorized_keys"
    authorized.write_text(identity.with_suffix(".pub").read_text())
    authorized.chmod(0o600)
    port = port or free_port()
    log = home / "sshd.log"
    config = home / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {host_key}\nPidFile none\n"
        f"AuthorizedKeysFile {authorized}\nStrictModes no\nPasswordAuthentication no\n"
        f"KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nUsePAM no\nLogLevel VERBOSE\n"
        # Not the first shell, to bash: as the first one under sshd it reads the user's ~/.bashrc with every command,
        # which takes longer than most of them.
        f"SetEnv SHLVL=1\n{settings}\n"
    )
    server = subprocess.Popen([path, "-D", "-f", str(config), "-E", str(log)], stdin=subprocess.DEVNULL)
    try:
        limit = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if server.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(f"sshd does not answer: {log.read_text() if log.exists() else ''}")
            time.sleep(0.02)
        yield Sshd(port, getpass.getuser(), identity, host_key, authorized, log, server.pid)
    finally:
        server.terminate()
        server.wait()
