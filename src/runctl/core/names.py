"""Names that people give to things: what was probably meant, and what a name stands for."""

from __future__ import annotations

import re
from collections.abc import Iterable

LATEST = "latest"
"""Stands for the newest run wherever a run is named."""


def did_you_mean(given: str, known: Iterable[str], *, likeness: float = 0.6) -> str:
    """``did you mean "region"?`` for the nearest known word that is at least so alike (0 to 1), or an empty string."""
    import difflib

    near = difflib.get_close_matches(given, list(known), n=1, cutoff=likeness)
    return f'did you mean "{near[0]}"?' if near else ""


_FOLDER_DIGEST = re.compile(r"-[0-9a-f]{8}$")


def project_of(label: str) -> str:
    """The name of a project, without what tells its folder from others of that name on machines."""
    return _FOLDER_DIGEST.sub("", label)
