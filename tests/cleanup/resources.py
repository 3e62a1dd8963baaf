"""Resources as tests make them up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from runctl.core.tags import OWNED, OWNED_VALUE
from runctl.providers.abilities.inventory import Resource, ResourceKind

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
ME = "ada"
REGION = "us-east-1"


def a_resource(
    kind: ResourceKind = ResourceKind.VOLUME,
    identifier: str = "vol-0123456789abcdef0",
    *,
    age: timedelta | None = timedelta(days=2),
    **changes: Any,
) -> Resource:
    """Ours, the caller's own, two days old, and used by nothing."""
    tags = changes.pop("tags", {})
    values: dict[str, Any] = {
        "name": None,
        "provider": "aws",
        "region": REGION,
        "zone": None,
        "state": "available",
        "created_at": None if age is None else NOW - age,
        "project": None,
        "owner": ME,
        "size_bytes": None,
        **changes,
    }
    return Resource(kind=kind, id=identifier, tags={OWNED: OWNED_VALUE, **tags}, **values)
