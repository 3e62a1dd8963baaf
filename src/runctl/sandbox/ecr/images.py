"""What the repositories of one region hold, and the rules by which images come and go.

The bytes are in a real registry; the API and the registry's address both answer from here, so that they always agree.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import UTC, datetime

from moto.core.exceptions import ServiceException
from moto.ecr.exceptions import ImageNotFoundException, InvalidParameterException
from moto.ecr.models import ECRBackend, Image, Repository

from runctl.core.errors import RunctlError
from runctl.sandbox.api import rights
from runctl.sandbox.ecr import lifecycle as ecr_lifecycle
from runctl.sandbox.ecr import manifest as ecr_manifest
from runctl.sandbox.ecr.manifest import BadManifest, Manifest
from runctl.sandbox.ecr.registry import Registry
from runctl.sandbox.ecr.tokens import Tokens
from runctl.sandbox.world import current


class EcrError(ServiceException):
    """A refusal with AWS's code."""


class StoredImage(Image):
    """An image that the registry has."""

    def __init__(self, repository: Repository, manifest: Manifest) -> None:
        super().__init__(
            repository.account_id,
            "",
            manifest.body.decode(),
            repository.name,
            manifest.media_type,
            manifest.digest,
        )
        self.image_tags.clear()
        self.manifest = manifest
        self.pushed = datetime.now(UTC)
        self.pulled: datetime | None = None
        self.size = manifest.blob_bytes
        """Of what an engine would pull, in bytes; of a list, the largest of its images."""


