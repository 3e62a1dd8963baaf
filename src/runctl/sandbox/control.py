"""Start, find and stop a sandbox. The library behind ``runctl sandbox``; prints nothing."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

from runctl.core.config import NOWHERE, SANDBOX_VARIABLE
from runctl.core.errors import Conflict, NotFound, RunctlError, UsageError
from runctl.core.files import make_private_file, make_private_folder
from runctl.sandbox import record
from runctl.sandbox.layout import Layout, default_home
from runctl.sandbox.machines import docker_engine
from runctl.sandbox.record import CONTROL, TOKEN_HEADER, Keys

Report = Callable[[str], None]

START_SECONDS = 60.0
STOP_SECONDS = 30.0
DEFAULT_REGION = "us-east-1"
LOOPBACK = ("127.0.0.1", "localhost")
NO_PROXY = ("NO_PROXY", "no_proxy")
"""Programs look at the one or at the other."""
LEAST_FREE_BYTES = 64 << 20
NEEDED = ("unshare", "nsenter", "ip", "iptables", "losetup", "mkfs.ext4", "sshd", "ssh-keygen")
_SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")

_children: list[subprocess.Popen[bytes]] = []
"""Servers that this process has started: only it can take note of their end."""


class SandboxError(RunctlError):
    """The sandbox cannot be started, or does not answer."""

    code = "sandbox"


@dataclass(frozen=True)
class SandboxInfo:
    """A sandbox that runs."""

    home: Path
    endpoint_url: str
    pid: int
    region: str
    kind: str
    """``namespaces`` or ``folders``."""
    docker: bool
    """Whether its machines have Docker."""
    left_out: tuple[str, ...]
    """Sentences: what it cannot do on this computer, and why."""
    started_at: datetime
    keys: Keys = field(repr=False)

    def environment(self, inherited: Mapping[str, str] | None = None) -> dict[str, str]:
        """The variables that lead the AWS command line, boto3 and runctl into it, past ``inherited`` proxies."""
        return environment(self.endpoint_url, self.region, self.keys, inherited or {})


def environment(endpoint: str, region: str, keys: Keys, inherited: Mapping[str, str]) -> dict[str, str]:
    """What leads to that endpoint; loopback is added to what ``inherited`` says of proxies."""
    past = inherited.get("no_proxy") or inherited.get("NO_PROXY") or ""
    names = [name.strip() for name in past.split(",") if name.strip()]
    no_proxy = ",".join([*names, *(name for name in LOOPBACK if name not in names and "*" not in names)])
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": keys.access_key_id,
        "AWS_SECRET_ACCESS_KEY": keys.secret_access_key,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        SANDBOX_VARIABLE: endpoint,
        **dict.fromkeys(NO_PROXY, no_proxy),
    }


def nowhere(inherited: Mapping[str, str]) -> dict[str, str]:
    """What keeps a command that follows away from AWS when there is no sandbox to lead it into."""
    keys = Keys("no-sandbox", "no-sandbox", "")
    return environment(NOWHERE, DEFAULT_REGION, keys, inherited)


def misleading(inherited: Mapping[str, str]) -> list[str]:
    """The variables that would lead past the sandbox, or carry another account's keys into it."""
    exact = {"AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"}
    return sorted(name for name in inherited if name in exact or name.startswith("AWS_ENDPOINT_URL_"))


def proxies_without_sandbox(inherited: Mapping[str, str]) -> dict[str, str]:
    """What is to be left of ``NO_PROXY`` on the way out, by name; empty where nothing is."""
    left = {}
    for name in NO_PROXY:
        names = [host.strip() for host in inherited.get(name, "").split(",")]
        left[name] = ",".join(host for host in names if host and host not in LOOPBACK)
    return left


