"""Start, find and stop a sandbox. The library behind ``runctl sandbox``; prints nothing."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from runctl.core.errors import Conflict, UsageError
from runctl.core.files import make_private_folder
from runctl.sandbox import record, server_process
from runctl.sandbox.abilities import left_out, why_no_namespaces, why_no_systemd
from runctl.sandbox.connection import DEFAULT_REGION, SandboxError, SandboxInfo, ask
from runctl.sandbox.layout import Layout, default_home
from runctl.sandbox.leftovers import remove_leftovers
from runctl.sandbox.machines import docker_engine
from runctl.sandbox.record import Keys

Report = Callable[[str], None]

START_SECONDS = 60.0
LEAST_FREE_BYTES = 64 << 20


def start(
    *,
    home: Path | None = None,
    region: str | None = None,
    kind: str = "auto",
    docker: str = "auto",
    report: Report = lambda _: None,
) -> SandboxInfo:
    """Start a sandbox in ``home``; one that runs there already is returned as it is.

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
    against = {"namespaces": against_namespaces, "systemd": against_namespaces or why_no_systemd()}
    if against.get(kind):
        raise UsageError(
            f"machines of the kind {kind} cannot be had here: {against[kind]}",
            hint="leave --machines out to get some that work here",
        )
    chosen = ("folders" if against_namespaces else "namespaces") if kind == "auto" else kind
    lacking = left_out(chosen, against_namespaces, docker)
    for line in remove_leftovers(layout):
        report(f"left by a sandbox that crashed, removed: {line}")
    with_docker = chosen != "folders" and docker != "off" and not docker_engine.missing_programs()
    info = _launch(layout, region, chosen, docker=with_docker, left_out=lacking)
    if with_docker:
        _provide_images(layout, report)
    return info


def stop(*, home: Path | None = None, report: Report = lambda _: None) -> tuple[str, ...]:
    """Remove everything of the sandbox but its log: processes, mounts, namespaces, devices and rules; what was
    removed."""
    layout = Layout((home or default_home()).absolute())
    if not layout.home.is_dir():
        return ()
    with _alone(layout):
        return _stop(layout, report)


@contextlib.contextmanager
def _alone(layout: Layout) -> Iterator[None]:
    """Keep others from starting or stopping this sandbox meanwhile."""
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
    if server is not None and server_process.is_server_of(layout, int(server["pid"])):
        pid = int(server["pid"])
        report(f"stopping the server (pid {pid})")
        server_process.stop(layout, pid)
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
    # Without keys it is a server of an earlier version of runctl, which asked for no keys.
    if server is None or "keys" not in server or not server_process.is_server_of(layout, int(server["pid"])):
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


def _launch(
    layout: Layout, region: str, kind: str, *, docker: bool, left_out: tuple[str, ...]
) -> SandboxInfo:
    process = server_process.launch(layout, region, kind, docker=docker)
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
    """A `Progress` that passes every step to a plain function."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.step = report
        self.note = report
        self.warn = report

    def update(self, message: str = "", *, done: int | None = None, total: int | None = None) -> None:
        """Not said."""

    def detail(self, message: str) -> None:
        """Not said."""
