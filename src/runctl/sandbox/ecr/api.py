"""ECR's requests that moto has not, or not like this; `install` puts them, and what is behind them, in moto's place."""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
from datetime import UTC, datetime
from typing import Any

from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult
from moto.ecr import urls
from moto.ecr.exceptions import InvalidParameterException, LifecyclePolicyNotFoundException
from moto.ecr.models import ecr_backends
from moto.ecr.policy_validation import EcrLifecyclePolicyValidator
from moto.ecr.responses import ECRResponse

from runctl.sandbox.api import pages
from runctl.sandbox.ecr import backend as ecr
from runctl.sandbox.ecr.front import LAYERS, USER
from runctl.sandbox.ecr.images import EcrError, StoredImage, images_of
from runctl.sandbox.ecr.registry import Blob
from runctl.sandbox.world import World, current

LINK_SECONDS = 3600.0
MOST_ROWS = 1000
_FAILURES = {
    "ImageNotFoundException": ("ImageNotFound", "Requested image not found"),
    "ImageReferencedByManifestList": ("ImageReferencedByManifestList", None),
}


class SandboxEcrResponse(ECRResponse):
    """One request."""

    @property
    def ecr_backend(self) -> ecr.SandboxEcr:
        """The region's."""
        return ecr.backend(self.region)

    def get_authorization_token(self) -> ActionResult:
        """GetAuthorizationToken: a password for docker that ends."""
        backend = self.ecr_backend
        seconds = current().faults.ecr_token_seconds
        password, until = backend.logins.issue(self.get_access_key(), seconds)
        token = base64.b64encode(f"{USER}:{password}".encode()).decode()
        row = {
            "authorizationToken": token,
            "expiresAt": datetime.fromtimestamp(until, UTC),
            "proxyEndpoint": f"http://{backend.front.address}",
        }
        return ActionResult({"authorizationData": [row]})

    def describe_repositories(self) -> ActionResult:
        """DescribeRepositories."""
        found = self.ecr_backend.describe_repositories(
            repository_names=self._get_param("repositoryNames"), registry_id=self._get_param("registryId")
        )
        return self._page("repositories", found)

    def put_image(self) -> ActionResult:
        """PutImage."""
        name, tag = self._get_param("repositoryName"), self._get_param("imageTag")
        body = self._get_param("imageManifest").encode()
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if self._get_param("imageDigest") not in {None, digest}:
            raise EcrError(
                "ImageDigestDoesNotMatchException",
                "The specified image digest does not match the digest that Amazon ECR calculated for the image.",
            )
        backend = self.ecr_backend
        with backend.lock:
            known = [image for image in backend.repository(name).images if image.image_digest == digest]
            if known and (tag is None or tag in known[0].image_tags):
                raise EcrError(
                    "ImageAlreadyExistsException",
                    f"Image with digest '{digest}' and tag '{tag or 'null'}' already exists in the repository with"
                    f" name '{name}' in registry with id '{backend.account_id}'",
                )
            image = backend.push(name, tag, body, self._get_param("imageManifestMediaType"))
        return ActionResult({"image": self._image(image, tag)})

    def list_images(self) -> ActionResult:
        """ListImages."""
        rows = []
        for image in self._images():
            tags: list[str | None] = [*image.image_tags] or [None]
            rows += [_id(image.manifest.digest, tag) for tag in tags]
        return self._page("imageIds", rows)

    def describe_images(self) -> ActionResult:
        """DescribeImages."""
        wanted = self._get_param("imageIds")
        if not wanted:
            return self._page("imageDetails", [self._details(image) for image in self._images()])
        name = self._get_param("repositoryName")
        found = [
            self.ecr_backend.find(name, tag=image_id.get("imageTag"), digest=image_id.get("imageDigest"))
            for image_id in wanted
        ]
        once = {image.manifest.digest: image for image in found}
        return ActionResult({"imageDetails": [self._details(image) for image in once.values()]})

    def batch_get_image(self) -> ActionResult:
        """BatchGetImage."""
        name = self._get_param("repositoryName")
        self.ecr_backend.repository(name)
        rows: list[dict[str, Any]] = []
        failures: list[dict[str, Any]] = []
        for image_id in self._get_param("imageIds") or []:
            try:
                image = self.ecr_backend.find(
                    name, tag=image_id.get("imageTag"), digest=image_id.get("imageDigest")
                )
            except ServiceException as error:
                failures.append(_failure(image_id, error))
                continue
            self.ecr_backend.note_pull(image)
            rows.append(self._image(image, image_id.get("imageTag")))
        return ActionResult({"images": rows, "failures": failures})

    def batch_delete_image(self) -> ActionResult:
        """BatchDeleteImage."""
        name = self._get_param("repositoryName")
        self.ecr_backend.repository(name)
        gone: list[dict[str, Any]] = []
        failures: list[dict[str, Any]] = []
        for image_id in self._get_param("imageIds") or []:
            tag, digest = image_id.get("imageTag"), image_id.get("imageDigest")
            if tag is None and digest is None:
                message = "Invalid request parameters: both tag and digest cannot be null"
                failures.append(
                    {"imageId": {}, "failureCode": "MissingDigestAndTag", "failureReason": message}
                )
                continue
            try:
                rows = self.ecr_backend.remove(name, tag=tag, digest=digest)
            except ServiceException as error:
                failures.append(_failure(image_id, error))
                continue
            gone += [_id(*row) for row in rows]
        return ActionResult({"imageIds": gone, "failures": failures})

    def batch_check_layer_availability(self) -> ActionResult:
        """BatchCheckLayerAvailability: what the registry has."""
        name = self._get_param("repositoryName")
        self.ecr_backend.repository(name)
        rows: list[dict[str, Any]] = []
        failures: list[dict[str, Any]] = []
        for digest in self._get_param("layerDigests"):
            size = self.ecr_backend.registry.blob_size(name, digest)
            if size is None:
                message = "Requested layer digests not found"
                failures.append(
                    {"layerDigest": digest, "failureCode": "MissingLayerDigest", "failureReason": message}
                )
            else:
                rows.append({"layerDigest": digest, "layerAvailability": "AVAILABLE", "layerSize": size})
        return ActionResult({"layers": rows, "failures": failures})

    def get_download_url_for_layer(self) -> ActionResult:  # type: ignore[override]  # moto has none
        """GetDownloadUrlForLayer: a link that opens without a login, for an hour."""
        name, digest = self._get_param("repositoryName"), self._get_param("layerDigest")
        backend = self.ecr_backend
        backend.repository(name)
        if backend.registry.blob_size(name, digest) is None:
            raise EcrError("LayersNotFoundException", f"The layer with digest '{digest}' does not exist")
        ticket, _ = backend.links.issue((name, digest), LINK_SECONDS)
        url = f"http://{backend.front.address}{LAYERS}{name}/{digest}?ticket={ticket}"
        return ActionResult({"downloadUrl": url, "layerDigest": digest})

    def complete_layer_upload(self) -> ActionResult:
        """CompleteLayerUpload: the parts, which moto has collected, go to the registry."""
        name, upload_id = self._get_param("repositoryName"), self._get_param("uploadId")
        backend = self.ecr_backend
        upload = backend.repository(name).uploads.get(upload_id)
        content = bytes(upload.layer_parts) if upload is not None else b""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        wanted = self._get_param("layerDigests")
        if upload is not None and digest not in wanted:
            raise EcrError(
                "InvalidLayerException",
                f"The layer digest calculated by Amazon ECR, {digest}, is not the one specified, {wanted[0]}",
            )
        answer = backend.complete_layer_upload(name, upload_id, wanted)
        backend.registry.push_blob(name, Blob(digest, len(content), lambda: io.BytesIO(content)))
        return ActionResult(answer)

    def start_lifecycle_policy_preview(self) -> ActionResult:
        """StartLifecyclePolicyPreview."""
        name, text = self._get_param("repositoryName"), self._get_param("lifecyclePolicyText")
        repository = self.ecr_backend.repository(name)
        policy = text or repository.lifecycle_policy
        if policy is None:
            raise LifecyclePolicyNotFoundException(name, repository.registry_id)
        EcrLifecyclePolicyValidator(policy).validate()
        self.ecr_backend.previews[name] = policy
        return ActionResult({**self._lifecycle(name, policy), "status": "IN_PROGRESS"})

    def get_lifecycle_policy_preview(self) -> ActionResult:
        """GetLifecyclePolicyPreview."""
        name = self._get_param("repositoryName")
        self.ecr_backend.repository(name)
        policy = self.ecr_backend.previews.get(name)
        if policy is None:
            raise EcrError(
                "LifecyclePolicyPreviewNotFoundException",
                f"Lifecycle policy preview not found for repository '{name}'",
            )
        rows = [
            {
                **self._details(image),
                "action": {"type": "EXPIRE"},
                "appliedRulePriority": priority,
            }
            for image, priority in self.ecr_backend.expiring(name, policy, datetime.now(UTC))
        ]
        more = {
            **self._lifecycle(name, policy),
            "status": "COMPLETE",
            "summary": {"expiringImageTotalCount": len(rows)},
        }
        return self._page("previewResults", rows, more)

    def _images(self) -> list[StoredImage]:
        backend, status = self.ecr_backend, (self._get_param("filter") or {}).get("tagStatus", "ANY")
        with backend.lock:
            images = images_of(backend.repository(self._get_param("repositoryName")))
        return [
            image for image in images if status == "ANY" or (status == "TAGGED") is bool(image.image_tags)
        ]

    def _details(self, image: StoredImage) -> dict[str, Any]:
        return {
            "registryId": self.ecr_backend.account_id,
            "repositoryName": image.repository_name,
            "imageDigest": image.manifest.digest,
            "imageSizeInBytes": image.size,
            "imagePushedAt": image.pushed,
            "imageManifestMediaType": image.manifest.media_type,
            **({"imageTags": list(image.image_tags)} if image.image_tags else {}),
            **({"artifactMediaType": image.manifest.artifact_type} if image.manifest.artifact_type else {}),
            **({"lastRecordedPullTime": image.pulled} if image.pulled else {}),
        }

    def _image(self, image: StoredImage, tag: str | None) -> dict[str, Any]:
        return {
            "registryId": self.ecr_backend.account_id,
            "repositoryName": image.repository_name,
            "imageId": _id(image.manifest.digest, tag),
            "imageManifest": image.manifest.body.decode(),
            "imageManifestMediaType": image.manifest.media_type,
        }

    def _lifecycle(self, name: str, policy: str) -> dict[str, Any]:
        account = self.ecr_backend.account_id
        return {"registryId": account, "repositoryName": name, "lifecyclePolicyText": policy}

    def _page(self, name: str, rows: list[Any], more: dict[str, Any] | None = None) -> ActionResult:
        size = min(int(self._get_param("maxResults") or 100), MOST_ROWS)
        try:
            found, following = pages.page(rows, size, self._get_param("nextToken"))
        except ValueError:
            raise InvalidParameterException("Invalid parameter at 'nextToken'") from None
        return ActionResult({**(more or {}), name: found, **({"nextToken": following} if following else {})})


def install(world: World) -> None:
    """From now on moto makes these, and machines that boot find the registry at the address they know it by."""
    urls.url_paths = {"{0}/$": SandboxEcrResponse.dispatch}
    ecr_backends.backend = ecr.SandboxEcr
    ecr_backends.clear()
    shutil.rmtree(world.layout.ecr, ignore_errors=True)
    ecr.backend().front  # noqa: B018 - it listens before the first machine boots
    world.providers.append(lambda _, machine, __: ecr.serve_machine(machine))


def _id(digest: str, tag: str | None) -> dict[str, Any]:
    return {"imageDigest": digest, **({"imageTag": tag} if tag is not None else {})}


def _failure(wanted: dict[str, Any], error: ServiceException) -> dict[str, Any]:
    if error.code not in _FAILURES:
        raise error
    code, message = _FAILURES[error.code]
    return {"imageId": wanted, "failureCode": code, "failureReason": message or error.message}
