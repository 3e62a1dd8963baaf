"""Connections of the system's OpenSSH that many commands share (ControlMaster), made when first needed."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field
from datetime import timedelta
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.core.errors import (
    CredentialsError,
    HostKeyUnknown,
    MachineError,
    RunctlError,
    Unreachable,
    Unsupported,
)
from runctl.transport.known_hosts import KnownHosts
from runctl.transport.ssh_failure import SshHints, classify
from runctl.transport.ssh_programs import INSTALL, not_installed

_SOCKET_PATH_LIMIT = 104
"""Of macOS, the smallest; Linux has 108."""
_SOCKET_SUFFIX = 18
"""ssh makes the socket under its name, a dot and 16 random characters first; and a final NUL."""
_PERSIST_SECONDS = 600
_ALIVE_SECONDS = 15


@dataclass(frozen=True)
class SshTarget:
    """A machine that ssh can reach."""

    host: str
    user: str
    host_key_alias: str
    """What its host key is remembered under: the instance's id, which stays while addresses come and go."""
    port: int = 22
    proxy_command: str | None = None
    """What carries the connection where the machine is behind another, as of ssh's option ProxyCommand."""

    def __str__(self) -> str:
        return f"{self.host_key_alias} ({self.user}@{self.host}:{self.port})"


def _unheard(_fingerprints: str) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True)
class SshConnections:
    """How to connect to one machine. Several processes with the same values share their connections.

    The user's ssh_config is not read: what runctl does must not depend on it. The user's agent is used only when
    there is no ``identity``.
    """

    target: SshTarget
    runtime_dir: Path
    known_hosts: KnownHosts
    identity: Path | None
    host_keys: Callable[[], Sequence[str]] | None
    authorize: Callable[[str], None] | None
    connect_timeout: timedelta
    strict_host_key: bool = False
    """A machine whose key nothing vouches for is not connected to."""
    on_first_key: Callable[[str], None] = field(default=_unheard, compare=False)
    """Told the fingerprints of a key that was recorded because it was the first to answer."""
    hints: SshHints = field(default_factory=SshHints)

    def session(self, slot: int) -> list[str]:
        """The beginning of an ssh command over connection ``slot``; fails if it is not there."""
        return [
            *self._ssh(slot),
            *("-o", "ControlMaster=no"),
            # Without its master ssh would connect by itself, with a key that may not be authorised.
            *("-o", "ProxyCommand=false"),
        ]

    @property
    def destination(self) -> list[str]:
        """The end of ssh's options and the machine."""
        return ["--", f"{self.target.user}@{self.target.host}"]

    def ensure(self, slot: int) -> None:
        """Connection ``slot`` is there. Raises `Unreachable`, `HostKeyChanged`, `CredentialsError`."""
        path = self.socket(slot)
        if _answers(path):
            return
        with _locked(path.with_name(f"{self._name()}.lock")):
            if _answers(path):
                return
            path.unlink(missing_ok=True)
            self._connect(slot)

    def close(self) -> None:
        """No new command gets one of today's connections; each ends with the last command that runs over it."""
        for path in self._directory().glob(f"{self._name()}.[0-9]"):
            subprocess.run(
                [*self.session(int(path.suffix[1:])), "-O", "stop", *self.destination],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
            path.unlink(missing_ok=True)
        for path in self._directory().glob(f"{self._name()}-*.log"):
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def forwarding(self, slot: int, forward: str) -> Iterator[None]:
        """Connection ``slot`` forwards a port, as ``-L`` says it, while the block lasts. Raises `MachineError`."""
        done = self._control(slot, "forward", forward)
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise MachineError(
                f"{forward} cannot be forwarded: {''.join(said) or 'ssh does not say why'}",
                hint="another port here may be free: -L PORT:HOST:PORT",
            )
        try:
            yield
        finally:
            self._control(slot, "cancel", forward)

    def _control(self, slot: int, what: str, forward: str) -> subprocess.CompletedProcess[bytes]:
        argv = [*self.session(slot), "-O", what, "-L", forward, *self.destination]
        return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)

    def socket(self, slot: int) -> Path:
        """Where connection ``slot`` listens."""
        return self._directory() / f"{self._name()}.{slot}"

    def _connect(self, slot: int) -> None:
        alias = self.target.host_key_alias
        known = self.known_hosts.knows(alias)
        if not known and self.host_keys is not None:
            keys = self.host_keys()
            with self.known_hosts.locked():
                known = self.known_hosts.learn(alias, keys)
        if known:
            self._start(slot, "yes")
            return
        with self.known_hosts.locked():
            # Someone else of ours may have recorded it since: then this is the check, not the first use.
            known = self.known_hosts.knows(alias)
            if not known and self.strict_host_key:
                raise HostKeyUnknown(
                    f"nothing vouches for the host key of {alias}, and a strict check was asked for",
                    hint=self.hints.unknown_host_key,
                )
            self._start(slot, "yes" if known else "accept-new")
        if not known:
            self.on_first_key(", ".join(self.known_hosts.fingerprints(alias)))

    def _start(self, slot: int, strict: str) -> None:
        if self.identity is not None and not self.identity.is_file():
            raise CredentialsError(f"key file {self.identity} does not exist")
        if self.authorize is not None:
            self.authorize(public_key(self.identity))
        log = self.socket(slot).with_name(f"{self._name()}-{slot}.log")
        log.unlink(missing_ok=True)
        seconds = self.connect_timeout.total_seconds()
        command = [
            *self._ssh(slot),
            *("-o", "ControlMaster=yes"),
            *("-o", f"ControlPersist={_PERSIST_SECONDS}"),
            *("-o", f"StrictHostKeyChecking={strict}"),
            *("-o", f"ProxyCommand={self.target.proxy_command or 'none'}"),
            *("-E", str(log)),
            *("-N", "-f"),
            *self.destination,
        ]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
                timeout=seconds + 20,
                # Ctrl-C in this terminal must not take the connection of other commands down.
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise _lacking("ssh") from error
        except subprocess.TimeoutExpired as error:
            raise Unreachable(
                f"{self.target} did not finish the ssh login within {seconds + 20:.0f} s"
            ) from error
        if done.returncode != 0:
            raise self.failure(log)

    def failure(self, log: Path) -> RunctlError:
        """The error that ssh's own log tells of."""
        return classify(
            read_log(log),
            machine=str(self.target),
            alias=self.target.host_key_alias,
            known_hosts=self.known_hosts.path,
            identity=self.identity,
            one_time_key=self.authorize is not None,
            hints=self.hints,
        )

    def _ssh(self, slot: int) -> list[str]:
        seconds = max(1, round(self.connect_timeout.total_seconds()))
        identity: list[str] = []
        if self.identity is not None:
            identity = ["-o", "IdentitiesOnly=yes", "-i", _literal(self.identity)]
        return [
            "ssh",
            *("-F", "none"),
            *("-S", _literal(self.socket(slot))),
            *("-o", "BatchMode=yes"),
            *("-o", "LogLevel=ERROR"),
            *("-o", f"ConnectTimeout={seconds}"),
            *("-o", f"ServerAliveInterval={_ALIVE_SECONDS}"),
            *("-o", "ServerAliveCountMax=3"),
            *("-o", f'UserKnownHostsFile="{_literal(self.known_hosts.path)}"'),
            *("-o", "GlobalKnownHostsFile=/dev/null"),
            *("-o", f"HostKeyAlias={self.target.host_key_alias}"),
            *("-o", "HashKnownHosts=no"),
            *("-o", "CheckHostIP=no"),
            *("-o", "UpdateHostKeys=no"),
            *("-o", "ForwardAgent=no"),
            *("-p", str(self.target.port)),
            *identity,
        ]

    def _name(self) -> str:
        facts = (self.target, str(self.identity), str(self.known_hosts.path))
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

    def _directory(self) -> Path:
        longest = len(os.fsencode(self.runtime_dir)) + len("/0123456789abcdef.0") + _SOCKET_SUFFIX
        directory = self.runtime_dir
        if longest > _SOCKET_PATH_LIMIT:
            directory = Path(tempfile.gettempdir()) / f"runctl-{os.getuid()}"
            if len(os.fsencode(directory)) + len("/0123456789abcdef.0") + _SOCKET_SUFFIX > _SOCKET_PATH_LIMIT:
                directory = Path("/tmp") / f"runctl-{os.getuid()}"  # noqa: S108 - checked below
        return private_directory(directory)


