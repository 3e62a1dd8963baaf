"""Which rights a request to S3 takes."""

from __future__ import annotations

import pytest

from runctl.sandbox.s3.request import needs, read

BUCKET = "arn:aws:s3:::data"
OBJECT = f"{BUCKET}/a/b"


@pytest.mark.parametrize(
    ("method", "path", "query", "expected"),
    [
        ("GET", "/", "", [("s3:ListAllMyBuckets", "*")]),
        ("GET", "/data", "list-type=2", [("s3:ListBucket", BUCKET)]),
        ("GET", "/data/", "", [("s3:ListBucket", BUCKET)]),
        ("HEAD", "/data", "", [("s3:ListBucket", BUCKET)]),
        ("GET", "/data", "location", [("s3:GetBucketLocation", BUCKET)]),
        ("GET", "/data", "uploads", [("s3:ListBucketMultipartUploads", BUCKET)]),
        ("GET", "/data", "versioning", [("s3:GetBucketVersioning", BUCKET)]),
        ("PUT", "/data", "", [("s3:CreateBucket", BUCKET)]),
        ("PUT", "/data", "policy", [("s3:PutBucketPolicy", BUCKET)]),
        ("DELETE", "/data", "", [("s3:DeleteBucket", BUCKET)]),
        ("GET", "/data/a/b", "", [("s3:GetObject", OBJECT)]),
        ("HEAD", "/data/a/b", "", [("s3:GetObject", OBJECT)]),
        ("GET", "/data/a/b", "versionId=1", [("s3:GetObjectVersion", OBJECT)]),
        ("GET", "/data/a/b", "tagging", [("s3:GetObjectTagging", OBJECT)]),
        ("GET", "/data/a/b", "uploadId=1", [("s3:ListMultipartUploadParts", OBJECT)]),
        ("PUT", "/data/a/b", "", [("s3:PutObject", OBJECT)]),
        ("PUT", "/data/a/b", "partNumber=1&uploadId=1", [("s3:PutObject", OBJECT)]),
        ("POST", "/data/a/b", "uploads", [("s3:PutObject", OBJECT)]),
        ("DELETE", "/data/a/b", "", [("s3:DeleteObject", OBJECT)]),
        ("DELETE", "/data/a/b", "uploadId=1", [("s3:AbortMultipartUpload", OBJECT)]),
    ],
)
def test_a_request_takes_the_right_that_aws_asks_for(
    method: str, path: str, query: str, expected: list[tuple[str, str]]
) -> None:
    assert [found[:2] for found in needs(read(method, path, query), {})] == expected


def test_a_listings_prefix_is_there_for_conditions() -> None:
    assert needs(read("GET", "/data", "list-type=2&prefix=a%2Fb"), {}) == [
        ("s3:ListBucket", BUCKET, {"s3:prefix": "a/b"})
    ]


def test_a_copy_reads_its_source_too() -> None:
    found = needs(read("PUT", "/data/a/b", ""), {"x-amz-copy-source": "/other/x%20y?versionId=1"})

    assert [item[:2] for item in found] == [
        ("s3:PutObject", OBJECT),
        ("s3:GetObject", "arn:aws:s3:::other/x y"),
    ]


def test_creating_a_bucket_with_tags_takes_the_right_to_tag() -> None:
    body = b"<CreateBucketConfiguration><Tags><Tag><Key>a</Key></Tag></Tags></CreateBucketConfiguration>"

    found = needs(read("PUT", "/data", ""), {}, body)

    assert [item[:2] for item in found] == [("s3:CreateBucket", BUCKET), ("s3:TagResource", BUCKET)]


def test_a_removal_of_many_takes_the_right_to_each() -> None:
    body = b"<Delete><Object><Key>a&amp;b</Key></Object><Object><Key>c</Key></Object></Delete>"

    found = needs(read("POST", "/data", "delete"), {}, body)

    assert [item[:2] for item in found] == [
        ("s3:DeleteObject", f"{BUCKET}/a&b"),
        ("s3:DeleteObject", f"{BUCKET}/c"),
    ]


@pytest.mark.parametrize(
    ("method", "path", "query", "reads"),
    [
        ("GET", "/data/a", "", True),
        ("HEAD", "/data/a", "x-id=GetObject", True),
        ("GET", "/data/a", "X-Amz-Signature=1&X-Amz-Credential=x", True),
        ("GET", "/data/a", "response-content-type=text/plain", False),
        ("GET", "/data/a", "acl", False),
        ("GET", "/data", "", False),
        ("PUT", "/data/a", "", False),
    ],
)
def test_only_a_plain_read_is_one(method: str, path: str, query: str, reads: bool) -> None:
    assert read(method, path, query).reads_object is reads
