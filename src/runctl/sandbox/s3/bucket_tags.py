"""The tags that CreateBucket takes, which moto leaves out.

Source: the CreateBucket page of the S3 API reference, ``CreateBucketConfiguration.Tags``.
"""

from __future__ import annotations

from typing import Any

import xmltodict  # type: ignore[import-untyped]
from moto.s3.responses import S3Response


def install() -> None:
    """A bucket has its tags from the call that creates it."""
    if not hasattr(S3Response, "_put_without_tags"):
        S3Response._put_without_tags = S3Response._bucket_response_put  # type: ignore[attr-defined]
        S3Response._bucket_response_put = _put  # type: ignore[method-assign]


def _put(self: Any, request: Any, bucket_name: str, querystring: dict[str, Any]) -> Any:
    creates = bucket_name not in self.backend.buckets
    answer = self._put_without_tags(request, bucket_name, querystring)
    if creates and bucket_name in self.backend.buckets and self.body:
        body = xmltodict.parse(self.body, force_list={"Tag"})
        asked = (body.get("CreateBucketConfiguration") or {}).get("Tags") or {}
        tags = {each["Key"]: each["Value"] or "" for each in asked.get("Tag", ())}
        if tags:
            self.backend.put_bucket_tagging(bucket_name, tags)
    return answer
