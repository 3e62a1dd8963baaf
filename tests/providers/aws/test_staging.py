"""Large pieces pass through a bucket that is private, short-lived and ours."""

from __future__ import annotations

import urllib.request
from io import BytesIO

import pytest

from runctl.core import tags as tag
from runctl.core.errors import NotFound, PermissionDenied, RunctlError
from runctl.providers.aws.calls.parse import tags_of
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.staging import S3Staging
from tests.aws_fixtures import Refuse


def test_a_machine_without_rights_reads_and_writes_by_url(session: AwsSession) -> None:
    staging = S3Staging(session, None)
    staging.write("to-machine", BytesIO(b"hello"))

    with urllib.request.urlopen(staging.get_url("to-machine")) as answer:
        assert answer.read() == b"hello"
    kind = {"Content-Type": "application/octet-stream"}
    put = urllib.request.Request(staging.put_url("from-machine"), data=b"world", method="PUT", headers=kind)
    urllib.request.urlopen(put).close()
    sink = BytesIO()
    staging.read("from-machine", sink)
    assert sink.getvalue() == b"world"


def test_the_bucket_is_made_when_it_is_first_needed_private_encrypted_and_short_lived(
    session: AwsSession,
) -> None:
    staging = S3Staging(session, None)
    assert session.s3.list_buckets()["Buckets"] == []

    name = staging.bucket()

    assert name == f"runctl-staging-{session.identity.account}-us-east-1"
    blocked = session.s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"]
    assert all(blocked.values())
    assert session.s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
    (rule,) = session.s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    assert rule["Expiration"]["Days"] == 1
    assert tag.is_ours(tags_of(session.s3.get_bucket_tagging(Bucket=name)["TagSet"]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "cut",
    [
        "PutPublicAccessBlock",
        "PutBucketEncryption",
        "PutBucketLifecycleConfiguration",
        "PutBucketTagging",
    ],
)
def test_a_bucket_whose_making_was_cut_short_is_finished_by_the_next_use(
    session: AwsSession, refuse: Refuse, cut: str
) -> None:
    refuse(session.s3, cut, "InternalError", times=1)
    with pytest.raises(RunctlError):
        S3Staging(session, None).bucket()
    half_made = session.s3.get_bucket_tagging(Bucket=S3Staging(session, None).default_bucket)["TagSet"]
    assert tag.is_ours(tags_of(half_made))  # type: ignore[arg-type]

    name = S3Staging(session, None).bucket()

    assert session.s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"][
        "BlockPublicAcls"
    ]
    assert session.s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
    assert session.s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    assert tags_of(session.s3.get_bucket_tagging(Bucket=name)["TagSet"]) == {tag.OWNED: "true"}  # type: ignore[arg-type]


def test_a_second_use_makes_no_second_bucket(session: AwsSession) -> None:
    S3Staging(session, None).bucket()
    S3Staging(session, None).bucket()

    assert len(session.s3.list_buckets()["Buckets"]) == 1


def test_a_configured_bucket_is_used_as_it_is(session: AwsSession) -> None:
    session.s3.create_bucket(Bucket="my-own-bucket")

    assert S3Staging(session, "my-own-bucket").bucket() == "my-own-bucket"


def test_a_configured_bucket_that_does_not_exist_is_not_made(session: AwsSession) -> None:
    with pytest.raises(NotFound, match="my-own-bucket"):
        S3Staging(session, "my-own-bucket").bucket()

    assert session.s3.list_buckets()["Buckets"] == []


def test_a_bucket_of_somebody_else_under_our_name_is_not_used(session: AwsSession, refuse: Refuse) -> None:
    refuse(session.s3, "HeadBucket", "403", "Forbidden")

    with pytest.raises(PermissionDenied, match="somebody else's"):
        S3Staging(session, None).write("key", BytesIO(b"secret"))


def test_deleting_twice_is_fine(session: AwsSession) -> None:
    staging = S3Staging(session, None)
    staging.write("key", BytesIO(b"x"))

    staging.delete("key")
    staging.delete("key")

    with pytest.raises(NotFound):
        staging.read("key", BytesIO())


def test_in_other_regions_the_bucket_is_in_that_region(aws: str) -> None:
    session = AwsSession(region="eu-west-1", profile=None)

    name = S3Staging(session, None).bucket()

    assert session.s3.get_bucket_location(Bucket=name)["LocationConstraint"] == "eu-west-1"


def test_a_bucket_that_others_made_under_our_name_in_the_same_account_is_left_alone(
    session: AwsSession,
) -> None:
    staging = S3Staging(session, None)
    theirs = {"TagSet": [{"Key": "team", "Value": "vision"}]}
    session.s3.create_bucket(Bucket=staging.default_bucket)
    session.s3.put_bucket_tagging(Bucket=staging.default_bucket, Tagging=theirs)  # type: ignore[arg-type]

    with pytest.raises(PermissionDenied, match="did not create the bucket"):
        staging.bucket()

    assert session.s3.get_bucket_tagging(Bucket=staging.default_bucket)["TagSet"] == theirs["TagSet"]
