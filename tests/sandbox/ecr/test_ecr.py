"""ECR: what is pushed to its registry is what its API tells of, and nothing goes without a token."""

from __future__ import annotations

import json
import os
import secrets
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from runctl.sandbox import abilities
from runctl.sandbox.ecr.manifest import OCI_INDEX
from runctl.sandbox.fault_client import Faults
from tests.sandbox.account import Account, code_of
from tests.sandbox.ecr.images import Client, digest_of, listing, manifest, password_of

pytestmark = pytest.mark.namespaces


@pytest.fixture(scope="module")
def ecr(account: Account) -> Any:
    """The API."""
    return account.client("ecr")


@pytest.fixture(scope="module")
def password(ecr: Any) -> str:
    """Of the registry."""
    return password_of(ecr)


@pytest.fixture
def repository(ecr: Any) -> Iterator[dict[str, Any]]:
    """It is empty, and gone after the test."""
    created = ecr.create_repository(repositoryName=f"team/{secrets.token_hex(4)}")["repository"]
    yield created
    try:
        ecr.delete_repository(repositoryName=created["repositoryName"], force=True)
    except ClientError as error:
        assert code_of(error) == "RepositoryNotFoundException"


@pytest.fixture
def client(repository: dict[str, Any], password: str) -> Client:
    """Speaks with the registry."""
    return Client(repository["repositoryUri"], password)


