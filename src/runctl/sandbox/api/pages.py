"""Listings in pages: tokens that say where the next page begins."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TypeVar

Row = TypeVar("Row")


def token_at(offset: int) -> str:
    """The token of the page that begins there."""
    return base64.urlsafe_b64encode(str(offset).encode()).decode()


def offset_of(token: str | None) -> int:
    """Where a token's page begins. Raises `ValueError` for a token that is not ours."""
    offset = int(base64.urlsafe_b64decode(token)) if token else 0
    if offset < 0:
        raise ValueError(token)
    return offset


def page(rows: Sequence[Row], size: int, token: str | None) -> tuple[list[Row], str | None]:
    """That page, and the token of the next one. Raises `ValueError` for a token that is not ours."""
    start = offset_of(token)
    end = start + size
    return list(rows[start:end]), token_at(end) if end < len(rows) else None
