"""The images that are there of a project: in this computer's engine and in the registry, listed and removed."""

from __future__ import annotations

from collections.abc import Sequence

from runctl.containers.client import find_client
from runctl.containers.image_inputs import repository_name
from runctl.containers.stored_images import (
    RunDocker,
    StoredImage,
    Where,
    engine_images,
    remove_from_engine,
)
from runctl.core.errors import MachineError, Unsupported
from runctl.core.text import counted
from runctl.machines.session import Session
from runctl.providers.registry import registry_owner, usual_registry
from runctl.runs.images.build import image_registry
from runctl.runs.images.kept_in_registry import images_to_go_on_in


def stored_images(session: Session, project: str | None, registry: str | None) -> tuple[StoredImage, ...]:
    """Those of ``project`` (``None``: of all), newest first: what the engine here has, and the provider's registry.

    What is not looked at is said. Raises `Unsupported` or `MachineError` where neither can be asked.
    """
    owner, usual = registry_owner(registry), usual_registry()
    found: list[StoredImage] = []
    try:
        client = find_client(f"look elsewhere: --registry {usual}, or --instance INSTANCE")
        found += engine_images(client.run, project)
    except (Unsupported, MachineError) as error:
        if owner is None:
            raise
        session.progress.warn(f"images of this computer are not shown: {error.message}")
    if owner is not None:
        found += _registry_images(session, owner, project)
    elif registry is None:
        session.progress.note(f"checking this computer's engine only; --registry {usual} looks there, too")
    else:
        session.progress.note(
            f"what {registry} has is not shown: runctl lists the provider's own registry only"
        )
    return tuple(sorted(found, key=lambda image: image.created_at, reverse=True))


def needed_images(session: Session) -> frozenset[str]:
    """The digests, and the tags, of the images that runs of this computer go on in: a further attempt pulls the same.

    Raises `StateError` where nobody can tell.
    """
    return images_to_go_on_in(session.database)


def _registry_images(session: Session, owner: str, project: str | None) -> list[StoredImage]:
    registry = image_registry(session, owner)
    only = None if project is None else repository_name(project)
    return [
        StoredImage(
            reference=image.uri,
            where=Where.REGISTRY,
            project=repository.project or repository.name,
            digest=image.digest,
            tags=image.tags,
            size_bytes=image.size_bytes,
            created_at=image.pushed_at,
            pulled_at=image.pulled_at,
        )
        for repository in registry.repositories()
        if only is None or repository.name == only
        for image in registry.images(repository.name)
    ]


def remove_images(
    session: Session,
    images: Sequence[StoredImage],
    docker: RunDocker | None = None,
    *,
    registry: str | None = None,
) -> tuple[list[StoredImage], list[tuple[StoredImage, str]]]:
    """Those that are gone, and those that are still there, each with the reason.

    ``docker`` is that of the machine whose images they are; ``None``: this computer's. ``registry`` is the one
    that `stored_images` was asked of.
    """
    owner = registry_owner(registry)
    gone: list[StoredImage] = []
    failed: list[tuple[StoredImage, str]] = []
    in_engine = [image for image in images if image.where is not Where.REGISTRY]
    if in_engine:
        run = docker or find_client().run
        for image in in_engine:
            why = remove_from_engine(run, image)
            if why:
                failed.append((image, why))
            else:
                gone.append(image)
    repositories: dict[str, list[StoredImage]] = {}
    for image in images:
        if image.where is Where.REGISTRY:
            repositories.setdefault(_repository_of(image), []).append(image)
    for name, in_repository in repositories.items():
        assert owner is not None  # noqa: S101 - else there are none
        session.progress.step(f"removing {counted(len(in_repository), 'image')} of {name}")
        digests = [image.digest for image in in_repository]
        deleted = image_registry(session, owner).delete_images(name, digests, session.progress)
        gone += [image for image in in_repository if image.digest in deleted]
    return gone, failed


def _repository_of(image: StoredImage) -> str:
    """The name without the host, the tag and the digest."""
    path = image.reference.partition("/")[2].partition("@")[0]
    return path.rpartition(":")[0] or path
