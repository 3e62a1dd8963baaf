"""What runs a file: decided here on the user's computer before a run, and on the machine when it starts."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

INTERPRETERS: Mapping[str, tuple[str, ...]] = {
    ".bash": ("bash",),
    ".zsh": ("zsh",),
    ".r": ("Rscript",),
    ".jl": ("julia",),
    ".pl": ("perl",),
    ".rb": ("ruby",),
    ".lua": ("lua",),
    ".js": ("node",),
    ".mjs": ("node",),
}
"""What runs a file with this extension, apart from Python and the shell."""


def starter(
    shown: str,
    python: str,
    interpreter: Sequence[str],
    head: bytes,
    *,
    executable: bool,
    bash: str = "bash",
) -> list[str] | None:
    """The words that run a script, without its arguments; ``None`` when nothing says what runs it.

    What was asked for comes first, then Python for ``.py``, then the ``#!`` line (which names the very shell that a
    ``.sh`` is written for), then the extension, then the file itself where it is executable. ``bash`` runs a ``.sh``
    that names no shell. Pure.
    """
    if shown.startswith("-"):
        # Whatever runs it would take it for an option.
        shown = "./" + shown
    suffix = PurePosixPath(shown).suffix.lower()
    if interpreter:
        return [*interpreter, shown]
    if suffix == ".py":
        return [python, "-u", shown]
    named = shebang(head)
    if named is not None:
        return [*named, shown]
    if suffix == ".sh":
        return [bash, shown]
    if suffix in INTERPRETERS:
        return [*INTERPRETERS[suffix], shown]
    if executable:
        return [shown if "/" in shown else "./" + shown]
    return None


def shebang(head: bytes) -> list[str] | None:
    """The words of a ``#!`` line, as the kernel reads them: a program and at most one argument, which for
    ``env -S`` is itself split. A file that lost its executable bit on the way runs all the same."""
    line, newline, _ = head.partition(b"\n")
    if not line.startswith(b"#!") or not newline:
        return None
    argv = line[2:].decode(errors="surrogateescape").strip().split(None, 1)
    if not argv:
        return None
    program, rest = argv[0], argv[1:]
    if PurePosixPath(program).name == "env" and rest and rest[0].startswith("-S"):
        return [program, *shlex.split(rest[0][2:])]
    return [program, *rest]


def nothing_runs(name: str) -> str:
    """The message for a file for which `starter` has no answer."""
    return f"{name} has no extension that says what runs it, no #! line, and is not executable"


def how_to_run(path: str) -> str:
    """The hint that goes with it."""
    if PurePosixPath(path).suffix.lower() == ".ipynb":
        return "convert it to a script: jupyter nbconvert --to script"
    return f"use --interpreter PROGRAM, or chmod +x {path}"
