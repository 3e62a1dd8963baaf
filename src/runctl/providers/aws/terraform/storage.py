"""Buckets with their settings, and image repositories, in Terraform's arguments.

Sources: ``aws_s3_bucket`` and its settings, ``aws_ecr_repository``, ``aws_ecr_lifecycle_policy`` in the documentation
of Terraform's AWS provider.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from runctl.providers.abilities.inventory import ResourceKind
from runctl.providers.abilities.terraform import Block, Json, Reference, TerraformResource
from runctl.providers.aws.calls.errors import error_code
from runctl.providers.aws.calls.parse import tags_of
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.terraform.names import TYPES, Names, settable

Described = Mapping[str, Any]

_NOT_SET = frozenset(
    {
        "NoSuchPublicAccessBlockConfiguration",
        "ServerSideEncryptionConfigurationNotFoundError",
        "NoSuchLifecycleConfiguration",
        "LifecyclePolicyNotFoundException",
        "NoSuchTagSet",
    }
)


def bucket(session: AwsSession, name: str, names: Names) -> Iterator[TerraformResource]:
    """The bucket and each of its settings, which are resources of their own."""
    s3: Any = session.s3
    owned = {"Bucket": name, "ExpectedBucketOwner": session.identity.account}
    label = names.label(ResourceKind.BUCKET, name, None)
    where = bucket_region(session, name)
    tags = _if_set(lambda: tags_of(s3.get_bucket_tagging(**owned)["TagSet"])) or {}
    yield TerraformResource(
        TYPES[ResourceKind.BUCKET],
        label,
        name,
        {
            "bucket": name,
            "tags": settable(tags),
            "lifecycle": Block({"prevent_destroy": True}),
        },
        where,
    )
    settings: list[tuple[str, dict[str, object]]] = []
    block = _if_set(lambda: s3.get_public_access_block(**owned)["PublicAccessBlockConfiguration"])
    if block:
        settings.append(("public_access_block", _public_access(block)))
    encryption = _if_set(lambda: s3.get_bucket_encryption(**owned)["ServerSideEncryptionConfiguration"])
    if encryption:
        settings.append(("server_side_encryption_configuration", _encryption(encryption)))
    rules = _if_set(lambda: s3.get_bucket_lifecycle_configuration(**owned)["Rules"])
    if rules:
        settings.append(("lifecycle_configuration", {"rule": tuple(Block(_rule(rule)) for rule in rules)}))
    versioning = s3.get_bucket_versioning(**owned).get("Status")
    if versioning:
        settings.append(("versioning", {"versioning_configuration": Block({"status": versioning})}))
    for suffix, body in settings:
        of = {"bucket": Reference(f"aws_s3_bucket.{label}.id")}
        yield TerraformResource(f"aws_s3_bucket_{suffix}", label, name, {**of, **body}, where)


def bucket_region(session: AwsSession, name: str) -> str:
    """Where the bucket is."""
    answer: Any = session.s3.head_bucket(Bucket=name)
    return str(answer.get("BucketRegion") or session.region)


def _public_access(block: Described) -> dict[str, object]:
    return {
        "block_public_acls": block["BlockPublicAcls"],
        "block_public_policy": block["BlockPublicPolicy"],
        "ignore_public_acls": block["IgnorePublicAcls"],
        "restrict_public_buckets": block["RestrictPublicBuckets"],
    }


def _encryption(encryption: Described) -> dict[str, object]:
    rules = []
    for rule in encryption["Rules"]:
        default = rule["ApplyServerSideEncryptionByDefault"]
        body: dict[str, object] = {"sse_algorithm": default["SSEAlgorithm"]}
        if default.get("KMSMasterKeyID"):
            body["kms_master_key_id"] = default["KMSMasterKeyID"]
        inner: dict[str, object] = {"apply_server_side_encryption_by_default": Block(body)}
        if rule.get("BucketKeyEnabled"):
            inner["bucket_key_enabled"] = True
        rules.append(Block(inner))
    return {"rule": tuple(rules)}


def _rule(rule: Described) -> dict[str, object]:
    body: dict[str, object] = {
        "id": rule["ID"],
        "status": rule["Status"],
        "filter": Block({"prefix": rule.get("Filter", {}).get("Prefix", rule.get("Prefix", ""))}),
    }
    if rule.get("Expiration", {}).get("Days"):
        body["expiration"] = Block({"days": rule["Expiration"]["Days"]})
    if rule.get("AbortIncompleteMultipartUpload"):
        days = rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
        body["abort_incomplete_multipart_upload"] = Block({"days_after_initiation": days})
    if rule.get("NoncurrentVersionExpiration"):
        days = rule["NoncurrentVersionExpiration"]["NoncurrentDays"]
        body["noncurrent_version_expiration"] = Block({"noncurrent_days": days})
    return body


def repository(session: AwsSession, name: str, names: Names, region: str) -> Iterator[TerraformResource]:
    """An image repository, and what it keeps."""
    ecr: Any = session.ecr
    (item,) = ecr.describe_repositories(repositoryNames=[name])["repositories"]
    tags = tags_of(ecr.list_tags_for_resource(resourceArn=item["repositoryArn"])["tags"])
    label = names.label(ResourceKind.REPOSITORY, name, region)
    body: dict[str, object] = {"name": name, "image_tag_mutability": item["imageTagMutability"]}
    if item.get("imageScanningConfiguration"):
        scan = item["imageScanningConfiguration"]["scanOnPush"]
        body["image_scanning_configuration"] = Block({"scan_on_push": scan})
    if item.get("encryptionConfiguration"):
        kind = item["encryptionConfiguration"]["encryptionType"]
        body["encryption_configuration"] = Block({"encryption_type": kind})
    body["tags"] = settable(tags)
    body["lifecycle"] = Block({"prevent_destroy": True})
    yield TerraformResource(TYPES[ResourceKind.REPOSITORY], label, name, body, region)
    policy = _if_set(lambda: ecr.get_lifecycle_policy(repositoryName=name)["lifecyclePolicyText"])
    if policy:
        yield TerraformResource(
            "aws_ecr_lifecycle_policy",
            label,
            name,
            {"repository": Reference(f"aws_ecr_repository.{label}.name"), "policy": Json(json.loads(policy))},
            region,
        )


def _if_set(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        if error_code(error) not in _NOT_SET:
            raise
        return None
