"""Which names may be given to volumes, snapshots, instances and runs: none that could be taken for an id."""

from __future__ import annotations

from runctl.core.errors import UsageError
from runctl.core.names import LATEST
from runctl.providers import registry

LONGEST_NAME = 128
"""Characters. Tag values hold 256; a moved volume's old copy is named ``NAME-in-ZONE``."""
_RUN_PREFIX = "run-"
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
    """What keeps a text from being a name; empty where nothing does."""
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
    if name.lower().startswith(_RUN_PREFIX) or registry.is_like_an_id(name.lower()):
        return "it looks like an id"
    return ""
