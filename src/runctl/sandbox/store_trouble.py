"""How S3 is doing: what a fault makes of it, for those who ask for it and those who carry it out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StoreTrouble:
    """How S3 is doing."""

    away: bool = False
    """Every request is answered by 503."""
    bytes_per_second: float = 0.0
    """What all requests together move; 0: as fast as it goes."""


WELL = StoreTrouble()
