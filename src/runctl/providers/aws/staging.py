"""An S3 bucket through which large pieces pass on their way to and from machines reached by Systems Manager."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, BinaryIO

from runctl.core import tags as tag
from runctl.core.errors import NotFound, PermissionDenied
from runctl.core.progress import SILENT, Progress
from runctl.providers.aws import buckets
from runctl.providers.aws.calls.errors import error_code, our_errors
from runctl.providers.aws.calls.parse import tags_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from s3transfer.manager import TransferManager

    from runctl.providers.aws.calls.session import AwsSession

PREFIX = "staging/"
URL_SECONDS = 3600
_LIFECYCLE = {
    "Rules": [
        {
            "ID": "staging-lives-a-day",
            "Status": "Enabled",
            "Filter": {"Prefix": PREFIX},
            "Expiration": {"Days": 1},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
        }
    ]
}


class S3Staging:
    """Implements `runctl.transport.staging.Staging`. The bucket is created when it is first needed."""

    def __init__(self, session: AwsSession, bucket: str | None, progress: Progress = SILENT) -> None:
        """``bucket`` is one of the user's, which must exist; without one, runctl's own is used."""
        self._session = session
        self._configured = bucket
        self._progress = progress
        self._ready: str | None = None
        self._lock = threading.Lock()

    @property
    def default_bucket(self) -> str:
        """The name of runctl's own bucket: one for each account and region."""
        return f"runctl-staging-{self._session.identity.account}-{self._session.region}"

    def put_url(self, key: str) -> str:
        """Where the machine may PUT the object."""
        return self._url("put_object", key)

    def get_url(self, key: str) -> str:
        """Where the machine may GET the object."""
        return self._url("get_object", key)

    def write(self, key: str, source: BinaryIO) -> None:
        """The object holds what ``source`` had left."""
        bucket = self.bucket()
        with our_errors(self._session.endpoint), transfers(self._session.s3) as manager:
            manager.upload(source, bucket, PREFIX + key).result()

    def read(self, key: str, sink: BinaryIO) -> None:
        """Write the object's bytes to ``sink``."""
        bucket = self.bucket()
        with our_errors(self._session.endpoint), transfers(self._session.s3) as manager:
            manager.download(bucket, PREFIX + key, sink).result()

    def delete(self, key: str) -> None:
        """The object is deleted; one that does not exist is fine."""
        bucket = self.bucket()
        with our_errors(self._session.endpoint):
            self._session.s3.delete_object(Bucket=bucket, Key=PREFIX + key)

    def bucket(self) -> str:
        """The bucket's name; it exists and is this account's.

        Raises `NotFound` for a configured one that does not exist, `PermissionDenied` for one that we may not use.
        """
        with self._lock, our_errors(self._session.endpoint):
            if self._ready is None:
                self._ready = self._checked(self._configured) if self._configured else self._own()
            return self._ready

    def _checked(self, bucket: str) -> str:
        if not self._exists(bucket, {}):
            raise NotFound(
                f"bucket {bucket!r} does not exist",
                hint="create it, or name another: runctl config set aws.staging_bucket NAME",
            )
        return bucket

    def _own(self) -> str:
        bucket = self.default_bucket
        if self._is_complete(bucket):
            return bucket
        # Bucket names are global: somebody else may have taken ours to read along.
        if not self._exists(bucket, {"ExpectedBucketOwner": self._session.identity.account}):
            self._create(bucket)
        buckets.finish(self._session.s3, bucket, _LIFECYCLE)
        return bucket

    def _is_complete(self, bucket: str) -> bool:
        """Whether the bucket is ours and has all its settings."""
        try:
            answer = self._session.s3.get_bucket_tagging(
                Bucket=bucket, ExpectedBucketOwner=self._session.identity.account
            )
        except Exception as error:
            if error_code(error) in {"NoSuchBucket", "NoSuchTagSet", "404"}:
                return False
            if error_code(error) in {"403", "AccessDenied"}:
                # Whoever may use the bucket need not be allowed to read its tags: then it is complete if it is there.
                return self._exists(bucket, {"ExpectedBucketOwner": self._session.identity.account})
            raise
        tags = tags_of(answer["TagSet"])  # type: ignore[arg-type]
        if tags and not tag.is_ours(tags):
            raise PermissionDenied(
                f"runctl did not create the bucket {bucket}, and does not use it",
                hint="name one of yours: runctl config set aws.staging_bucket NAME; or use --transport ssh",
                code="not-ours",
            )
        return buckets.is_finished(tags)

    def _exists(self, bucket: str, owner: dict[str, Any]) -> bool:
        try:
            self._session.s3.head_bucket(Bucket=bucket, **owner)
        except Exception as error:
            if error_code(error) in {"404", "NoSuchBucket", "NotFound"}:
                return False
            if error_code(error) in {"403", "AccessDenied"}:
                raise PermissionDenied(
                    f"the bucket {bucket} may not be used (no permission for s3:ListBucket), or is somebody else's",
                    hint="name one of yours: runctl config set aws.staging_bucket NAME; or use --transport ssh",
                ) from error
            raise
        return True

    def _create(self, bucket: str) -> None:
        self._progress.note(f"creating the bucket {bucket} for passing files on (its objects live for a day)")
        buckets.create(self._session.s3, bucket, self._session.region)

    def _url(self, operation: str, key: str) -> str:
        bucket = self.bucket()
        with our_errors(self._session.endpoint):
            return str(
                self._session.s3.generate_presigned_url(
                    operation, Params={"Bucket": bucket, "Key": PREFIX + key}, ExpiresIn=URL_SECONDS
                )
            )


def transfers(client: S3Client) -> TransferManager:
    """In parts and in parallel where there is much; for a ``with``."""
    # Most commands stage nothing.
    from boto3.s3.transfer import TransferConfig, create_transfer_manager

    return create_transfer_manager(client, TransferConfig())
