"""What a request to S3 does, by its method, path and query, and which rights it takes. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import unescape

REQUEST_KEY = "runctl.s3_request"
"""Where the gate leaves what it has read, in the environment of a WSGI request."""
Right = tuple[str, str, Mapping[str, str]]
"""Action, resource and values for conditions."""

_BUCKET_PARTS = {
    "location": "s3:GetBucketLocation",
    "uploads": "s3:ListBucketMultipartUploads",
    "versions": "s3:ListBucketVersions",
}
_KEY = re.compile(rb"<Key>([^<]*)</Key>")


@dataclass(frozen=True)
class S3Request:
    """One request, addressed by path."""

    method: str
    bucket: str
    key: str
    query: Mapping[str, str]

    @property
    def reads_object(self) -> bool:
        """GetObject or HeadObject, of the newest version, whole or in part."""
        return self.method in {"GET", "HEAD"} and bool(self.key) and self.query.keys() <= _PLAIN


_PLAIN = {
    "x-id",
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
    *("AWSAccessKeyId", "Expires", "Signature", "x-amz-security-token"),
}
"""Query words that do not change what GetObject answers."""


def read(method: str, path: str, query: str) -> S3Request:
    """The request; bucket and key are empty where the path names none."""
    bucket, _, key = path.lstrip("/").partition("/")
    values = {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
    return S3Request(method, bucket, key, values)


def needs(request: S3Request, headers: Mapping[str, str], body: bytes = b"") -> list[Right]:
    """The rights that it takes; ``body`` matters to DeleteObjects and CreateBucket only."""
    if not request.bucket:
        return [("s3:ListAllMyBuckets", "*", {})]
    if not request.key:
        return _of_bucket(request, body)
    return _of_object(request, headers)


def _of_bucket(request: S3Request, body: bytes) -> list[Right]:
    method, query, arn = request.method, request.query, f"arn:aws:s3:::{request.bucket}"
    prefix = {name: query[parameter] for name, parameter in (("s3:prefix", "prefix"),) if parameter in query}
    if method == "POST" and "delete" in query:
        keys = [unescape(key.decode("utf-8", "replace")) for key in _KEY.findall(body)]
        return [("s3:DeleteObject", f"{arn}/{key}", {}) for key in keys]
    if method in {"GET", "HEAD"}:
        part = next((action for parameter, action in _BUCKET_PARTS.items() if parameter in query), None)
        if part is not None:
            return [(part, arn, prefix)]
        other = next((parameter for parameter in query if parameter in _SETTINGS), None)
        return [(f"s3:Get{_SETTINGS[other]}" if other else "s3:ListBucket", arn, prefix)]
    other = next((parameter for parameter in query if parameter in _SETTINGS), None)
    if other:
        return [(f"s3:Put{_SETTINGS[other]}", arn, {})]
    if method == "DELETE":
        return [("s3:DeleteBucket", arn, {})]
    tagged: list[Right] = [("s3:TagResource", arn, {})] if b"<Tags>" in body else []
    return [("s3:CreateBucket", arn, {}), *tagged]


_SETTINGS = {
    "acl": "BucketAcl",
    "cors": "BucketCORS",
    "encryption": "EncryptionConfiguration",
    "lifecycle": "LifecycleConfiguration",
    "logging": "BucketLogging",
    "policy": "BucketPolicy",
    "publicAccessBlock": "BucketPublicAccessBlock",
    "tagging": "BucketTagging",
    "versioning": "BucketVersioning",
}


def _of_object(request: S3Request, headers: Mapping[str, str]) -> list[Right]:
    method, query = request.method, request.query
    arn = f"arn:aws:s3:::{request.bucket}/{request.key}"
    part = "Version" if "versionId" in query else ""
    if method in {"GET", "HEAD"}:
        if "uploadId" in query:
            return [("s3:ListMultipartUploadParts", arn, {})]
        for parameter, name in (("tagging", "Tagging"), ("acl", "Acl")):
            if parameter in query:
                return [(f"s3:GetObject{part}{name}", arn, {})]
        return [(f"s3:GetObject{part}", arn, {})]
    if method == "DELETE":
        if "uploadId" in query:
            return [("s3:AbortMultipartUpload", arn, {})]
        return [(f"s3:DeleteObject{part}", arn, {})]
    for parameter, name in (("tagging", "Tagging"), ("acl", "Acl")):
        if parameter in query:
            return [(f"s3:PutObject{name}", arn, {})]
    source = unquote(headers.get("x-amz-copy-source", "")).lstrip("/").partition("?")[0]
    copied: list[Right] = [("s3:GetObject", f"arn:aws:s3:::{source}", {})] if source else []
    return [("s3:PutObject", arn, {}), *copied]
