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


RESERVED_VARIABLES = "RUNCTL_"
"""What the names of the variables begin with that runctl sets itself."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class BadVariable(ValueError):
    """Why a script cannot be given a variable of that name, and what to do; ``code`` is that of the error."""

    def __init__(self, message: str, hint: str, code: str) -> None:
        super().__init__(message, hint)
        self.message, self.hint, self.code = message, hint, code


def check_variable(name: str) -> None:
    """Raises `BadVariable` for a name that no variable of a script can have."""
    if not _VARIABLE.fullmatch(name):
        raise BadVariable(f"{name!r} cannot be the name of a variable", "write NAME=VALUE", "bad-env")
    if name.startswith(RESERVED_VARIABLES):
        hint = f"choose a name that does not begin with {RESERVED_VARIABLES}"
        raise BadVariable(f"{name} is one that runctl sets itself", hint, "reserved-env")


_FOLDER_DIGEST = re.compile(r"-[0-9a-f]{8}$")


def project_of(label: str) -> str:
    """The name of a project, without what tells its folder from others of that name on machines."""
    return _FOLDER_DIGEST.sub("", label)
