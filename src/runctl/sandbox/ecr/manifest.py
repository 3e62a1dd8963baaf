"""What a registry can tell of an image by its manifest: types, sizes, what it refers to, and whether ECR takes it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

DOCKER_IMAGE = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_IMAGE = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
IMAGES = frozenset({DOCKER_IMAGE, OCI_IMAGE})
LISTS = frozenset({DOCKER_LIST, OCI_INDEX})
MOST_BYTES = 4 << 20
"""ECR's limit for a manifest."""


class BadManifest(Exception):
    """ECR does not take it; the message says why."""


@dataclass(frozen=True)
class Manifest:
    """The manifest of an image, or of a list of images."""

    body: bytes
    media_type: str
    digest: str
    """``sha256:…`` of the body."""
    blobs: tuple[str, ...] = ()
    """Digests of its config and layers."""
    blob_bytes: int = 0
    """Their sizes together."""
    images: tuple[str, ...] = ()
    """Digests of the manifests that a list names."""
    artifact_type: str | None = None
    """What kind of thing it is: its config's media type, unless it says so itself."""

    @property
    def is_list(self) -> bool:
        """Whether it names other manifests instead of layers."""
        return self.media_type in LISTS


def read(body: bytes, media_type: str | None) -> Manifest:
    """The manifest as ECR understands it; ``media_type`` is the request's, which its own overrules.

    Raises `BadManifest` for a type that is none of Docker's schema 2 and OCI's, and for a list whose entries are no
    manifests: BuildKit's registry cache without ``image-manifest=true`` is such a one.
    """
    if len(body) > MOST_BYTES:
        raise BadManifest(f"the manifest is larger than {MOST_BYTES} bytes")
    try:
        document = json.loads(body)
        kind = str(document.get("mediaType") or (media_type or "").partition(";")[0].strip())
    except (ValueError, AttributeError):
        raise BadManifest("Invalid JSON syntax") from None
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    try:
        if kind in IMAGES:
            return _image(document, body, kind, digest)
        if kind in LISTS:
            return _list(document, body, kind, digest)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BadManifest(f"the manifest is not a valid {kind}") from None
    raise BadManifest(f'Unsupported manifest type: "{kind}"')


def _image(document: dict[str, Any], body: bytes, kind: str, digest: str) -> Manifest:
    described = [document["config"], *document["layers"]]
    # Layers that their publisher keeps elsewhere are in no registry.
    kept = [blob for blob in described if not blob.get("urls")]
    return Manifest(
        body,
        kind,
        digest,
        blobs=tuple(str(blob["digest"]) for blob in kept),
        blob_bytes=sum(int(blob["size"]) for blob in kept),
        artifact_type=document.get("artifactType") or document["config"].get("mediaType"),
    )


def _list(document: dict[str, Any], body: bytes, kind: str, digest: str) -> Manifest:
    for entry in document["manifests"]:
        if entry["mediaType"] not in IMAGES | LISTS:
            raise BadManifest(f'{entry["digest"]} in a list of images is a "{entry["mediaType"]}"')
    images = tuple(str(entry["digest"]) for entry in document["manifests"])
    return Manifest(body, kind, digest, images=images, artifact_type=document.get("artifactType"))