def start(
    *,
    home: Path | None = None,
    region: str | None = None,
    kind: str = "auto",
    docker: str = "auto",
    report: Report = lambda _: None,
) -> SandboxInfo:
    """A sandbox runs in ``home``; one that runs there already is returned as it is.

    What a crashed one left behind is removed first, and reported. ``kind`` and ``docker`` (``auto``, ``on``, ``off``)
    are chosen by what the computer can do. Raises `SandboxError`, `UsageError` for a kind that it cannot, `Conflict`
    when the one that runs is not what was asked for.
    """
    layout = Layout((home or default_home()).absolute())
    with _alone(layout):
        running = status(home=layout.home)
        if running is not None:
            _refuse_another(running, region, kind, docker)
            return running
        _refuse_full_disk(layout.home)
        return _start(layout, region or DEFAULT_REGION, kind, docker, report)


def _refuse_another(running: SandboxInfo, region: str | None, kind: str, docker: str) -> None:
    has_docker = "on" if running.docker else "off"
    for what, wanted, found in (
        ("region", region or running.region, running.region),
        ("kind", running.kind if kind == "auto" else kind, running.kind),
        ("docker", has_docker if docker == "auto" else docker, has_docker),
    ):
        if wanted != found:
            raise Conflict(
                f"a sandbox is already running, with {what} {found}, not {wanted}",
                hint="runctl sandbox stop ends it, with everything in it; then start another",
                code="sandbox-differs",
            )


def _refuse_full_disk(home: Path) -> None:
    free = shutil.disk_usage(home).free
    if free < LEAST_FREE_BYTES:
        raise SandboxError(
            f"not enough space for a sandbox in {home}: {free >> 20} MiB are free, it needs"
            f" {LEAST_FREE_BYTES >> 20} MiB at least",
            hint="XDG_DATA_HOME can name a folder on another disk",
        )


def _start(layout: Layout, region: str, kind: str, docker: str, report: Report) -> SandboxInfo:
    against_namespaces = why_no_namespaces()
    if kind == "namespaces" and against_namespaces:
        raise UsageError(
            f"namespaces cannot be used here: {against_namespaces}",
            hint="leave --kind out to get one that works here",
        )
    chosen = ("folders" if against_namespaces else "namespaces") if kind == "auto" else kind
    lacking = left_out(chosen, against_namespaces, docker)
    for line in remove_leftovers(layout):
        report(f"left by a sandbox that crashed, removed: {line}")
    with_docker = chosen == "namespaces" and docker != "off" and not docker_engine.missing_programs()
    info = _launch(layout, region, chosen, docker=with_docker, left_out=lacking)
    if with_docker:
        _provide_images(layout, report)
    return info


def stop(*, home: Path | None = None, report: Report = lambda _: None) -> tuple[str, ...]:
    """Nothing of the sandbox is left but its log: no process, mount, namespace, device or rule; what was ended."""
    layout = Layout((home or default_home()).absolute())
    if not layout.home.is_dir():
        return ()
    with _alone(layout):
        return _stop(layout, report)


@contextlib.contextmanager
def _alone(layout: Layout) -> Iterator[None]:
    """Nobody else starts or stops this sandbox meanwhile."""
    try:
        make_private_folder(layout.home)
        # Keys, disks and whole machines with their setuid programs lie below.
        layout.home.chmod(0o700)
        lock = layout.lock_file.open("w")
    except OSError as error:
        raise SandboxError(
            f"cannot create the sandbox's folder {layout.home}: {error.strerror}",
            hint="choose another folder: XDG_DATA_HOME=FOLDER",
        ) from error
    with lock as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _stop(layout: Layout, report: Report) -> tuple[str, ...]:
    ended: list[str] = []
    server = record.read(layout)
    if server is not None and _is_our_server(int(server["pid"]), layout):
        pid = int(server["pid"])
        report(f"stopping the server (pid {pid})")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        limit = time.monotonic() + STOP_SECONDS
        while _is_our_server(pid, layout) and time.monotonic() < limit:
            time.sleep(0.05)
        for child in _children:
            if child.pid == pid:
                # Between the last look and its end: it is not to be left as a process that nobody waits for.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=1)
        ended.append(f"server (pid {pid})")
    leftovers = remove_leftovers(layout)
    if server is not None:
        ended += leftovers
    for line in leftovers:
        report(f"removed: {line}")
    return tuple(ended)


