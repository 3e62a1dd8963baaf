"""Images that a project has in an engine, and which of those anywhere may go."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from enum import StrEnum

from runctl._dataclasses import dataclass
from runctl.containers.failures import general_failure
from runctl.containers.image_plan import PROJECT_LABEL, UNCHECKED
from runctl.core.errors import MachineError


class Where(StrEnum):
    """Who keeps an image."""

    ENGINE = "engine"
    """This computer's."""
    INSTANCE = "instance"
    """A machine's own engine."""
    REGISTRY = "registry"


@dataclass(frozen=True)
class StoredImage:
    """One image."""

    reference: str
    where: Where
    project: str | None
    digest: str
    """The engine's id, or the digest of the registry's manifest."""
    tags: tuple[str, ...]
    size_bytes: int
    created_at: datetime
    """In a registry: when it was pushed."""
    pulled_at: datetime | None = None
    registry_digests: tuple[str, ...] = ()
    """Of an image in an engine: the digests by which registries know it, where it was pulled or pushed."""

    @property
    def is_cache(self) -> bool:
        """Whether builds on other machines take their steps from it."""
        return any("cache" in tag for tag in self.tags)

    @property
    def is_unfinished(self) -> bool:
        """Whether it is being built, or was when its command was killed: the project's next build removes it then."""
        return bool(self.tags) and all(tag.startswith(UNCHECKED) for tag in self.tags)


@dataclass(frozen=True)
class Prunable:
    """What is older than the images that stay."""

    going: tuple[StoredImage, ...]
    needed: tuple[StoredImage, ...]
    """They stay all the same: runs go on in them."""


def prunable(images: Sequence[StoredImage], keep: int, needed: Collection[str] = ()) -> Prunable:
    """What goes when the newest ``keep`` images of each project and place stay, every cache, what is being built, and
    those whose digests (an engine's own, or a registry's) or tags are ``needed``. Pure."""
    kept: dict[tuple[str | None, Where], int] = {}
    going: list[StoredImage] = []
    staying: list[StoredImage] = []
    for image in sorted(images, key=lambda stored: (stored.created_at, stored.digest), reverse=True):
        if image.is_cache or image.is_unfinished:
            continue
        group = (image.project, image.where)
        kept[group] = kept.get(group, 0) + 1
        if kept[group] > keep:
            is_needed = not {image.digest, *image.registry_digests, *image.tags}.isdisjoint(needed)
            (staying if is_needed else going).append(image)
    return Prunable(tuple(going), tuple(staying))


RunDocker = Callable[..., "subprocess.CompletedProcess[bytes]"]
"""Runs docker with these arguments, here or on a machine."""


def engine_images(
    docker: RunDocker, project: str | None, where: Where = Where.ENGINE
) -> tuple[StoredImage, ...]:
    """Those that runctl built, newest first; of one project, or of all. Raises `MachineError`."""
    label = PROJECT_LABEL if project is None else f"{PROJECT_LABEL}={project}"
    done = docker("image", "ls", "--quiet", "--no-trunc", "--filter", f"label={label}")
    if done.returncode != 0:
        raise _failed(done.stderr)
    ids = list(dict.fromkeys(done.stdout.decode().split()))
    if not ids:
        return ()
    looked = docker("image", "inspect", *ids)
    if looked.returncode != 0 and not looked.stdout.strip():
        raise _failed(looked.stderr)
    found = [
        StoredImage(
            reference=(described.get("RepoTags") or [described["Id"]])[0],
            where=where,
            project=((described.get("Config") or {}).get("Labels") or {}).get(PROJECT_LABEL),
            digest=described["Id"],
            tags=tuple(name.rpartition(":")[2] for name in described.get("RepoTags") or ()),
            size_bytes=int(described.get("Size") or 0),
            created_at=_moment(described["Created"]),
            registry_digests=tuple(
                dict.fromkeys(
                    name.partition("@")[2] for name in described.get("RepoDigests") or () if "@" in name
                )
            ),
        )
        for described in json.loads(looked.stdout)
    ]
    return tuple(sorted(found, key=lambda image: image.created_at, reverse=True))


def remove_from_engine(docker: RunDocker, image: StoredImage) -> str:
    """The image is gone, with all its names; returns what was said when docker refused, else nothing."""
    done = docker("image", "inspect", "--format", "{{json .RepoTags}}", image.digest)
    names = json.loads(done.stdout) if done.returncode == 0 else []
    removed = docker("image", "rm", *(names or [image.digest]))
    said = removed.stderr.decode(errors="replace").strip()
    return "" if removed.returncode == 0 or "no such image" in said.lower() else said.splitlines()[-1]


def _moment(text: str) -> datetime:
    """Docker's nanoseconds are more than Python reads."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text).replace("Z", "+00:00"))


def _failed(stderr: bytes) -> Exception:
    said = stderr.decode(errors="replace").strip()
    return general_failure(said) or MachineError(f"docker image failed: {said}", code="engine-failed")
