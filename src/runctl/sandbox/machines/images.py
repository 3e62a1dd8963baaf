"""Stand-ins for the base images that a Dockerfile starts from, built on this computer, kept, and pushed.

Docker Hub is not needed: ``python:3.11-slim`` is bootstrapped from Debian's archive, ``busybox`` is Debian's
static busybox. Both say in ``/etc/os-release`` and in a label that they are stand-ins. Built once per
computer and recipe, below the user's cache directory.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from runctl.core.progress import SILENT, Progress
from runctl.sandbox.ecr.registry import CONFIG_TYPE, LAYER_TYPE, MANIFEST_TYPE, Blob, Registry
from runctl.sandbox.machines.base_layers import (
    IMAGE_BUNDLE,
    PACKAGES,
    SUITE,
    Layer,
    busybox_layer,
    host_bundle,
    python_layer,
)

LABEL = "dev.runctl.stand-in"
"""Image label that says what the image stands in for, and how it was made."""

_RECIPE = 1
"""Raised when what the functions below put into an image changes."""


@dataclass(frozen=True)
class Recipe:
    """One image that the sandbox can make."""

    repository: str
    """As on Docker Hub: ``library/python``."""
    tags: tuple[str, ...]
    description: str
    """What it really is; becomes the image's label."""


PYTHON = Recipe(
    "library/python",
    ("3.11-slim", "3.11-slim-bookworm", "3.11"),
    f"stand-in for python:3.11-slim: Debian {SUITE} by debootstrap with Debian's own Python, not Docker's image",
)
BUSYBOX = Recipe(
    "library/busybox",
    ("latest", "stable"),
    "stand-in for busybox:latest: Debian's busybox-static, not Docker's image",
)
POD = Recipe(
    "runpod/pytorch",
    ("1.0.2-cu1281-torch280-ubuntu2404", "latest"),
    f"stand-in for RunPod's images: Debian {SUITE} with Python and sshd, without PyTorch and CUDA",
)
"""Starts what RunPod's own images start. Built when the first pod needs it."""
RECIPES = (BUSYBOX, PYTHON)
"""What every sandbox with Docker has."""
POD_PACKAGES = (*PACKAGES, "openssh-server")
POD_START = """\
#!/bin/sh
# In the order of RunPod's own images: what was put in to run before, sshd where there is a key, what is to run after.
[ ! -x /pre_start.sh ] || /pre_start.sh
if [ -n "$PUBLIC_KEY" ]; then
    mkdir -p -m 700 "$HOME/.ssh" /run/sshd
    printf '%s\\n' "$PUBLIC_KEY" >>"$HOME/.ssh/authorized_keys"
    chmod 600 "$HOME/.ssh/authorized_keys"
    ssh-keygen -A
    /usr/sbin/sshd
fi
[ ! -x /post_start.sh ] || /post_start.sh
exec sleep infinity
"""


@dataclass(frozen=True)
class StoredImage:
    """An image of one layer in the cache, ready to be pushed."""

    recipe: Recipe
    folder: Path

    @property
    def layer(self) -> Path:
        """The root file system, as tar.gz."""
        return self.folder / "layer.tar.gz"

    @property
    def manifest(self) -> bytes:
        """The image manifest, version 2 schema 2."""
        return (self.folder / "manifest.json").read_bytes()

    @property
    def config(self) -> bytes:
        """The image configuration."""
        return (self.folder / "config.json").read_bytes()


def store(*, report: Progress = SILENT, recipes: Iterable[Recipe] = RECIPES) -> list[StoredImage]:
    """Every image is in the cache; what was there is not built again.

    Safe to call from several programs at once: the second waits for the first. Raises `Unsupported` when this
    computer cannot build them (no root, no debootstrap, not Debian's tools), `MachineError` with the tool's
    last words when building fails; the cache then has nothing of it.
    """
    return [_stored(recipe, default_cache(), report) for recipe in recipes]


def provide(registry: Registry, *, report: Progress = SILENT, recipes: Iterable[Recipe] = RECIPES) -> None:
    """The registry has the images, so that ``FROM python:3.11-slim`` works for an engine that mirrors it.

    Raises what `store` and `Registry.push_blob` raise.
    """
    for image in store(report=report, recipes=recipes):
        push(image, registry)


