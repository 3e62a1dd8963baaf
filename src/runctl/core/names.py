"""Names that people give to things: what may be one, and what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterable

from runctl.core.errors import UsageError

LONGEST_NAME = 128
"""Characters. Tag values hold 256; a moved volume's old copy is named ``NAME-in-ZONE``."""
_LIKE_AN_ID = re.compile(
    r"(?:vol|snap|i|ami|run|sg|subnet|eni|vpc|key|lt|fleet|sir)-[0-9a-f]*", re.IGNORECASE
)
_ID_PREFIXES = ("vol-", "snap-", "i-", "run-", "arn:")
_SEPARATORS = {"/": "a slash", ",": "a comma", ":": "a colon"}


def check_resource_name(name: str, kind: str, example: str) -> None:
    """Return if a volume, snapshot or instance may be created with this name.

    What passes here can be used wherever a command, ``SOURCE:TARGET`` or the configuration takes a name. ``kind`` and
    ``example`` are for the message. Raises `UsageError` (code ``bad-name``).
    """
    why = why_not_a_name(name)
    if why:
        raise UsageError(
            f"{name!r} cannot be a name for {kind}: {why}", hint=f"use one such as {example}", code="bad-name"
        )


LATEST = "latest"
"""Stands for the newest run wherever a run is named."""


def check_run_name(name: str) -> None:
    """Return if a run may be called so. Raises `UsageError` (code ``bad-name``)."""
    if name == LATEST:
        raise UsageError(
            f"--run-name {name} is reserved: it always means the newest run",
            hint="leave it out",
            code="bad-name",
        )
    check_resource_name(name, "a run", "baseline")


def why_not_a_name(name: str) -> str:
    """What keeps a text from being a name; empty where nothing does. Pure."""
    if not name.strip():
        return "it is empty"
    if len(name) > LONGEST_NAME:
        return f"it has {len(name)} characters, and {LONGEST_NAME} are the most"
    if name != name.strip():
        return "it begins or ends with a space"
    for character, what in _SEPARATORS.items():
        if character in name:
            return f"it contains {what}, which separates the parts of a path or of a list"
    if not name.isprintable():
        return "it contains a character that cannot be printed"
    if name.startswith("-"):
        return "it begins with a hyphen, as an option does"
    if not name.strip("."):
        return "it consists of dots, as a folder's own path does"
    if name.lower().startswith(_ID_PREFIXES) or _LIKE_AN_ID.fullmatch(name):
        return "it looks like an id"
    return ""


def did_you_mean(word: str, known: Iterable[str], *, likeness: float = 0.6) -> str:
    """``did you mean "region"?`` for the nearest known word that is at least so alike (0 to 1), or an empty string."""
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1, cutoff=likeness)
    return f'did you mean "{near[0]}"?' if near else ""


_FOLDER_DIGEST = re.compile(r"-[0-9a-f]{8}$")


def project_of(label: str) -> str:
    """The name of a project, without what tells its folder from others of that name on machines."""
    return _FOLDER_DIGEST.sub("", label)