def described(ecr: Any, client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ecr.describe_images(repositoryName=client.name)["imageDetails"]
    return found


def tags(ecr: Any, client: Client) -> dict[str, set[str]]:
    """By digest."""
    return {row["imageDigest"]: set(row.get("imageTags", ())) for row in described(ecr, client)}


def refused(call: Any, **parameters: Any) -> str:
    with pytest.raises(ClientError) as raised:
        call(**parameters)
    return code_of(raised.value)


def test_a_computer_without_the_registry_says_what_ecr_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not any("ECR" in sentence for sentence in abilities.left_out("folders", "", "off"))
    monkeypatch.setenv("PATH", str(tmp_path))

    for kind in ("folders", "namespaces"):
        assert any("docker-registry" in sentence for sentence in abilities.left_out(kind, "", "off"))


def test_the_token_is_for_the_registry_that_the_repository_is_in(
    ecr: Any, repository: dict[str, Any]
) -> None:
    (row,) = ecr.get_authorization_token()["authorizationData"]

    assert row["proxyEndpoint"] == "http://" + repository["repositoryUri"].partition("/")[0]
    assert 11.9 < (row["expiresAt"] - datetime.now(UTC)).total_seconds() / 3600 <= 12


def test_nobody_comes_in_without_a_token(repository: dict[str, Any]) -> None:
    answer = Client(repository["repositoryUri"], None).ask("GET", "/v2/")

    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")


def test_a_made_up_token_opens_nothing(repository: dict[str, Any]) -> None:
    answer = Client(repository["repositoryUri"], "made-up").ask("GET", "/v2/")

    assert answer.status == 400
    assert answer.error == ("DENIED", "Your Authorization Token is invalid.")


def test_a_token_ends(ecr: Any, repository: dict[str, Any], faults: Faults) -> None:
    faults.ecr_token_seconds(0)

    answer = Client(repository["repositoryUri"], password_of(ecr)).ask("GET", "/v2/")

    assert answer.status == 403
    assert answer.error == ("DENIED", "Your authorization token has expired. Reauthenticate and try again.")


def test_an_engine_that_tries_tls_is_told_that_there_is_none(client: Client) -> None:
    with pytest.raises(OSError, match=r"(?i)ssl|tls|wrong version|http request"):
        urllib.request.urlopen(f"https://{client.host}/v2/", timeout=5)


@pytest.mark.parametrize(("method", "path"), [("POST", "blobs/uploads/"), ("PUT", "manifests/1")])
def test_a_push_to_a_repository_that_nobody_made_is_refused(client: Client, method: str, path: str) -> None:
    answer = Client(f"{client.host}/nobodys", client.password).ask(method, path, b"")

    assert answer.status == 404
    assert answer.error == (
        "NAME_UNKNOWN",
        "The repository with name 'nobodys' does not exist in the registry with id '123456789012'",
    )


def test_a_pushed_image_is_described(ecr: Any, client: Client) -> None:
    before = datetime.now(UTC)
    digest = client.push_image("1", b"x" * 1000)

    (image,) = described(ecr, client)

    assert image["imageDigest"] == digest
    assert image["imageTags"] == ["1"]
    assert 1000 < image["imageSizeInBytes"] < 1100
    assert before.timestamp() - 1 < image["imagePushedAt"].timestamp() < before.timestamp() + 30
    assert image["imageManifestMediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
    assert "lastRecordedPullTime" not in image


def test_what_was_pushed_comes_back(ecr: Any, client: Client) -> None:
    content = os.urandom(3_000_000)
    digest = client.push_image("1", content)

    for reference in ("1", digest):
        answer = client.ask("GET", f"manifests/{reference}")
        assert (answer.status, digest_of(answer.body)) == (200, digest)
    assert client.ask("HEAD", "manifests/1").headers["Docker-Content-Digest"] == digest
    assert client.ask("GET", f"blobs/{digest_of(content)}").body == content
    assert "lastRecordedPullTime" in described(ecr, client)[0]


def test_a_part_of_a_layer_comes_alone(client: Client) -> None:
    client.push_blob(b"0123456789")

    answer = client.ask("GET", f"blobs/{digest_of(b'0123456789')}", headers={"Range": "bytes=2-4"})

    assert (answer.status, answer.body) == (206, b"234")


def test_a_layer_that_is_not_what_its_digest_says_is_refused(client: Client) -> None:
    begun = client.ask("POST", "blobs/uploads/", b"")
    where = begun.headers["Location"].partition(client.host)[2]

    answer = client.ask("PUT", f"{where}&digest={digest_of(b'other')}", b"this")

    assert answer.status == 400
    assert answer.error[0] == "DIGEST_INVALID"


def test_a_layer_is_not_taken_over_from_another_repository(ecr: Any, client: Client) -> None:
    digest = client.push_blob(b"shared")
    other = ecr.create_repository(repositoryName=f"{client.name}/other")["repository"]

    answer = Client(other["repositoryUri"], client.password).ask(
        "POST", f"blobs/uploads/?mount={digest}&from={client.name}", b""
    )
    ecr.delete_repository(repositoryName=other["repositoryName"], force=True)

    assert answer.status == 202


def test_an_image_whose_layers_were_not_pushed_is_refused(ecr: Any, client: Client) -> None:
    answer = client.put("1", manifest(b"config", b"layer"))

    assert answer.status == 400
    assert answer.error[0] == "MANIFEST_BLOB_UNKNOWN"
    assert described(ecr, client) == []


def test_a_tag_moves_and_leaves_an_image_without_one(ecr: Any, client: Client) -> None:
    first = client.push_image("1", b"one")
    second = client.push_image("1", b"two")

    assert tags(ecr, client) == {first: set(), second: {"1"}}
    (untagged,) = ecr.list_images(repositoryName=client.name, filter={"tagStatus": "UNTAGGED"})["imageIds"]
    assert untagged == {"imageDigest": first}


def test_the_registry_lists_the_same_tags(client: Client) -> None:
    client.push_image("2", b"two")
    client.push_image("1", b"one")

    assert json.loads(client.ask("GET", "tags/list").body) == {"name": client.name, "tags": ["1", "2"]}


def test_an_immutable_tag_stays(ecr: Any, client: Client) -> None:
    ecr.put_image_tag_mutability(repositoryName=client.name, imageTagMutability="IMMUTABLE")
    first = client.push_image("1", b"one")
    for blob in (b"{}", b"two"):
        client.push_blob(blob)

    answer = client.put("1", manifest(b"{}", b"two"))

    assert answer.status == 400
    assert answer.error[0] == "TAG_INVALID"
    assert tags(ecr, client) == {first: {"1"}}


def test_a_list_of_images_has_the_size_of_its_largest(ecr: Any, client: Client) -> None:
    parts = [client.push_image("small", b"x"), client.push_image("large", b"x" * 5000)]

    answer = client.put("both", listing(*parts), OCI_INDEX)

    assert answer.status == 201
    sizes = {tuple(row["imageTags"]): row["imageSizeInBytes"] for row in described(ecr, client)}
    assert sizes[("both",)] == sizes[("large",)] > 5000


def test_a_list_of_images_that_are_not_there_is_refused(client: Client) -> None:
    assert client.put("both", listing(digest_of(b"nothing")), OCI_INDEX).error[0] == "MANIFEST_BLOB_UNKNOWN"


def test_a_build_cache_that_is_a_list_of_layers_is_refused(client: Client) -> None:
    client.push_blob(b"layer")
    body = listing(digest_of(b"layer")).replace(
        b"application/vnd.docker.distribution.manifest.v2+json",
        b"application/vnd.oci.image.layer.v1.tar+gzip",
    )

    assert client.put("cache", body, OCI_INDEX).status == 400


def test_a_removed_tag_leaves_the_image_its_others(ecr: Any, client: Client) -> None:
    digest = client.push_image("1")
    client.put("2", client.ask("GET", "manifests/1").body)

    answer = ecr.batch_delete_image(repositoryName=client.name, imageIds=[{"imageTag": "1"}])

    assert answer["imageIds"] == [{"imageDigest": digest, "imageTag": "1"}]
    assert tags(ecr, client) == {digest: {"2"}}


@pytest.mark.parametrize("by", ["tag", "digest"])
def test_a_removed_image_cannot_be_pulled(ecr: Any, client: Client, by: str) -> None:
    digest = client.push_image("1")
    name = {"imageTag": "1"} if by == "tag" else {"imageDigest": digest}

    ecr.batch_delete_image(repositoryName=client.name, imageIds=[name])

    assert described(ecr, client) == []
    for reference in ("1", digest):
        answer = client.ask("GET", f"manifests/{reference}")
        assert (answer.status, answer.error[0]) == (404, "MANIFEST_UNKNOWN")


def test_docker_can_remove_an_image_too(ecr: Any, client: Client) -> None:
    digest = client.push_image("1")

    assert client.ask("DELETE", f"manifests/{digest}").status == 202
    assert described(ecr, client) == []


def test_what_cannot_be_removed_is_told(ecr: Any, client: Client) -> None:
    part = client.push_image("part")
    client.put("both", listing(part), OCI_INDEX)
    wanted = [{"imageTag": "none"}, {"imageDigest": part}, {}]

    answer = ecr.batch_delete_image(repositoryName=client.name, imageIds=wanted)

    codes = [row["failureCode"] for row in answer["failures"]]
    assert codes == ["ImageNotFound", "ImageReferencedByManifestList", "MissingDigestAndTag"]
    assert len(described(ecr, client)) == 2


def test_a_repository_goes_with_its_images_only_when_forced(ecr: Any, client: Client) -> None:
    client.push_image("1", b"layer")

    assert refused(ecr.delete_repository, repositoryName=client.name) == "RepositoryNotEmptyException"
    ecr.delete_repository(repositoryName=client.name, force=True)
    ecr.create_repository(repositoryName=client.name)

    assert described(ecr, client) == []
    assert client.ask("HEAD", f"blobs/{digest_of(b'layer')}").status == 404


def test_the_api_gives_a_tag_to_an_image_that_is_there(ecr: Any, client: Client) -> None:
    digest = client.push_image("1")
    (image,) = ecr.batch_get_image(repositoryName=client.name, imageIds=[{"imageTag": "1"}])["images"]
    parameters = {
        "repositoryName": client.name,
        "imageManifest": image["imageManifest"],
        "imageTag": "latest",
    }

    ecr.put_image(**parameters)

    assert client.ask("HEAD", "manifests/latest").headers["Docker-Content-Digest"] == digest
    assert refused(ecr.put_image, **parameters) == "ImageAlreadyExistsException"


def test_the_api_takes_a_whole_image(ecr: Any, client: Client) -> None:
    name, config, layer = client.name, b"{}", os.urandom(100_000)
    for blob in (config, layer):
        upload = ecr.initiate_layer_upload(repositoryName=name)["uploadId"]
        ecr.upload_layer_part(
            repositoryName=name,
            uploadId=upload,
            partFirstByte=0,
            partLastByte=len(blob) - 1,
            layerPartBlob=blob,
        )
        ecr.complete_layer_upload(repositoryName=name, uploadId=upload, layerDigests=[digest_of(blob)])
    ecr.put_image(repositoryName=name, imageManifest=manifest(config, layer).decode(), imageTag="1")

    rows = ecr.batch_check_layer_availability(
        repositoryName=name, layerDigests=[digest_of(layer), digest_of(b"none")]
    )
    assert [row["layerSize"] for row in rows["layers"]] == [100_000]
    assert [row["failureCode"] for row in rows["failures"]] == ["MissingLayerDigest"]
    assert client.ask("GET", f"blobs/{digest_of(layer)}").body == layer


def test_a_link_to_a_layer_opens_without_a_token(ecr: Any, client: Client) -> None:
    client.push_image("1", b"layer")
    parameters = {"repositoryName": client.name, "layerDigest": digest_of(b"layer")}

    url = ecr.get_download_url_for_layer(**parameters)["downloadUrl"]

    stranger = Client(f"{client.host}/{client.name}", None)
    path = url.partition(client.host)[2]
    assert stranger.ask("GET", path).body == b"layer"
    assert stranger.ask("GET", path.replace(digest_of(b"layer"), digest_of(b"other"))).status == 403


def test_images_come_page_by_page(ecr: Any, client: Client) -> None:
    digests = {client.push_image(str(number), bytes([number])) for number in range(5)}

    pages = list(
        ecr.get_paginator("describe_images").paginate(
            repositoryName=client.name, PaginationConfig={"PageSize": 2}
        )
    )

    assert [len(page["imageDetails"]) for page in pages] == [2, 2, 1]
    assert {row["imageDigest"] for page in pages for row in page["imageDetails"]} == digests


def test_a_lifecycle_policy_keeps_the_newest(ecr: Any, client: Client, faults: Faults) -> None:
    digests = [client.push_image(f"run-{number}", bytes([number])) for number in range(4)]
    selection = {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 2}
    rule = {"rulePriority": 1, "selection": selection, "action": {"type": "expire"}}
    ecr.put_lifecycle_policy(repositoryName=client.name, lifecyclePolicyText=json.dumps({"rules": [rule]}))

    ecr.start_lifecycle_policy_preview(repositoryName=client.name)
    preview = ecr.get_lifecycle_policy_preview(repositoryName=client.name)
    assert [row["imageDigest"] for row in preview["previewResults"]] == digests[:2]
    assert preview["summary"]["expiringImageTotalCount"] == 2
    assert len(described(ecr, client)) == 4

    faults.expire_images()

    assert {row["imageDigest"] for row in described(ecr, client)} == set(digests[2:])
    assert client.ask("GET", "manifests/run-0").status == 404
    assert client.ask("GET", "manifests/run-3").status == 200


def test_a_preview_that_nobody_asked_for_is_not_found(ecr: Any, client: Client) -> None:
    code = refused(ecr.get_lifecycle_policy_preview, repositoryName=client.name)

    assert code == "LifecyclePolicyPreviewNotFoundException"
