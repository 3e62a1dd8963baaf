"""Root file systems for base images: Debian with its Python by debootstrap, and Debian's static busybox.

Each function packs one into a layer. Packages come from the archive that this computer's apt uses, checked by its
keys; this computer's own apt state is not touched.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from runctl.core.errors import MachineError, Unsupported
from runctl.core.progress import Progress

SUITE = "bookworm"
"""The Debian release whose Python is 3.11."""

PACKAGES = ("ca-certificates", "python3", "python3-pip", "python3-venv")
IMAGE_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
"""Where the Python image has the certificates that this computer trusts."""

_HOST_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)
_UNUSED = (
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/lintian",
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log",
    "usr/lib/python3.11/EXTERNALLY-MANAGED",
)


@dataclass(frozen=True)
class Layer:
    """A packed root file system."""

    diff_id: str
    """Digest of the tar before compression."""
    size: int
    """Of the compressed file, in bytes."""


def host_bundle() -> Path | None:
    """The certificates that this computer trusts, so that a container reaches what this computer reaches."""
    named = os.environ.get("SSL_CERT_FILE")
    return next((Path(p) for p in (named, *_HOST_BUNDLES) if p and Path(p).is_file()), None)


def debian_mirror(suite: str = SUITE, sources: Path = Path("/etc/apt")) -> str | None:
    """The archive that this computer's apt uses for ``suite``; ``None`` when it names none."""
    for path in [sources / "sources.list", *sorted((sources / "sources.list.d").glob("*"))]:
        try:
            text = path.read_text()
        except OSError:
            continue
        found = _deb822_mirror(text, suite) if path.suffix == ".sources" else _mirror_of_list(text, suite)
        if found and path.suffix in {".sources", ".list"}:
            return found
    return None


def _mirror_of_list(text: str, suite: str) -> str | None:
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+(.*)", line)
        if match and match[2] == suite and "main" in match[3].split():
            return match[1]
    return None


def _deb822_mirror(text: str, suite: str) -> str | None:
    for paragraph in re.split(r"\n\s*\n", text):
        fields = {
            key.strip().lower(): value.split()
            for key, colon, value in (
                line.partition(":") for line in paragraph.splitlines() if not line.startswith("#")
            )
            if colon
        }
        wanted = "deb" in fields.get("types", ()) and suite in fields.get("suites", ())
        if wanted and "main" in fields.get("components", ()) and fields.get("enabled") != ["no"]:
            return next((uri for uri in fields.get("uris", ()) if "://" in uri), None)
    return None


def python_layer(
    work: Path,
    layer: Path,
    description: str,
    report: Progress,
    packages: tuple[str, ...] = PACKAGES,
    files: Mapping[str, str] | None = None,
) -> Layer:
    """Pack Debian with Python, pip and venv, slimmed, into ``layer``; ``work`` is an empty folder for the building.

    ``files`` are programs that come with it, by their paths.

    Raises `Unsupported` without root or debootstrap, `MachineError` with its last words when it fails.
    """
    if os.geteuid() != 0:
        raise Unsupported("building the Python base image needs root: debootstrap makes device files")
    _need("debootstrap", "unshare", "tar", "chroot")
    root = work / "root"
    bundle = host_bundle()
    mirror = debian_mirror()
    # In a mount namespace of its own: what it mounts below the root goes with it, however it ends.
    command = ["unshare", "--mount", "--propagation", "private", "debootstrap"]
    command += ["--variant=minbase", f"--include={','.join(packages)}", SUITE, str(root)]
    _run(
        [*command, mirror] if mirror else command,
        # Nothing here has to survive a power cut: dpkg need not wait for the disk after each file.
        {"DPKG_FORCE": "unsafe-io"},
        name="debootstrap",
        seen=lambda line: report.update(line.removeprefix("I: ")) if line.startswith("I: ") else None,
    )
    for name in _UNUSED:
        path = root / name
        if path.is_dir():
            shutil.rmtree(path)
            path.mkdir()
        else:
            path.unlink(missing_ok=True)
    (root / "var/cache/apt/archives/partial").mkdir(parents=True)
    (root / "var/lib/apt/lists/partial").mkdir()
    (root / "var/log/apt").mkdir()
    if bundle is not None:
        (root / IMAGE_BUNDLE.lstrip("/")).write_bytes(bundle.read_bytes())
    local = root / "usr/local/bin"
    for name, target in {"python": "python3", "python3": "/usr/bin/python3", "pip": "/usr/bin/pip3"}.items():
        (local / name).symlink_to(target)
    for key in root.glob("etc/ssh/ssh_host_*"):
        # Of the package's installation: whatever runs the image makes its own.
        key.unlink()
    for inside, text in (files or {}).items():
        program = root / inside.lstrip("/")
        program.write_text(text)
        program.chmod(0o755)
    # Debian's pip installs below /usr/local by itself; its programs are then on PATH as in Docker's image.
    release = root / "usr/lib/os-release"
    release.write_text(release.read_text() + f'VARIANT="{description}"\nVARIANT_ID=stand-in\n')
    report.update("packing it")
    return _pack_folder(root, layer)


