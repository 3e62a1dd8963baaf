"""What a request to ECR's registry is about."""

from __future__ import annotations

import pytest

from runctl.sandbox.ecr.route import Route, route

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v2/a/manifests/1", Route("a", "manifests", "1", "BatchGetImage")),
        ("HEAD", "/v2/team/app/manifests/1", Route("team/app", "manifests", "1", "BatchGetImage")),
        ("PUT", "/v2/blobs/manifests/1", Route("blobs", "manifests", "1", "PutImage")),
        ("DELETE", f"/v2/a/manifests/{DIGEST}", Route("a", "manifests", DIGEST, "BatchDeleteImage")),
        ("GET", f"/v2/a/b/blobs/{DIGEST}", Route("a/b", "blobs", DIGEST, "GetDownloadUrlForLayer")),
        ("HEAD", f"/v2/a/blobs/{DIGEST}", Route("a", "blobs", DIGEST, "BatchCheckLayerAvailability")),
        ("POST", "/v2/a/blobs/uploads/", Route("a", "blobs/uploads", "", "InitiateLayerUpload")),
        ("PATCH", "/v2/a/blobs/uploads/1-2", Route("a", "blobs/uploads", "1-2", "UploadLayerPart")),
        ("PUT", "/v2/a/blobs/uploads/1-2", Route("a", "blobs/uploads", "1-2", "CompleteLayerUpload")),
        ("GET", "/v2/a/tags/list", Route("a", "tags", "list", "ListImages")),
        ("HEAD", "/v2/a/blobs/sha256%3Aab", Route("a", "blobs", "sha256:ab", "BatchCheckLayerAvailability")),
    ],
)
def test_a_request_is_about_a_repository(method: str, path: str, expected: Route) -> None:
    assert route(method, path) == expected


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/"),
        ("GET", "/"),
        ("GET", "/v2/a/manifests/"),
        ("PATCH", "/v2/a/manifests/1"),
        ("DELETE", f"/v2/a/blobs/{DIGEST}"),
        ("GET", "/v2/a/tags/other"),
        ("GET", "/v2/a/other/1"),
        ("GET", "/v2/../../manifests/1/2"),
    ],
)
def test_elsewhere_there_is_nothing(method: str, path: str) -> None:
    assert route(method, path) is None


def test_a_reference_is_a_tag_or_a_digest() -> None:
    by_tag, by_digest = route("GET", "/v2/a/manifests/v1"), route("GET", f"/v2/a/manifests/{DIGEST}")

    assert by_tag is not None and (by_tag.tag, by_tag.digest) == ("v1", None)
    assert by_digest is not None and (by_digest.tag, by_digest.digest) == (None, DIGEST)
