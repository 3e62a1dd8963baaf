"""ECR: repositories that are created when first needed, tokens, and what is in them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from runctl.core import tags as tag
from runctl.core.clock import rfc3339
from runctl.core.errors import Conflict, NotFound, PermissionDenied, ProviderError
from runctl.core.progress import SILENT, Progress
from runctl.providers.abilities.image_registry import (
    ImageRegistry,
    ImageRepository,
    RegistryImage,
    RegistryLogin,
    RepositoryPlan,
)
from runctl.providers.aws.calls.errors import error_code, raising_our_errors
from runctl.providers.aws.calls.parse import tag_list, tags_of, utc
from runctl.providers.aws.context import AwsContext

UNTAGGED_DAYS = 1
"""An image whose tag has moved on is a cache that nobody reads any more."""
MOST_CACHES = 200
_BATCH = 100
"""What BatchDeleteImage takes at once."""


def platform_of(instance_type: str) -> str:
    """What images for an instance type are built for, by its name (EC2's "Instance type naming conventions"). Pure.

    The letter after the generation tells the processor: ``g`` is AWS's own, an Arm.
    """
    is_arm = re.match(r"(a1|[a-z]+\d+g[a-z]*(-flex)?|p\d+e-gb\d+)\.", instance_type)
    return "linux/arm64" if is_arm else "linux/amd64"


def lifecycle_policy(keep_images: int) -> str:
    """Keeps the newest images, and the caches whatever their age. Pure.

    An image that meets the tagging of one rule is not taken away by a later one (ECR's "How lifecycle policies work"):
    so the first rule protects caches from the last, which counts the rest.
    """
    rules = [
        _rule(
            1,
            "runctl: caches stay",
            {"tagStatus": "tagged", "tagPatternList": ["*cache*"]},
            "imageCountMoreThan",
            MOST_CACHES,
        ),
        _rule(
            2,
            "runctl: what has lost its tag goes",
            {"tagStatus": "untagged"},
            "sinceImagePushed",
            UNTAGGED_DAYS,
        ),
        _rule(
            3,
            f"runctl: the newest {keep_images} images stay",
            {"tagStatus": "any"},
            "imageCountMoreThan",
            keep_images,
        ),
    ]
    return json.dumps({"rules": rules}, sort_keys=True, separators=(",", ":"))


def _rule(
    priority: int, description: str, tagging: Mapping[str, Any], count: str, number: int
) -> dict[str, Any]:
    unit = {"countUnit": "days"} if count == "sinceImagePushed" else {}
    return {
        "rulePriority": priority,
        "description": description,
        "selection": {**tagging, "countType": count, "countNumber": number, **unit},
        "action": {"type": "expire"},
    }


@raising_our_errors
class EcrRegistry(ImageRegistry):
    """The private registry of one account and region; see `ImageRegistry`."""

    def __init__(self, context: AwsContext) -> None:
        self._context = context

    def plan_repository(self, name: str, *, keep_images: int) -> RepositoryPlan:
        """What is there, and what would be created."""
        found = _find(self._context, name)
        if found is None:
            uri = f"{self.login().host}/{name}"
            description = (
                f"ECR repository {name} in {self._context.session.region}, encrypted, scanned on push, keeping the"
                f" newest {keep_images} images (storage is billed by AWS)"
            )
            return RepositoryPlan(name, uri, False, keep_images, (description,))
        if not tag.is_ours(_tags(self._context, found)):
            raise Conflict(
                f"the ECR repository {name} exists, and runctl did not create it",
                hint=f'name it to use it as it is: [docker] registry = "{found["repositoryUri"]}"',
                code="not-ours",
            )
        change = (
            ()
            if _policy(self._context, name) == json.loads(lifecycle_policy(keep_images))
            else (f"lifecycle rule of ECR repository {name}: the newest {keep_images} images stay",)
        )
        return RepositoryPlan(name, found["repositoryUri"], True, keep_images, change)

    def ensure_repository(
        self, plan: RepositoryPlan, *, project: str | None, progress: Progress = SILENT
    ) -> None:
        """The repository exists, tagged, with its lifecycle rule."""
        ecr = self._context.session.ecr
        if not plan.exists:
            progress.step(f"creating the ECR repository {plan.name}")
            tags = {tag.OWNED: tag.OWNED_VALUE, tag.CREATED_AT: rfc3339(self._context.clock.now())}
            tags |= {tag.PROJECT: project} if project else {}
            try:
                ecr.create_repository(
                    repositoryName=plan.name,
                    tags=tag_list(tags),  # type: ignore[arg-type]
                    # Tags of images are digests and never move, those of caches must.
                    imageTagMutability="MUTABLE",
                    imageScanningConfiguration={"scanOnPush": True},
                    encryptionConfiguration={"encryptionType": "AES256"},
                )
            except Exception as error:
                if error_code(error) != "RepositoryAlreadyExistsException":
                    raise
                _must_be_ours(self._context, plan.name)
        if plan.will_create:
            ecr.put_lifecycle_policy(
                repositoryName=plan.name, lifecyclePolicyText=lifecycle_policy(plan.keep_images)
            )

    def login(
        self,
    ) -> RegistryLogin:
        """A new token."""
        answer = self._context.session.ecr.get_authorization_token()["authorizationData"]
        if not answer:
            raise ProviderError("ECR gave no token")
        username, _, password = base64.b64decode(answer[0]["authorizationToken"]).decode().partition(":")
        endpoint = urlsplit(answer[0]["proxyEndpoint"])
        return RegistryLogin(
            endpoint.netloc or endpoint.path, username, password, utc(answer[0]["expiresAt"])
        )

    def owns(self, host: str) -> bool:
        """By the name of the host; a stand-in for AWS has another name for it."""
        if registry_hosts().fullmatch(host):
            return True
        return self._context.session.endpoint is not None and ":" in host and self.login().host == host

    def repositories(self, *, everyone: bool = False) -> tuple[ImageRepository, ...]:
        """All of them by name, every page."""
        found = []
        for page in self._context.session.ecr.get_paginator("describe_repositories").paginate():
            for described in page["repositories"]:
                tags = _tags(self._context, described)
                ours = tag.is_ours(tags)
                if ours or everyone:
                    found.append(
                        ImageRepository(
                            described["repositoryName"],
                            described["repositoryUri"],
                            ours,
                            tags.get(tag.PROJECT),
                        )
                    )
        return tuple(sorted(found, key=lambda image: image.name))

    def images(self, repository: str) -> tuple[RegistryImage, ...]:
        """What is in a repository, newest first, every page."""
        found = _find(self._context, repository)
        if found is None:
            raise NotFound(f"ECR repository {repository} does not exist in {self._context.session.region}")
        uri = found["repositoryUri"]
        rows: list[RegistryImage] = []
        for page in self._context.session.ecr.get_paginator("describe_images").paginate(
            repositoryName=repository
        ):
            for image in page["imageDetails"]:
                tags = tuple(sorted(image.get("imageTags", ())))
                rows.append(
                    RegistryImage(
                        repository,
                        f"{uri}:{tags[0]}" if tags else f"{uri}@{image['imageDigest']}",
                        image["imageDigest"],
                        tags,
                        int(image.get("imageSizeInBytes", 0)),
                        utc(image["imagePushedAt"]),
                        utc(image["lastRecordedPullTime"]) if image.get("lastRecordedPullTime") else None,
                    )
                )
        return tuple(sorted(rows, key=lambda image: image.pushed_at, reverse=True))

    def delete_images(
        self, repository: str, digests: Sequence[str], progress: Progress = SILENT
    ) -> tuple[str, ...]:
        """BatchDeleteImage, in batches."""
        _must_be_ours(self._context, repository)
        gone: list[str] = []
        for start in range(0, len(digests), _BATCH):
            batch = digests[start : start + _BATCH]
            progress.update("images", done=start, total=len(digests))
            answer = self._context.session.ecr.batch_delete_image(
                repositoryName=repository, imageIds=[{"imageDigest": digest} for digest in batch]
            )
            gone += [image["imageDigest"] for image in answer["imageIds"]]
            refused = [
                image for image in answer.get("failures", ()) if image.get("failureCode") != "ImageNotFound"
            ]
            if refused:
                raise ProviderError(
                    f"ECR did not delete {len(refused)} images of {repository}: {refused[0].get('failureReason')}"
                )
        return tuple(dict.fromkeys(gone))


def _must_be_ours(context: AwsContext, name: str) -> None:
    found = _find(context, name)
    if found is None:
        raise NotFound(f"ECR repository {name} does not exist in {context.session.region}")
    if not tag.is_ours(_tags(context, found)):
        raise PermissionDenied(
            f"the ECR repository {name} was not created by runctl",
            hint="runctl changes only what it created",
            code="not-ours",
        )


def _find(context: AwsContext, name: str) -> Mapping[str, Any] | None:
    try:
        found = context.session.ecr.describe_repositories(repositoryNames=[name])["repositories"]
    except Exception as error:
        if error_code(error) == "RepositoryNotFoundException":
            return None
        raise
    return found[0] if found else None


def _tags(context: AwsContext, described: Mapping[str, Any]) -> dict[str, str]:
    answer = context.session.ecr.list_tags_for_resource(resourceArn=described["repositoryArn"])
    return tags_of(answer["tags"])  # type: ignore[arg-type]


def _policy(context: AwsContext, name: str) -> Any:
    try:
        return json.loads(
            context.session.ecr.get_lifecycle_policy(repositoryName=name)["lifecyclePolicyText"]
        )
    except Exception as error:
        if error_code(error) == "LifecyclePolicyNotFoundException":
            return None
        raise


def domains() -> frozenset[str]:
    """What the addresses of AWS's services end in, in any partition, over IPv4 alone or over both."""
    table = json.loads((resources.files("botocore") / "data" / "partitions.json").read_text(encoding="utf-8"))
    found = [row["outputs"] for row in table["partitions"]]
    return frozenset(row[key] for row in found for key in ("dnsSuffix", "dualStackDnsSuffix"))


@cache
def registry_hosts() -> re.Pattern[str]:
    """The names of ECR's registries ("Amazon ECR endpoints" in its reference), ``on.aws`` being its own IPv6 domain."""
    suffixes = "|".join(sorted(map(re.escape, domains() | {"on.aws"})))
    return re.compile(rf"\d{{12}}\.dkr[.-]ecr(-fips)?\.[a-z0-9-]+\.({suffixes})")
