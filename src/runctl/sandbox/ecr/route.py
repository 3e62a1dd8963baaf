"""What a request to a registry is about, and which right ECR asks for it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

_PATH = re.compile(
    r"/v2/(?P<repository>[a-z0-9._/-]+)/"
    r"(?P<kind>blobs/uploads|blobs|manifests|tags)/(?P<reference>[^/]*)"
)
_ACTIONS = {
    ("manifests", "GET"): "BatchGetImage",
    ("manifests", "HEAD"): "BatchGetImage",
    ("manifests", "PUT"): "PutImage",
    ("manifests", "DELETE"): "BatchDeleteImage",
    ("blobs", "GET"): "GetDownloadUrlForLayer",
    ("blobs", "HEAD"): "BatchCheckLayerAvailability",
    ("blobs/uploads", "POST"): "InitiateLayerUpload",
    ("blobs/uploads", "GET"): "UploadLayerPart",
    ("blobs/uploads", "PATCH"): "UploadLayerPart",
    ("blobs/uploads", "PUT"): "CompleteLayerUpload",
    ("blobs/uploads", "DELETE"): "UploadLayerPart",
    ("tags", "GET"): "ListImages",
}


@dataclass(frozen=True)
class Route:
    """One request to one repository."""

    repository: str
    kind: str
    """``manifests``, ``blobs``, ``blobs/uploads`` or ``tags``."""
    reference: str
    """A tag, a digest, an upload's id, or the word ``list``."""
    action: str
    """Of ECR's API, without its ``ecr:``."""

    @property
    def digest(self) -> str | None:
        """Where the reference is one."""
        return self.reference if ":" in self.reference else None

    @property
    def tag(self) -> str | None:
        """Where the reference is one."""
        return None if ":" in self.reference else self.reference


def route(method: str, path: str) -> Route | None:
    """Where a request goes; ``None`` when a registry has nothing there."""
    match = _PATH.fullmatch(unquote(path))
    if match is None:
        return None
    kind, reference = match["kind"], match["reference"]
    action = _ACTIONS.get((kind, method))
    if action is None or (kind == "tags" and reference != "list") or (not reference and method != "POST"):
        return None
    return Route(match["repository"], kind, reference, action)
