"""runctl's own buckets: tagged in the call that creates one, private, encrypted, with rules for what is in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runctl.core import tags as tag
from runctl.providers.aws.calls.errors import error_code
from runctl.providers.aws.calls.parse import tag_list

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PRIVATE = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}
ENCRYPTED = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
_FINISHED = {tag.OWNED: tag.OWNED_VALUE}


def create(s3: S3Client, name: str, region: str) -> None:
    """The bucket is there, tagged as ours and as not finished; one that this account has already stays as it is."""
    tags = tag_list({**_FINISHED, tag.UNFINISHED: "true"})
    where = {} if region == "us-east-1" else {"LocationConstraint": region}
    configuration: Any = {**where, "Tags": tags}
    try:
        s3.create_bucket(Bucket=name, CreateBucketConfiguration=configuration)
    except Exception as error:
        # Another runctl was quicker; us-east-1 would not even complain.
        if error_code(error) != "BucketAlreadyOwnedByYou":
            raise


def finish(s3: S3Client, name: str, rules: Mapping[str, Any]) -> None:
    """It is private and encrypted, has the lifecycle ``rules``, and then the tags of one that is finished."""
    settings: Any = {"private": PRIVATE, "encrypted": ENCRYPTED, "rules": rules, "tags": tag_list(_FINISHED)}
    s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=settings["private"])
    s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration=settings["encrypted"])
    s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration=settings["rules"])
    s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": settings["tags"]})


def is_finished(tags: Mapping[str, str]) -> bool:
    """Whether a bucket with these tags is ours and has all its settings. Pure."""
    return tag.is_ours(tags) and tag.UNFINISHED not in tags
