"""A sandbox machine where there are no namespaces: a folder for its disk and a group of processes.

Commands are ordinary processes of this computer's user with paths below the folder in their environment. No
kernel keeps them in: this is for trying commands out without root, not for code that one does not trust.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from runctl.core.errors import Conflict
from runctl.sandbox.folders import processes as folder_processes
from runctl.sandbox.folders import shims as folder_shims
from runctl.sandbox.machines.user_data import steps_of, unpacked

ROOT_VARIABLE = "RUNCTL_MACHINE_ROOT"
"""Set for every process of a machine: the agent finds its paths by it, and we find the process."""

BY_ID = "dev/disk/by-id"
_PASSED_ON = (
    *(
        "LANG",
        "LC_ALL",
        "TZ",
        "TMPDIR",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    ),
    *("PIP_CERT", "PIP_INDEX_URL", "PIP_CACHE_DIR", "UV_CACHE_DIR", "UV_DEFAULT_INDEX", "AWS_CA_BUNDLE"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
)
_FOLDERS = (
    *("bin", "dev", BY_ID, "etc", "mnt", "run", "tmp", "var/log"),
    *("var/lib/cloud/instance", "var/lib/runctl"),
)


@dataclass(frozen=True)
class ShutdownRequest:
    """What a process of the machine has asked for with ``shutdown``."""

    action: str
    """``poweroff`` or ``reboot``."""
    at: datetime
    """The earliest time."""


@dataclass(frozen=True)
class UserDataResult:
    """How the script of the first boot ended."""

    exit_code: int | None
    """``None`` when there was no script to run."""


class FolderMachine:
    """One machine below ``root``. Its volumes are folders elsewhere."""

    def __init__(
        self,
        root: Path,
        instance_id: str,
        *,
        login_user: str = "ec2-user",
        metadata_endpoint: str | None = None,
    ) -> None:
        self.root = root.absolute()
        self.instance_id = instance_id
        self.login_user = login_user
        self.metadata_endpoint = metadata_endpoint
        """URL of its metadata service, on a loopback port."""
        self._groups: set[int] = set()
        self._started: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._created = False

    @property
    def is_up(self) -> bool:
        """Whether it has been switched on: between `create` and `stop`."""
        return self._created

    @property
    def home(self) -> Path:
        """The login user's home: where commands start."""
        return self.root / "home" / self.login_user

    def create(self) -> None:
        """The machine's disk is there, with its own commands; what was on it before stays."""
        for name in _FOLDERS:
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self.home.mkdir(parents=True, exist_ok=True)
        # A folder below a shared /tmp must be closed to others.
        self.root.chmod(0o700)
        folder_shims.install(self.root / "bin")
        (self.root / "etc/hostname").write_text(f"{self.instance_id}\n")
        self._created = True

    def environment(self) -> dict[str, str]:
        """What a command of the machine finds: nothing of this computer's but language, certificates and proxies."""
        kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        path = os.pathsep.join((str(self.root / "bin"), os.environ.get("PATH", os.defpath)))
        endpoint = {}
        if self.metadata_endpoint is not None:
            endpoint = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": self.metadata_endpoint}
        return {
            **kept,
            **endpoint,
            "PATH": path,
            "HOME": str(self.home),
            "USER": _user_name(),
            "LOGNAME": _user_name(),
            "SHELL": "/bin/sh",
            ROOT_VARIABLE: str(self.root),
            "RUNCTL_AGENT_STATE": str(self.root / "var/lib/runctl"),
            "RUNCTL_INSTANCE_ID": self.instance_id,
            # The machine has no Docker engine of this computer, whatever a client finds.
            "DOCKER_HOST": f"unix://{self.root}/run/docker.sock",
        }

    def popen(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        stderr: int | IO[bytes] = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """Start a command as the login user's: in a session of its own, in the home folder.

        ``env`` is added to `environment`; ``cwd`` is a path of the machine, absolute or from the home folder.
        """
        environment = {**self.environment(), **(env or {})}
        with self._lock:
            process = subprocess.Popen(
                list(command),
                env=environment,
                cwd=self.path(cwd) if cwd is not None else self.home,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
            self._groups.add(process.pid)
            self._started = [started for started in self._started if started.poll() is None]
            self._started.append(process)
        return process

    def path(self, name: str) -> Path:
        """An absolute path of the machine, as this computer has it; others count from the home folder."""
        if not name.startswith("/"):
            return self.home / name
        if Path(name).is_relative_to(self.root):
            return Path(name)
        return self.root / name.lstrip("/")

    def run_user_data(self, user_data: bytes) -> UserDataResult:
        """The first boot's script has run, as cloud-init runs it; ``cloud-init status`` says so.

        Its output is in /var/log/cloud-init-output.log. What is not a script is kept but not run: that is an error if
        cloud-init would have done anything with it, as it would change what belongs to this computer.
        """
        instance = self.root / "var/lib/cloud/instance"
        text = unpacked(user_data)
        script = instance / "user-data.txt"
        script.write_bytes(text)
        script.chmod(0o700)
        code: int | None = None
        failed = ""
        with (self.root / "var/log/cloud-init-output.log").open("ab") as log:
            if text.startswith(b"#!"):
                code = self._run_script(script, log)
                failed = f"ended with {code}\n" if code else ""
            elif any(steps_of(text, self.login_user).values()):
                failed = "user-data is not a script (no #! line): a machine that is a folder does not carry it out\n"
                log.write(failed.encode())
            elif text.strip():
                log.write(b"user-data is not a script (no #! line): not run on a sandbox machine\n")
        if failed:
            (instance / "user-data-failed").write_text(failed)
        (instance / "boot-finished").write_text(f"{datetime.now(UTC).isoformat()}\n")
        return UserDataResult(code)

    def _run_script(self, script: Path, log: IO[bytes]) -> int:
        try:
            return self.popen([str(script)], stdout=log, stderr=log).wait()
        except OSError as error:
            log.write(f"user-data: {error}\n".encode())
            return 127

    def shutdown_request(self) -> ShutdownRequest | None:
        """What ``shutdown`` in the machine has asked for and nobody has done yet; look every now and then."""
        try:
            action, at = (self.root / "run/shutdown-request").read_text().split()
        except (OSError, ValueError):
            return None
        return ShutdownRequest(action, datetime.fromtimestamp(int(at), UTC))

    def attach(self, volume_id: str, directory: Path, device: str = "") -> None:
        """The volume's folder is found as a disk of the machine by its id, and under the device name asked for."""
        for link in self._links(volume_id, device):
            link.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                link.unlink()
            link.symlink_to(directory.absolute(), target_is_directory=True)

    def detach(self, volume_id: str, device: str = "", *, force: bool = False) -> None:
        """The volume is no disk of the machine any more.

        Raises `Conflict` when it is still mounted, unless ``force``: then the mounts end with it.
        """
        by_id = self._links(volume_id, "")[0]
        if by_id.is_symlink():
            mounts = self.mounts_of(by_id.readlink())
            if mounts and not force:
                where = ", ".join(f"/{mount.relative_to(self.root)}" for mount in mounts)
                raise Conflict(f"volume {volume_id} is still mounted at {where}")
            for mount in mounts:
                mount.unlink()
        for link in self._links(volume_id, device):
            link.unlink(missing_ok=True)

    def mounts_of(self, directory: Path) -> list[Path]:
        """Where the machine has the volume mounted: links to its folder, outside /dev."""
        found = []
        for folder, folders, files in os.walk(self.root):
            here = Path(folder)
            if here == self.root:
                folders[:] = [name for name in folders if name not in {"dev", "bin"}]
            for name in (*folders, *files):
                link = here / name
                if link.is_symlink() and link.resolve() == directory.resolve():
                    found.append(link)
            # A mount point lies near the root: what is deeper is projects and environments, thousands of files.
            if len(here.relative_to(self.root).parts) >= 3:
                folders.clear()
        return sorted(found)

    def processes(self) -> set[int]:
        """Every process of the machine that lives, those that have detached themselves too."""
        with self._lock:
            for process in self._started:
                process.poll()
            seen = folder_processes.find(f"{ROOT_VARIABLE}={self.root}")
            self._groups &= {group for process in seen for group in process.groups}
            groups = set(self._groups)
        return folder_processes.members(seen, groups, never=(os.getpid(), 0, 1))

    def stop(self, *, grace_seconds: float = 2.0) -> None:
        """End every process of the machine; its disk stays as it is.

        Works for a machine that another process has started, too. Raises `TimeoutError` naming what did not end.
        """
        self._created = False
        folder_processes.end(self.processes, grace_seconds=grace_seconds)
        (self.root / "run/shutdown-request").unlink(missing_ok=True)
        (self.root / "run/systemd/shutdown/scheduled").unlink(missing_ok=True)

    def destroy(self) -> None:
        """Remove its processes and its disk. Volumes stay: they are elsewhere."""
        self.stop(grace_seconds=0)
        if self.root.exists():
            shutil.rmtree(self.root)

    def _links(self, volume_id: str, device: str) -> list[Path]:
        serial = volume_id.replace("-", "")
        links = [self.root / BY_ID / f"nvme-Amazon_Elastic_Block_Store_{serial}"]
        if device:
            links.append(self.root / "dev" / Path(device).name)
        return links


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
