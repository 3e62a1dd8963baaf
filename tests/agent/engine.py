"""A Docker engine of the tests' own, and images made of this machine's files."""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.agent.driver import until
from tests.availability import find_program

BASE = "base:py"
"""An image with this machine's Python."""

PYTHON = "/usr/bin/python3"
LEFT_OUT = (
    "test",
    "idlelib",
    "tkinter",
    "lib2to3",
    "ensurepip",
    "__pycache__",
    "dist-packages",
    "pydoc_data",
)


@dataclass
class Engine:
    """A running dockerd."""

    socket: Path
    process: subprocess.Popen[bytes]
    run: Path
    """Where its containerd has its sockets: a path of more than about 90 characters is too long for them."""
    bridge: str | None = None

    @property
    def host(self) -> str:
        return f"unix://{self.socket}"

    def docker(self, *argv: str, stdin: bytes = b"", check: bool = True) -> str:
        done = subprocess.run(
            ["docker", *argv],
            input=stdin,
            env={**os.environ, "DOCKER_HOST": self.host},
            capture_output=True,
            check=False,
        )
        assert not check or done.returncode == 0, (argv, done.stderr.decode())
        return done.stdout.decode()


def start(folder: Path, *options: str, bridge: bool = False) -> Engine:
    """Start an engine that shares nothing with the machine's own, without a network.

    BuildKit wants a bridge for its RUN steps: with ``bridge`` there is one of the engine's own, which leads nowhere.
    """
    network = _bridge() if bridge else None
    socket = folder / "docker.sock"
    # The same one for an engine that is started again: it finds its containers there.
    run = Path(tempfile.gettempdir(), "dockerd-" + hashlib.sha256(os.fsencode(folder)).hexdigest()[:12])
    run.mkdir(mode=0o700, exist_ok=True)
    log = (folder / "dockerd.log").open("wb")
    process = subprocess.Popen(
        [
            find_program("dockerd") or "dockerd",
            *("--data-root", str(folder / "data"), "--exec-root", str(run)),
            *("--host", f"unix://{socket}", "--pidfile", str(folder / "pid")),
            *("--bridge", network or "none", "--ip-masq=false", "--iptables=false"),
            *("--ip6tables=false", "--ip-forward=false"),
            *options,
        ],
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    log.close()
    engine = Engine(socket, process, run, network)

    def answers() -> bool:
        assert process.poll() is None, (folder / "dockerd.log").read_text()[-3000:]
        return bool(engine.docker("version", "--format", "{{.Server.Version}}", check=False).strip())

    try:
        until(answers, "dockerd")
    except BaseException:
        stop(engine)
        raise
    return engine


def stop(engine: Engine) -> None:
    """The engine has ended, with its containers."""
    for container in engine.docker("ps", "--all", "--quiet", check=False).split():
        engine.docker("rm", "--force", "--volumes", container, check=False)
    engine.process.terminate()
    try:
        engine.process.wait(60)
    finally:
        if engine.bridge is not None:
            subprocess.run(["ip", "link", "delete", engine.bridge], check=True)
        until(lambda: _is_removed(engine.run), "the engine's folder to be gone")
    # One that was to keep its containers going leaves its folder mounted onto itself.
    unmount = ["umount", str(engine.socket.parent / "data")]
    while subprocess.run(unmount, capture_output=True, check=False).returncode == 0:
        pass


def _is_removed(folder: Path) -> bool:
    # What the engine has started may still be leaving.
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def _bridge() -> str:
    """An address that no other engine of this computer's tests has, and no sandbox (those are in 10.213)."""
    number = secrets.randbelow(1 << 12)
    name = f"rct-b{number:x}"
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    address = f"10.{224 + (number >> 8)}.{number & 255}.1/24"
    subprocess.run(["ip", "address", "add", address, "dev", name], check=True)
    subprocess.run(["ip", "link", "set", name, "up"], check=True)
    return name


def libraries(program: str) -> list[str]:
    """The shared objects that a program needs."""
    done = subprocess.run(["ldd", program], capture_output=True, text=True, check=True)
    return [word for line in done.stdout.splitlines() for word in line.split() if word.startswith("/")]


def python_image(engine: Engine, name: str) -> None:
    """An image with this machine's Python, a shell and env."""
    binary = str(Path(PYTHON).resolve())
    version = Path(binary).name
    programs = [binary, str(Path("/bin/sh").resolve()), "/usr/bin/env", "/bin/sleep"]
    library = Path("/usr/lib") / version
    modules = [str(p) for p in (library / "lib-dynload").glob("*.so")]
    needed = {item for program in [*programs, *modules] for item in libraries(program)}
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", dereference=True) as archive:
        for path in sorted({*programs, *needed}):
            archive.add(path, path.lstrip("/"))
        for link, target in (("usr/bin/python3", version), ("bin/sh", str(Path("/bin/sh").resolve()))):
            if link not in archive.getnames():
                entry = tarfile.TarInfo(link)
                entry.type, entry.linkname = tarfile.SYMTYPE, target
                archive.addfile(entry)
        archive.add(
            library, str(library).lstrip("/"), filter=lambda e: None if Path(e.name).name in LEFT_OUT else e
        )
        tmp = tarfile.TarInfo("tmp")
        tmp.type, tmp.mode = tarfile.DIRTYPE, 0o1777
        archive.addfile(tmp)
    engine.docker("import", "--change", "ENV PATH=/usr/bin:/bin", "-", name, stdin=sink.getvalue())


def derived(engine: Engine, base: str, name: str, lines: Sequence[str], files: dict[str, str]) -> None:
    """An image built on another one."""
    context = io.BytesIO()
    dockerfile = "\n".join([f"FROM {base}", *lines, ""])
    with tarfile.open(fileobj=context, mode="w") as archive:
        for path, text in {"Dockerfile": dockerfile, **files}.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(text.encode()), 0o755
            archive.addfile(entry, io.BytesIO(text.encode()))
    env = {**os.environ, "DOCKER_HOST": engine.host, "DOCKER_BUILDKIT": "0"}
    subprocess.run(
        ["docker", "build", "--tag", name, "-"],
        input=context.getvalue(),
        env=env,
        capture_output=True,
        check=True,
    )


def in_image(name: str = BASE, **more: str) -> dict[str, str]:
    """The container of a run's request: one of this image."""
    return {"image": name, **more}