class RepositoryImages(ECRBackend):
    """The images of one region. `lock` guards them."""

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self.lock = threading.RLock()
        self.logins: Tokens[str] = Tokens()
        """Passwords of the registry; each stands for the access key that asked for it."""
        self.links: Tokens[tuple[str, str]] = Tokens()
        """To layers, by repository and digest."""
        self.previews: dict[str, str] = {}
        """By repository, the policy that a lifecycle preview was asked for."""
        self._starting = threading.Lock()
        self._registry: Registry | None = None

    @property
    def registry(self) -> Registry:
        """Where the bytes are; it runs from the first look on. Raises `EcrError` when it cannot."""
        with self._starting:
            if self._registry is None:
                registry = Registry(current().layout.ecr / self.region_name)
                try:
                    registry.start()
                except RunctlError as error:
                    raise EcrError(
                        "ServerException", f"the sandbox's ECR has no registry: {error}"
                    ) from error
                self._registry = registry
            return self._registry

    def repository(self, name: str, registry_id: str | None = None) -> Repository:
        """Raises moto's ``RepositoryNotFoundException``."""
        return self._get_repository(name, registry_id)

    def find(self, name: str, *, tag: str | None = None, digest: str | None = None) -> StoredImage:
        """The image by tag, by digest, or by both. Raises as `repository` does, and `ImageNotFoundException`."""
        with self.lock:
            for image in images_of(self.repository(name)):
                if (tag is None or tag in image.image_tags) and digest in {None, image.manifest.digest}:
                    return image
            named = f"{{imageDigest:'{digest or 'null'}', imageTag:'{tag or 'null'}'}}"
            raise ImageNotFoundException(named, name, self.account_id)

    def check(self, holder: str, action: str, name: str) -> None:
        """Check that the token's access key may do this. Raises `EcrError`."""
        who = rights.caller(holder)
        resource = f"arn:aws:ecr:{self.region_name}:{self.account_id}:repository/{name}"
        refusal = who and who.refusal([rights.Need(f"ecr:{action}", resource)])
        if refusal:
            raise EcrError("AccessDeniedException", refusal)

    def note_pull(self, image: StoredImage) -> None:
        """Note that it was pulled now."""
        with self.lock:
            image.pulled = datetime.now(UTC)

    def push(self, name: str, tag: str | None, body: bytes, media_type: str | None) -> StoredImage:
        """The registry has the manifest, and the tag names it. Raises `ServiceException` as ECR refuses."""
        repository = self.repository(name)
        try:
            manifest = ecr_manifest.read(body, media_type)
        except BadManifest as error:
            raise InvalidParameterException(
                f"Invalid parameter at 'ImageManifest' failed to satisfy constraint: '{error}'"
            ) from error
        self._refuse_missing_layers(name, manifest)
        with self.lock:
            sizes = self._sizes_of(repository, manifest.images)
            holder = next((image for image in images_of(repository) if tag in image.image_tags), None)
            if holder is not None and repository.is_tag_immutable():
                raise EcrError(
                    "ImageTagAlreadyExistsException",
                    f"The image tag '{tag}' already exists in the '{name}' repository and cannot be overwritten"
                    " because the tag is immutable.",
                )
            known = [image for image in images_of(repository) if image.manifest.digest == manifest.digest]
            if known:
                image = known[0]
            else:
                self._keep(name, manifest)
                image = StoredImage(repository, manifest)
                image.size = max([image.size, *sizes])
                repository.images.append(image)
            if tag is not None:
                if holder is not None:
                    # The image that had it stays, without a tag if this was its last.
                    holder.image_tags.remove(tag)
                image.image_tags.append(tag)
        return image

    def remove(self, name: str, *, tag: str | None, digest: str | None) -> list[tuple[str, str | None]]:
        """As BatchDeleteImage: by tag, the tag is gone, with its last tag the image; by digest, the image.

        What is gone, as digests and tags. Raises as `find` does, and `EcrError` for one that a list names.
        """
        with self.lock:
            repository = self.repository(name)
            image = self.find(name, tag=tag, digest=digest)
            whole = digest is not None or image.image_tags == [tag]
            gone: list[str | None] = [*image.image_tags] if whole else [tag]
            if whole:
                lists = [other.manifest.digest for other in _lists_naming(repository, image)]
                if lists:
                    raise EcrError(
                        "ImageReferencedByManifestList",
                        f"Requested image referenced by manifest list: [{', '.join(lists)}]",
                    )
                self.registry.delete_manifest(name, image.manifest.digest)
                repository.images.remove(image)
            else:
                image.image_tags = [other for other in image.image_tags if other != tag]
        return [(image.manifest.digest, gone_tag) for gone_tag in gone or [None]]

    def expiring(self, name: str, policy: str, now: datetime) -> list[tuple[StoredImage, int]]:
        """What that policy would take away now, with the priority of the rule."""
        with self.lock:
            repository = self.repository(name)
            images = {image.manifest.digest: image for image in images_of(repository)}
            candidates = [
                ecr_lifecycle.Candidate(
                    digest, tuple(image.image_tags), image.pushed, bool(_lists_naming(repository, image))
                )
                for digest, image in images.items()
            ]
            found = ecr_lifecycle.expired(policy, candidates, now)
            return [(images[candidate.digest], priority) for candidate, priority in found]

    def expire(self, now: datetime) -> list[str]:
        """AWS's daily round: remove what the repositories' policies expire; names with digests."""
        gone = []
        with self.lock:
            for repository in list(self.repositories.values()):
                if repository.lifecycle_policy is None:
                    continue
                for image, _ in self.expiring(repository.name, repository.lifecycle_policy, now):
                    self.remove(repository.name, tag=None, digest=image.manifest.digest)
                    gone.append(f"{repository.name}@{image.manifest.digest}")
        return gone

    def _refuse_missing_layers(self, name: str, manifest: Manifest) -> None:
        if not manifest.blobs:
            return
        registry = self.registry
        absent = [digest for digest in manifest.blobs if registry.blob_size(name, digest) is None]
        if absent:
            raise EcrError(
                "LayersNotFoundException",
                f"Layers with digests '[{', '.join(absent)}]' required for pushing image into repository with name"
                f" '{name}' in the registry with id '{self.account_id}' do not exist",
            )

    def _sizes_of(self, repository: Repository, digests: Iterable[str]) -> list[int]:
        known = {image.manifest.digest: image.size for image in images_of(repository)}
        absent = [digest for digest in digests if digest not in known]
        if absent:
            raise EcrError(
                "ReferencedImagesNotFoundException",
                f"Images with digests '[{', '.join(absent)}]' required for pushing image into repository with name"
                f" '{repository.name}' in the registry with id '{self.account_id}' do not exist",
            )
        return [known[digest] for digest in digests]

    def _keep(self, name: str, manifest: Manifest) -> None:
        try:
            self.registry.push_manifest(name, (manifest.digest,), manifest.body, manifest.media_type)
        except RunctlError as error:
            raise InvalidParameterException(
                f"Invalid parameter at 'ImageManifest' failed to satisfy constraint: '{error}'"
            ) from error


def images_of(repository: Repository) -> list[StoredImage]:
    """What the repository holds, as they came."""
    return [image for image in repository.images if isinstance(image, StoredImage)]


def _lists_naming(repository: Repository, image: StoredImage) -> list[StoredImage]:
    return [other for other in images_of(repository) if image.manifest.digest in other.manifest.images]
