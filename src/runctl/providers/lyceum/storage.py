"""Lyceum's object storage: one bucket for each account, by keys that end."""

from __future__ import annotations

from datetime import UTC, datetime

from runctl.agent.checkpoint_spec import StoreKeys
from runctl.providers.abilities.lent_bucket import Lent, LentBucket
from runctl.providers.lyceum.api import StorageKeys
from runctl.providers.lyceum.context import LyceumContext

USUAL_REGION = "us-east-1"


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
