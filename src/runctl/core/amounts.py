"""Bytes and counts for people."""

from __future__ import annotations


def size(count: int) -> str:
    """In binary units: ``512 B``, ``1.5 MiB``."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def counted(number: int, thing: str, things: str | None = None) -> str:
    """``1 file``, ``1,200 files``; ``things`` is the plural where it is not made with an s."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"
