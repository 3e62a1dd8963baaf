"""S3 as an object store, for this computer; see `ObjectStorage`. Any store that speaks S3's protocol will do."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from runctl.agent.checkpoint_spec import StoreKeys
from runctl.agent.lease import age_of
from runctl.core.errors import NotFound
from runctl.providers.abilities.object_storage import ObjectStorage, ObjectVersion, StoredObject
from runctl.providers.aws.calls.errors import error_code, our_errors
from runctl.providers.aws.staging import transfers

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CHUNK_BYTES = 1 << 20
_ANSWER_SECONDS = 60
_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "412"}
_ABSENT = {"NoSuchKey", "404"}


def client_of_store(endpoint: str, region: str, keys: StoreKeys) -> S3Client:
    """A client for somebody else's store that speaks S3's protocol, by keys of its own."""
    import botocore.session
    from botocore.config import Config

    opened: Any = botocore.session.Session().create_client(
        "s3",
        region_name=region,
        endpoint_url=endpoint,
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret_key,
        aws_session_token=keys.token or None,
        config=Config(
            read_timeout=_ANSWER_SECONDS,
            retries={"mode": "standard"},
            # Such stores need not know more of the protocol than this.
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    client: S3Client = opened
    return client


class S3Access(Protocol):
    """Who reads and writes, and where."""

    @property
    def s3(self) -> S3Client:
        """The client."""
        ...

    @property
    def endpoint(self) -> str | None:
        """Of another store than AWS's."""
        ...


class S3Storage(ObjectStorage):
    """Buckets that whoever asks may use."""

    scheme = "s3"

    def __init__(self, session: S3Access) -> None:
        self._session = session

    @property
    def is_elsewhere(self) -> bool:
        """botocore's variable for S3 alone names another store than AWS's."""
        return self._session.endpoint is None and bool(os.environ.get("AWS_ENDPOINT_URL_S3"))

    def objects(self, bucket: str, prefix: str) -> Iterator[StoredObject]:
        """By ListObjectsV2."""
        for page in self._pages(bucket, prefix):
            for item in page.get("Contents", ()):
                yield StoredObject(item["Key"], item["Size"], item["LastModified"])

    def folders(self, bucket: str, prefix: str) -> Iterator[str]:
        """By ListObjectsV2 with a delimiter."""
        for page in self._pages(bucket, prefix, Delimiter="/"):
            for item in page.get("CommonPrefixes", ()):
                yield item["Prefix"].rstrip("/")

    def read(self, bucket: str, key: str) -> bytes:
        """By GetObject."""
        found = bytearray()
        self.fetch(bucket, key, found.extend)
        return bytes(found)

    def fetch(
        self,
        bucket: str,
        key: str,
        write: Callable[[bytes], None],
        *,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        """By GetObject with a range."""
        span: dict[str, Any] = {}
        if start or stop is not None:
            span = {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}
        with self._explaining(bucket, key):
            answer = self._session.s3.get_object(Bucket=bucket, Key=key, **span)
            for chunk in answer["Body"].iter_chunks(_CHUNK_BYTES):
                write(chunk)

    def crc32(self, bucket: str, key: str) -> str | None:
        """By HeadObject; what a machine has uploaded has one."""
        with self._explaining(bucket, key):
            answer = self._session.s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        found = answer.get("ChecksumCRC32", "")
        # That of an object in parts may be one of the parts' checksums: it then ends with their number.
        if not found or "-" in found or answer.get("ChecksumType") == "COMPOSITE":
            return None
        return base64.b64decode(found).hex()

    def put(self, bucket: str, key: str, data: bytes, *, only_new: bool = False) -> bool:
        """By PutObject, with ``If-None-Match: *``."""
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if only_new else {}
        with self._explaining(bucket, key):
            try:
                self._session.s3.put_object(Bucket=bucket, Key=key, Body=data, **condition)
            except Exception as error:
                if not only_new or error_code(error) not in _TAKEN:
                    raise
                # A request whose answer was lost is sent again, and meets what it has written itself.
                return self.read(bucket, key) == data
        return True

    def version(self, bucket: str, key: str) -> ObjectVersion | None:
        """By GetObject."""
        with self._explaining(bucket, key):
            try:
                answer = self._session.s3.get_object(Bucket=bucket, Key=key)
            except Exception as error:
                if error_code(error) in _ABSENT:
                    return None
                raise
            age = age_of(answer["ResponseMetadata"]["HTTPHeaders"])
            return ObjectVersion(answer["Body"].read(), answer["ETag"].strip('"'), age)

    def replace(self, bucket: str, key: str, data: bytes, etag: str) -> str | None:
        """By PutObject, with ``If-Match``."""
        condition: dict[str, Any] = {"IfMatch": f'"{etag}"'} if etag else {"IfNoneMatch": "*"}
        with self._explaining(bucket, key):
            try:
                answer = self._session.s3.put_object(Bucket=bucket, Key=key, Body=data, **condition)
            except Exception as error:
                if error_code(error) in _TAKEN or (etag and error_code(error) in _ABSENT):
                    return None
                raise
        return str(answer["ETag"].strip('"'))

    def upload(self, bucket: str, key: str, path: Path, on_bytes: Callable[[int], None]) -> None:
        """In parts, several at once, where there is much."""
        from s3transfer.subscribers import BaseSubscriber

        class Heard(BaseSubscriber):
            def on_progress(self, future: Any, bytes_transferred: int, **_: Any) -> None:  # noqa: ARG002
                on_bytes(bytes_transferred)

        with self._explaining(bucket, key), transfers(self._session.s3) as sending:
            sending.upload(str(path), bucket, key, subscribers=[Heard()]).result()

    def delete(self, bucket: str, key: str) -> None:
        """By DeleteObject."""
        with self._explaining(bucket, key):
            self._session.s3.delete_object(Bucket=bucket, Key=key)

    def _pages(self, bucket: str, prefix: str, **options: Any) -> Iterator[Any]:
        pages = self._session.s3.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=prefix, **options
        )
        with self._explaining(bucket, prefix):
            yield from pages

    @contextmanager
    def _explaining(self, bucket: str, key: str) -> Iterator[None]:
        with our_errors(self._session.endpoint):
            try:
                yield
            except Exception as error:
                code = error_code(error)
                if code == "NoSuchBucket":
                    raise NotFound(
                        f"bucket {bucket} does not exist", hint="aws s3 ls shows yours", code="no-bucket"
                    ) from error
                if code in _ABSENT:
                    raise NotFound(f"s3://{bucket}/{key} does not exist", code="no-object") from error
                raise