def push(image: StoredImage, registry: Registry) -> None:
    """The registry has the image under each of its tags; blobs it had are not sent again."""
    manifest = image.manifest
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    repository, tags = image.recipe.repository, image.recipe.tags
    missing = tuple(tag for tag in tags if registry.has(repository, tag) != digest)
    if not missing:
        return
    document = json.loads(manifest)
    config = image.config
    registry.push_blob(
        repository, Blob(document["config"]["digest"], len(config), lambda: io.BytesIO(config))
    )
    layer = document["layers"][0]
    registry.push_blob(repository, Blob(layer["digest"], layer["size"], lambda: image.layer.open("rb")))
    registry.push_manifest(repository, missing, manifest)


def default_cache() -> Path:
    """Where images are kept between sandboxes: ``RUNCTL_IMAGE_CACHE``, else below the user's caches."""
    named = os.environ.get("RUNCTL_IMAGE_CACHE")
    return Path(named) if named else platformdirs.user_cache_path("runctl") / "images"


def _stored(recipe: Recipe, cache: Path, report: Progress) -> StoredImage:
    image = StoredImage(recipe, cache / f"{recipe.repository.rpartition('/')[2]}-{key(recipe)}")
    if image.folder.is_dir():
        return image
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / f"{image.folder.name}.lock", recipe, report):
        if not image.folder.is_dir():
            for stale in cache.glob(f"{image.folder.name}.*/"):
                # Whoever made it was killed: we have the lock.
                shutil.rmtree(stale, ignore_errors=True)
            report.step(f"building the {recipe.description.partition(':')[0]} image {_name(recipe)}, once")
            _build(recipe, image.folder, report)
    return image


def _name(recipe: Recipe) -> str:
    return f"{recipe.repository.removeprefix('library/')}:{recipe.tags[0]}"


def key(recipe: Recipe) -> str:
    """What the content follows from: another certificate bundle or architecture is another image."""
    parts = [_RECIPE, recipe.repository, recipe.tags, recipe.description, SUITE, platform.machine()]
    if recipe in {PYTHON, POD}:
        bundle = host_bundle()
        parts += [POD_PACKAGES, POD_START] if recipe is POD else [PACKAGES]
        parts += [hashlib.sha256(bundle.read_bytes()).hexdigest() if bundle else ""]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


@contextmanager
def _locked(path: Path, recipe: Recipe, report: Progress) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report.step(f"waiting for another program that builds {_name(recipe)}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(recipe: Recipe, folder: Path, report: Progress) -> None:
    work = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        ready = work / "image"
        ready.mkdir()
        if recipe is PYTHON:
            layer = python_layer(work, ready / "layer.tar.gz", recipe.description, report)
            config = _PYTHON_CONFIG
        elif recipe is POD:
            layer = python_layer(
                work,
                ready / "layer.tar.gz",
                recipe.description,
                report,
                POD_PACKAGES,
                {"/start.sh": POD_START},
            )
            config = {**_PYTHON_CONFIG, "Cmd": ["/start.sh"]}
        else:
            layer = busybox_layer(work, ready / "layer.tar.gz", recipe.description)
            config = {
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Cmd": ["sh"],
            }
        _describe(recipe, ready, layer, config)
        report.detail(f"{_name(recipe)}: {layer.size / 1e6:.0f} MB, compressed")
        ready.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


_PYTHON_CONFIG: dict[str, object] = {
    "Env": [
        "PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG=C.UTF-8",
        *(f"{name}={IMAGE_BUNDLE}" for name in ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE")),
    ],
    "Cmd": ["python3"],
}


def _describe(recipe: Recipe, folder: Path, packed: Layer, config: dict[str, object]) -> None:
    """Config and manifest beside the layer."""
    image_config = json.dumps(
        {
            "architecture": _go_architecture(),
            "os": "linux",
            "config": {**config, "Labels": {LABEL: recipe.description}},
            "rootfs": {"type": "layers", "diff_ids": [packed.diff_id]},
            "history": [{"created_by": f"runctl sandbox: {recipe.description}"}],
        }
    ).encode()
    layer = folder / "layer.tar.gz"
    with layer.open("rb") as content:
        layer_digest = hashlib.file_digest(content, "sha256").hexdigest()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {
            "mediaType": CONFIG_TYPE,
            "size": len(image_config),
            "digest": f"sha256:{hashlib.sha256(image_config).hexdigest()}",
        },
        "layers": [{"mediaType": LAYER_TYPE, "size": packed.size, "digest": f"sha256:{layer_digest}"}],
    }
    (folder / "config.json").write_bytes(image_config)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _go_architecture() -> str:
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
