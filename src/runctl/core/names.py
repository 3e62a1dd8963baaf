"""Did you mean …?"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str], *, likeness: float = 0.6) -> str:
    """``did you mean "region"?`` for the nearest known word that is at least so alike (0 to 1), or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=likeness)
    return f'did you mean "{near[0]}"?' if near else ""