def status(*, home: Path | None = None) -> SandboxInfo | None:
    """The sandbox that runs in ``home`` and answers, or ``None``."""
    layout = Layout((home or default_home()).absolute())
    server = record.read(layout)
    # Without keys it is a server of an earlier version of runctl, which took anybody's word.
    if server is None or "keys" not in server or not _is_our_server(int(server["pid"]), layout):
        return None
    endpoint = f"http://127.0.0.1:{server['port']}"
    keys = Keys(**server["keys"])
    try:
        ask(endpoint, keys.control_token, "status", {})
    except SandboxError:
        return None
    return SandboxInfo(
        home=layout.home,
        endpoint_url=endpoint,
        pid=int(server["pid"]),
        region=server["region"],
        kind=server["kind"],
        docker=bool(server["docker"]),
        left_out=tuple(server.get("left_out", ())),
        started_at=datetime.fromisoformat(server["started_at"]),
        keys=keys,
    )


class Faults:
    """Things that go wrong on request, in a sandbox that runs."""

    def __init__(self, info: SandboxInfo) -> None:
        self._endpoint = info.endpoint_url
        self._token = info.keys.control_token

    def kill_instance(self, instance: str) -> str:
        """It dies without notice: its host is lost. By id or by name; the id."""
        return str(self._ask("kill", instance_id=instance)["instance_id"])

    def interrupt(self, instance: str, seconds: float = 120) -> tuple[str, datetime]:
        """The spot notice now, the end ``seconds`` later, or when an earlier notice has said; the id, and the end.

        Raises `NotFound` for one that is not there, or not a spot instance that runs.
        """
        answer = self._ask("interrupt", instance_id=instance, seconds=seconds)
        return str(answer["instance_id"]), datetime.fromisoformat(answer["ends_at"])

    def interrupt_pool(
        self, seconds: float, *, zone: str | None = None, instance_type: str | None = None
    ) -> list[str]:
        """As `interrupt` for all spot instances there; their ids."""
        answer = self._ask("interrupt-pool", seconds=seconds, zone=zone, instance_type=instance_type)
        return [str(instance_id) for instance_id in answer["instance_ids"]]

    def rebalance(self, instance: str) -> str:
        """The rebalance recommendation; the id of the instance."""
        return str(self._ask("rebalance", instance_id=instance)["instance_id"])

    def current(self) -> dict[str, Any]:
        """What is to go wrong now, as ``runctl sandbox faults --output json`` shows it."""
        return self._ask("faults")

    def no_capacity(
        self, zone: str | None = None, instance_type: str | None = None, market: str | None = None
    ) -> None:
        """Launches there are refused with InsufficientInstanceCapacity, until `clear`."""
        self.capacity(0, zone=zone, instance_type=instance_type, market=market)

    def capacity(
        self,
        count: int | None,
        *,
        zone: str | None = None,
        instance_type: str | None = None,
        market: str | None = None,
    ) -> None:
        """There can be at most that many instances at once, of those that are named; ``None`` takes the limit away.

        ``market`` is ``spot`` or ``on-demand``. Instances that are there stay, also when they are more.
        """
        self._ask("capacity", count=count, zone=zone, instance_type=instance_type, market=market)

    def throttle(self, action: str, times: int) -> None:
        """The next calls of that action are refused."""
        self._ask("throttle", action=action, times=times)

    def deny(self, action: str) -> None:
        """The caller may not do that, such as ``ec2:RunInstances``."""
        self._ask("deny", action=action)

    def boot_delay(self, seconds: float) -> None:
        """How long instances are pending."""
        self._ask("boot-delay", seconds=seconds)

    def boot_never(self, never: bool = True) -> None:
        """Instances stay pending."""
        self._ask("boot-never", never=never)

    def ssm_offline(self, instance_id: str) -> None:
        """Its SSM agent no longer answers."""
        self._ask("ssm-offline", instance_id=instance_id)

    def volume_times(
        self,
        *,
        modifying: float | None = None,
        optimizing: float | None = None,
        snapshot: float | None = None,
        initializing: float | None = None,
    ) -> None:
        """How many seconds EBS takes over each, also where it has begun; what is not named stays as it is.

        With a large number it does not come to an end until `clear`.
        """
        self._ask(
            "volume-times",
            modifying=modifying,
            optimizing=optimizing,
            snapshot=snapshot,
            initializing=initializing,
        )

    def lazy_blocks(self, seconds: float = 0.02, *, background_mibps: float = 0) -> None:
        """Volumes that are made from snapshots from now on are as slow as on AWS: a block's first read takes so long.

        Blocks are 512 KiB; only those with data are slow. With a VolumeInitializationRate they also become fast by
        themselves at that rate, without one at ``background_mibps``. 0 seconds: no volume is lazy.
        """
        self._ask("lazy-blocks", seconds=seconds, background_mibps=background_mibps)

    def age_modifications(self, volume_id: str, hours: float) -> None:
        """What was modified of the volume was modified that much earlier: there is a limit per day."""
        self._ask("age-modifications", volume_id=volume_id, hours=hours)

    def ecr_token_seconds(self, seconds: float) -> None:
        """Passwords for ECR's registry that are asked for from now on end that soon."""
        self._ask("ecr-token-seconds", seconds=seconds)

    def expire_images(self) -> None:
        """ECR's lifecycle policies are carried out now: AWS does it within a day."""
        self._ask("expire-images")

    def schedule_late(self, seconds: float) -> None:
        """Scheduled actions of Auto Scaling groups come that late; on AWS it may be two minutes."""
        self._ask("schedule-late", seconds=seconds)

    def clear(self) -> None:
        """Everything goes well again."""
        self._ask("clear")

    def _ask(self, verb: str, **parameters: object) -> dict[str, Any]:
        return ask(self._endpoint, self._token, verb, parameters)


