"""The ability to keep container images: a registry, its repositories and what is in them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import field
from datetime import datetime

from runctl._dataclasses import dataclass
from runctl.core.progress import SILENT, Progress


@dataclass(frozen=True)
class RegistryLogin:
    """A way into a registry that ends by itself."""

    host: str
    """As in an image's name, with the port where there is one."""
    username: str
    password: str = field(repr=False)
    expires_at: datetime | None = None


@dataclass(frozen=True)
class RepositoryPlan:
    """What `ImageRegistry.ensure_repository` is about to do."""

    name: str
    uri: str
    """What image names begin with: host and name."""
    exists: bool
    keep_images: int
    """How many images its lifecycle rule keeps, not counting caches."""
    will_create: tuple[str, ...] = ()
    """In words: what comes into being or changes."""


@dataclass(frozen=True)
class RegistryImage:
    """One image in a repository."""

    repository: str
    uri: str
    """With the first of its tags, else its digest."""
    digest: str
    tags: tuple[str, ...]
    size_bytes: int
    """Compressed, as it is stored."""
    pushed_at: datetime
    pulled_at: datetime | None


@dataclass(frozen=True)
class ImageRepository:
    """A repository, ours or not."""

    name: str
    uri: str
    ours: bool
    project: str | None


class ImageRegistry(ABC):
    """A registry of container images."""

    @abstractmethod
    def plan_repository(self, name: str, *, keep_images: int) -> RepositoryPlan:
        """What exists, and what `ensure_repository` would do. Creates nothing.

        Raises `Conflict` (code ``not-ours``) when it is there and was not created by runctl.
        """

    @abstractmethod
    def ensure_repository(
        self, plan: RepositoryPlan, *, project: str | None, progress: Progress = SILENT
    ) -> None:
        """The repository exists, tagged in the call that created it, with the lifecycle rule. Idempotent."""

    @abstractmethod
    def login(self) -> RegistryLogin:
        """A new token for the registry of this account and region."""

    @abstractmethod
    def owns(self, host: str) -> bool:
        """Whether `login` may be a way into the registry at this host."""

    @abstractmethod
    def repositories(self, *, everyone: bool = False) -> tuple[ImageRepository, ...]:
        """All of them by name, every page; those of runctl only, unless ``everyone``."""

    @abstractmethod
    def images(self, repository: str) -> tuple[RegistryImage, ...]:
        """What is in a repository, newest first, every page. Raises `NotFound`."""

    @abstractmethod
    def delete_images(
        self, repository: str, digests: Sequence[str], progress: Progress = SILENT
    ) -> tuple[str, ...]:
        """These are deleted; returns the digests that existed. Raises `PermissionDenied` (code ``not-ours``) for a
        repository that runctl did not create."""
