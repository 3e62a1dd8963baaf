"""What ECR makes of a manifest."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from runctl.sandbox.ecr import manifest as ecr_manifest
from runctl.sandbox.ecr.manifest import DOCKER_IMAGE, DOCKER_LIST, OCI_IMAGE, OCI_INDEX, BadManifest

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CACHE = "application/vnd.buildkit.cacheconfig.v0"


def image(
    media_type: str | None = OCI_IMAGE, config: str = "application/vnd.oci.image.config.v1+json"
) -> bytes:
    parameters: dict[str, Any] = {
        "schemaVersion": 2,
        "config": {"mediaType": config, "size": 10, "digest": "sha256:c"},
        "layers": [
            {"mediaType": LAYER, "size": 100, "digest": "sha256:a"},
            {"mediaType": LAYER, "size": 200, "digest": "sha256:b"},
        ],
    }
    return json.dumps(parameters if media_type is None else {**parameters, "mediaType": media_type}).encode()


def listing(media_type: str, entry_type: str) -> bytes:
    entry = {"mediaType": entry_type, "size": 1, "digest": "sha256:e"}
    return json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": [entry]}).encode()


@pytest.mark.parametrize("media_type", [DOCKER_IMAGE, OCI_IMAGE])
def test_an_image_has_its_blobs_and_their_size(media_type: str) -> None:
    manifest = ecr_manifest.read(image(media_type), None)

    assert manifest.media_type == media_type
    assert manifest.blobs == ("sha256:c", "sha256:a", "sha256:b")
    assert manifest.blob_bytes == 310
    assert manifest.digest == "sha256:" + hashlib.sha256(manifest.body).hexdigest()


def test_the_requests_type_counts_where_the_manifest_says_none() -> None:
    assert ecr_manifest.read(image(None), f"{OCI_IMAGE}; charset=utf-8").media_type == OCI_IMAGE


@pytest.mark.parametrize(("media_type", "entry"), [(DOCKER_LIST, DOCKER_IMAGE), (OCI_INDEX, OCI_IMAGE)])
def test_a_list_names_images(media_type: str, entry: str) -> None:
    manifest = ecr_manifest.read(listing(media_type, entry), None)

    assert manifest.is_list
    assert manifest.images == ("sha256:e",)


def test_a_build_cache_that_is_an_image_is_taken() -> None:
    assert ecr_manifest.read(image(config=CACHE), None).artifact_type == CACHE


def test_a_build_cache_that_is_a_list_of_layers_is_refused() -> None:
    with pytest.raises(BadManifest, match=r"tar\+gzip"):
        ecr_manifest.read(listing(OCI_INDEX, LAYER), None)


def test_a_layer_that_its_publisher_keeps_is_not_asked_for() -> None:
    text = json.loads(image())
    text["layers"][0]["urls"] = ["https://example.com/layer"]

    assert ecr_manifest.read(json.dumps(text).encode(), None).blobs == ("sha256:c", "sha256:b")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "JSON"),
        (b"[]", "JSON"),
        (b"{}", "Unsupported"),
        (image("text/plain"), "text/plain"),
        (json.dumps({"mediaType": OCI_IMAGE}).encode(), "not a valid"),
        (json.dumps({"mediaType": OCI_IMAGE, "config": 1, "layers": []}).encode(), "not a valid"),
        (json.dumps({"mediaType": OCI_INDEX, "manifests": 1}).encode(), "not a valid"),
        (b" " * (ecr_manifest.MOST_BYTES + 1), "larger"),
    ],
)
def test_what_is_no_manifest_is_refused(body: bytes, text: str) -> None:
    with pytest.raises(BadManifest, match=text):
        ecr_manifest.read(body, None)