def ask(endpoint: str, token: str, verb: str, parameters: Mapping[str, object]) -> dict[str, Any]:
    """One request to the sandbox itself. Raises `SandboxError`; `NotFound` for an instance that is not there."""
    request = urllib.request.Request(  # noqa: S310 - our own server, on loopback
        f"{endpoint}{CONTROL}{verb}",
        json.dumps(parameters).encode(),
        {"Content-Type": "application/json", TOKEN_HEADER: token},
    )
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        with error:
            said = error.read().decode(errors="replace")
        if error.code == HTTPStatus.NOT_FOUND:
            raise NotFound(json.loads(said)["error"], hint="runctl aws list") from error
        raise SandboxError(f"the sandbox refused {verb}: {said}") from error
    except OSError as error:
        raise SandboxError(f"the sandbox at {endpoint} does not answer: {error}") from error


def why_no_namespaces() -> str:
    """Why machines cannot be namespaces on this computer; empty when they can."""
    if sys.platform != "linux":
        return "that needs Linux"
    if os.geteuid() != 0:
        return "that needs root"
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_SYSTEM_FOLDERS])
    absent = [name for name in NEEDED if shutil.which(name, path=path) is None]
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


def remove_leftovers(layout: Layout) -> list[str]:
    """Whatever a sandbox in this folder made outside and inside of it is gone; what there was. Safe to repeat."""
    from runctl.sandbox.ebs import disks, lazy_backing
    from runctl.sandbox.ecr.registry import Registry, remove_registries
    from runctl.sandbox.machines import network
    from runctl.sandbox.machines.machine import ENDED, remove_folder

    removed: list[str] = []
    server = record.read(layout)
    if server is not None and _is_our_server(int(server["pid"]), layout):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(server["pid"]), signal.SIGKILL)
        removed.append(f"server (pid {server['pid']})")
    remove_registries(layout.ecr)
    if sys.platform == "linux" and os.geteuid() == 0 and not why_no_namespaces():
        disks.thaw_all(layout)
        removed += network.kill_inside(layout)
        # Its own record says which process it is, also when the server came to no record of itself.
        if layout.registry.is_dir():
            Registry(layout.registry, (server or {}).get("gateway") or "127.0.0.1", 5000).stop()
        removed += network.remove(layout)
        removed += disks.release_all(layout)
        removed += lazy_backing.release_all(layout)
    for folder in sorted(layout.machines.glob("i-*")) if layout.machines.exists() else []:
        with contextlib.suppress(OSError):
            docker_engine.remove_cgroups(folder.name)
        remove_folder(folder)
        if folder.suffix != ENDED:
            removed.append(f"machine {folder.name}")
    for file in sorted(layout.volumes.glob("*")) if layout.volumes.exists() else []:
        shutil.rmtree(file) if file.is_dir() else file.unlink()
        removed.append(f"disk {file.name}")
    layout.info_file.unlink(missing_ok=True)
    (layout.home / "registry.port").unlink(missing_ok=True)
    return removed


