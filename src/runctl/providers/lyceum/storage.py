"""Lyceum's object storage: one bucket for each account, by keys that end; machines have them, and so does this
computer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from runctl.agent.checkpoint_spec import StoreKeys
from runctl.core.errors import CredentialsError, PermissionDenied, Unreachable
from runctl.providers.abilities.lent_bucket import Lent, LentBucket
from runctl.providers.aws.s3_storage import S3Storage, client_of_store
from runctl.providers.lyceum.api import StorageKeys
from runctl.providers.lyceum.context import LyceumContext

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

USUAL_REGION = "us-east-1"
USUAL_SECONDS, LEAST_SECONDS = 900.0, 60.0
"""How long keys are used whose end is not told, and what is left of others when new ones are asked for."""


def lent_of(found: StorageKeys) -> Lent:
    """What Lyceum has answered, in our words. Pure."""
    endpoint = found.endpoint.rstrip("/")
    return Lent(
        bucket=found.bucket_name or found.bucket or "",
        endpoint=endpoint if "://" in endpoint else f"https://{endpoint}",
        region=found.region or USUAL_REGION,
        keys=StoreKeys(found.access_key, found.secret_key, found.session_token or "", _seconds(found.expiry)),
    )


def _seconds(text: str | None) -> float | None:
    try:
        end = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return (end.replace(tzinfo=UTC) if end.tzinfo is None else end).timestamp()


class LyceumBucket(LentBucket):
    """See `LentBucket`."""

    def __init__(self, context: LyceumContext) -> None:
        self._context = context

    def lend(self) -> Lent:
        """By one call; Lyceum may not say when the keys end."""
        return lent_of(self._context.api.storage_keys())


class LentAccess:
    """S3 by keys that end, with newer ones in time. Safe to use from several threads."""

    def __init__(self, context: LyceumContext) -> None:
        self._bucket, self._clock = LyceumBucket(context), context.clock
        self._lock = threading.Lock()
        self._lent: Lent | None = None
        self._good_until = 0.0
        self._client: Any = None

    @cached_property
    def bucket(self) -> str:
        """The account's; it stays the same."""
        return self._current()[0].bucket

    @property
    def endpoint(self) -> str:
        """A URL."""
        return self._current()[0].endpoint

    @property
    def s3(self) -> S3Client:
        """A client whose keys are good now."""
        client: S3Client = self._current()[1]
        return client

    def forget(self) -> None:
        """The next use asks for new keys: these were refused."""
        with self._lock:
            self._lent = None

    def _current(self) -> tuple[Lent, Any]:
        now = self._clock.now().timestamp()
        with self._lock:
            if self._lent is None or now >= self._good_until:
                self._lent = lent = self._bucket.lend()
                ends_at = lent.keys.ends_at
                self._good_until = now + USUAL_SECONDS if ends_at is None else ends_at - LEAST_SECONDS
                self._client = client_of_store(lent.endpoint, lent.region, lent.keys)
            return self._lent, self._client


class LyceumStorage(S3Storage):
    """The account's bucket, and no other."""

    def __init__(self, context: LyceumContext) -> None:
        self._access = LentAccess(context)
        super().__init__(self._access)

    def holds(self, bucket: str) -> bool:
        """Lyceum says which one it is."""
        return bucket == self._access.bucket

    @contextmanager
    def _explaining(self, bucket: str, key: str) -> Iterator[None]:
        try:
            with super()._explaining(bucket, key):
                yield
        except (CredentialsError, PermissionDenied) as error:
            # How long they are good, Lyceum need not say.
            self._access.forget()
            raise Unreachable(
                f"the keys of Lyceum's bucket {bucket} are not accepted: {error.message}", hint="try again"
            ) from error
