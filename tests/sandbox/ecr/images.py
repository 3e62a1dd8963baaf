"""Small images, pushed to ECR's registry as docker does it, without an engine."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from runctl.sandbox.ecr.manifest import DOCKER_IMAGE, OCI_INDEX
from runctl.sandbox.ecr.registry import CONFIG_TYPE, LAYER_TYPE


@dataclass(frozen=True)
class Answer:
    """Of the registry."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def error(self) -> tuple[str, str]:
        """Code and message."""
        (error,) = json.loads(self.body)["errors"]
        return str(error["code"]), str(error["message"])


class Client:
    """Talks to the registry of one repository, with the password that it was given."""

    def __init__(self, repository_uri: str, password: str | None) -> None:
        self.host, _, self.name = repository_uri.partition("/")
        self.password = password

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request; ``path`` begins below the repository, or with a slash."""
        text = dict(headers or {})
        if self.password is not None:
            text["Authorization"] = "Basic " + base64.b64encode(f"AWS:{self.password}".encode()).decode()
        connection = http.client.HTTPConnection(self.host, timeout=20)
        try:
            whole = path if path.startswith("/") else f"/v2/{self.name}/{path}"
            connection.request(method, whole, body=body, headers=text)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def push_blob(self, content: bytes) -> str:
        """Its digest."""
        digest = digest_of(content)
        begun = self.ask("POST", "blobs/uploads/", b"")
        assert begun.status == 202, begun
        where = urlsplit(begun.headers["Location"])
        ended = self.ask("PUT", f"{where.path}?{where.query}&digest={digest}", content)
        assert ended.status == 201, ended
        return digest

    def push_image(self, tag: str, content: bytes = b"content") -> str:
        """An image of one layer; its manifest's digest."""
        config = json.dumps({"of": tag}).encode()
        for blob in (config, content):
            self.push_blob(blob)
        answer = self.put(tag, manifest(config, content))
        assert answer.status == 201, answer
        return answer.headers["Docker-Content-Digest"]

    def put(self, reference: str, body: bytes, media_type: str = DOCKER_IMAGE) -> Answer:
        """The manifest, under that tag or digest."""
        return self.ask("PUT", f"manifests/{reference}", body, {"Content-Type": media_type})


def password_of(ecr: Any) -> str:
    """What a token of the API's has for docker."""
    (row,) = ecr.get_authorization_token()["authorizationData"]
    user, _, password = base64.b64decode(row["authorizationToken"]).decode().partition(":")
    assert user == "AWS"
    return password


def digest_of(content: bytes) -> str:
    """As registries name it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def manifest(config: bytes, *layers: bytes) -> bytes:
    """Of an image."""
    text: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": DOCKER_IMAGE,
        "config": {"mediaType": CONFIG_TYPE, "size": len(config), "digest": digest_of(config)},
        "layers": [
            {"mediaType": LAYER_TYPE, "size": len(layer), "digest": digest_of(layer)} for layer in layers
        ],
    }
    return json.dumps(text).encode()


def listing(*digests: str) -> bytes:
    """A list of images."""
    entries = [{"mediaType": DOCKER_IMAGE, "size": 1, "digest": digest} for digest in digests]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