def _launch(
    layout: Layout, region: str, kind: str, *, docker: bool, left_out: tuple[str, ...]
) -> SandboxInfo:
    command = [
        *(sys.executable, "-m", "runctl.sandbox.server", "--home", str(layout.home)),
        *("--region", region, "--kind", kind),
        *(["--docker"] if docker else []),
    ]
    path = os.pathsep.join([*_SYSTEM_FOLDERS, os.environ.get("PATH", os.defpath)])
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    make_private_file(layout.log_file)
    with layout.log_file.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env={**inherited, "PATH": path},
        )
    _children.append(process)
    limit = time.monotonic() + START_SECONDS
    while time.monotonic() < limit:
        info = status(home=layout.home)
        if info is not None:
            server = {**(record.read(layout) or {}), "left_out": list(left_out)}
            record.write(layout, server)
            return SandboxInfo(**{**info.__dict__, "left_out": left_out})
        if process.poll() is not None:
            break
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.wait()
    said = layout.log_file.read_text(errors="replace").strip().splitlines()[-12:] or [
        f"its server ended with {process.returncode} and said nothing"
    ]
    remove_leftovers(layout)
    raise SandboxError(
        "the sandbox did not start:\n  " + "\n  ".join(said),
        hint=f"its log is {layout.log_file}; runctl doctor",
    )


def _provide_images(layout: Layout, report: Report) -> None:
    from runctl.sandbox.ecr.registry import Registry
    from runctl.sandbox.machines import images

    server = record.read(layout) or {}
    images.provide(Registry(layout.registry, server["gateway"], 5000), report=_Reporting(report))


class _Reporting:
    """A `Progress` that says every step to a plain function."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.step = report
        self.note = report
        self.warn = report

    def update(self, message: str = "", *, done: int | None = None, total: int | None = None) -> None:
        """Not said."""

    def detail(self, message: str) -> None:
        """Not said."""


def left_out(kind: str, against_namespaces: str, docker: str) -> tuple[str, ...]:
    """Sentences: what a sandbox of that kind cannot do on this computer, and why."""
    from runctl.sandbox.ecr.registry import PROGRAM

    ecr = () if shutil.which(PROGRAM) else (f"no images in ECR: {PROGRAM} is not installed",)
    if kind == "folders":
        because = against_namespaces or "asked for"
        what = f"machines are folders and processes of this computer, not namespaces ({because}): no SSH, no Docker,"
        return (f"{what} volumes are folders", *ecr)
    missing = docker_engine.missing_programs()
    if docker == "off":
        return ("no Docker in the machines (asked for)", *ecr)
    without = f"no Docker in the machines: not installed: {', '.join(missing)}"
    return ((without,) if missing else ()) + ecr


def _is_our_server(pid: int, layout: Layout) -> bool:
    """Whether that process is this sandbox's server, and not another one that has its number now."""
    _children[:] = [child for child in _children if child.poll() is None]
    done = subprocess.run(
        ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return "runctl.sandbox.server" in done.stdout and str(layout.home) in done.stdout