def private_directory(path: Path) -> Path:
    """The folder exists, is ours, and nobody else may look into it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = path.lstat()
    if facts.st_uid != os.getuid() or not path.is_dir() or path.is_symlink():
        raise Unsupported(
            f"{path} belongs to somebody else", hint="set XDG_RUNTIME_DIR to a folder of your own"
        )
    if facts.st_mode & 0o077:
        path.chmod(0o700)
    return path


def public_key(identity: Path | None) -> str:
    """The public half of a key file, in OpenSSH's one-line form."""
    if identity is None:
        raise Unsupported("authorising a key needs a key file")
    public_key = identity.with_name(identity.name + ".pub")
    if public_key.is_file():
        return public_key.read_text(encoding="utf-8").strip()
    done = _keygen("-y", "-P", "", "-f", str(identity))
    if done.returncode != 0:
        raise CredentialsError(f"cannot read the key file {identity}: {done.stderr.strip()}")
    return done.stdout.strip()


def one_time_key(directory: Path) -> Path:
    """The private half of a key pair of our own in ``directory``, made by ssh-keygen when there is none yet.

    It opens nothing by itself: a machine takes it only for the minute for which it was authorised. Raises `Unsupported`
    where there is no ssh-keygen.
    """
    final = directory / "ssh-key"
    key = final / "id_ed25519"
    if key.is_file():
        return key
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=directory, prefix=".ssh-key."))
    try:
        _keygen(
            "-q", "-t", "ed25519", "-N", "", "-C", "runctl", "-f", str(fresh / key.name)
        ).check_returncode()
        with contextlib.suppress(OSError):
            # Not empty: another process of ours was first, and its pair is as good.
            fresh.rename(final)
    finally:
        for rest in fresh.glob("*"):
            rest.unlink()
        with contextlib.suppress(FileNotFoundError):
            fresh.rmdir()
    return key


def _keygen(*arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["ssh-keygen", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise _lacking("ssh-keygen") from error


def _lacking(program: str) -> Unsupported:
    return Unsupported(not_installed(program), hint=INSTALL)


def read_log(path: Path) -> str:
    """What ssh wrote about itself."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _literal(path: Path) -> str:
    """A path in a place where ssh expands ``%`` tokens."""
    return str(path).replace("%", "%%")
