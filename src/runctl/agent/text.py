"""Words for people, as the agent's messages need them."""

from __future__ import annotations


def counted(number: int, thing: str) -> str:
    """``1 file``, ``1,200 files``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