def _pack_folder(root: Path, layer: Path) -> Layer:
    command = ["tar", "-C", str(root), "--numeric-owner", "--sort=name", "--exclude=./dev/*", "-c", "."]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as tar:
        if tar.stdout is None:
            raise AssertionError
        result = _compress(iter(lambda: tar.stdout.read(1 << 20), b""), layer)  # type: ignore[union-attr]
    if tar.returncode != 0:
        raise MachineError(f"tar ended with {tar.returncode} while packing the image")
    return result


def _compress(chunks: Iterable[bytes], layer: Path) -> Layer:
    """Write a gzip file."""
    compressor = zlib.compressobj(level=1, wbits=31)
    digest = hashlib.sha256()
    with layer.open("wb") as out:
        for chunk in chunks:
            digest.update(chunk)
            out.write(compressor.compress(chunk))
        out.write(compressor.flush())
    return Layer(f"sha256:{digest.hexdigest()}", layer.stat().st_size)


def busybox_layer(work: Path, layer: Path, description: str) -> Layer:
    """Pack a static busybox with all its commands into ``layer``.

    Raises `Unsupported` without Debian's tools, `MachineError` when the package cannot be fetched.
    """
    binary = _busybox(work)
    applets = subprocess.run([binary, "--list"], capture_output=True, text=True, check=True).stdout.split()
    tar_path = work / "busybox.tar"
    with tarfile.open(tar_path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, mode in _BUSYBOX_FOLDERS.items():
            _add(tar, name, tarfile.DIRTYPE, mode)
        _add(tar, "bin/busybox", tarfile.REGTYPE, 0o755, data=binary.read_bytes())
        for applet in sorted(set(applets) - {"busybox"}):
            _add(tar, f"bin/{applet}", tarfile.SYMTYPE, 0o777, link="busybox")
        release = f'ID=busybox\nNAME=busybox\nPRETTY_NAME="busybox"\nVARIANT="{description}"\n'
        for name, text in {**_BUSYBOX_FILES, "etc/os-release": release}.items():
            _add(tar, name, tarfile.REGTYPE, 0o644, data=text.encode())
    with tar_path.open("rb") as content:
        return _compress(iter(lambda: content.read(1 << 20), b""), layer)


_BUSYBOX_FOLDERS = {
    **dict.fromkeys(("bin", "dev", "etc", "home", "proc", "sys", "usr", "usr/bin", "var"), 0o755),
    "root": 0o700,
    "tmp": 0o1777,
}
_BUSYBOX_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
}


def _add(
    tar: tarfile.TarFile, name: str, kind: bytes, mode: int, *, data: bytes = b"", link: str = ""
) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size, entry.linkname = kind, mode, len(data), link
    tar.addfile(entry, io.BytesIO(data))


def _busybox(work: Path) -> Path:
    """A static busybox: this computer's own, else out of Debian's package."""
    installed = shutil.which("busybox")
    if installed and b"/ld-" not in Path(installed).read_bytes()[:4096]:
        return Path(installed)
    _need("apt-get", "dpkg-deb")
    package = _download("busybox-static", work)
    _run(["dpkg-deb", "-x", str(package), str(work / "busybox")])
    return work / "busybox" / "bin" / "busybox"


def _download(package: str, work: Path) -> Path:
    """Fetch a package as apt does, its signature checked; this computer's apt state is not touched."""
    folder = work / "debs"
    folder.mkdir()
    try:
        _run(["apt-get", "download", package], cwd=folder)
    except MachineError:
        # No package lists here, as in a fresh container: fetch them into a place of our own.
        state = work / "apt"
        (state / "lists/partial").mkdir(parents=True)
        (state / "cache/archives/partial").mkdir(parents=True)
        own = ["-o", f"Dir::State::lists={state / 'lists'}", "-o", f"Dir::Cache={state / 'cache'}"]
        _run(["apt-get", *own, "-o", "APT::Sandbox::User=", "update"], cwd=folder)
        _run(["apt-get", *own, "-o", "APT::Sandbox::User=", "download", package], cwd=folder)
    return next(folder.glob("*.deb"))


def _need(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise Unsupported(
            f"the sandbox cannot build its base images without {' and '.join(missing)}",
            hint=f"apt-get install {' '.join(missing)}",
        )


def _run(
    command: list[str],
    env: dict[str, str] | None = None,
    *,
    name: str = "",
    cwd: Path | None = None,
    seen: Callable[[str], None] = lambda _line: None,
) -> None:
    """Run to the end; each line goes to ``seen``. Raises `MachineError` with the last lines on failure."""
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C", **(env or {})},
        ) as process:
            last = _read(process.stdout, seen)
        if process.returncode != 0:
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines() or last
            raise MachineError(
                f"{name or command[0]} ended with {process.returncode}: {' / '.join(said[-3:]) or 'no output'}"
            )


def _read(stream: IO[bytes] | None, seen: Callable[[str], None]) -> list[str]:
    last: list[str] = []
    for raw in stream or ():
        line = raw.decode(errors="replace").rstrip()
        seen(line)
        last = [*last[-2:], line]
    return last
