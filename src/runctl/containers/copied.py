"""What a Dockerfile copies from its context. Pure."""

from __future__ import annotations

import fnmatch
import re
import shlex

from runctl.containers.dockerfile_text import Instruction, parse_dockerfile


def copied_paths(text: str, target: str | None = None) -> list[tuple[int, str]]:
    """Line and source of each ``COPY`` and ``ADD`` that the target needs, from the context's root; without those that
    come from other stages, addresses, here-documents, or have variables or patterns in them."""
    return [
        (instruction.line, source)
        for stage in parse_dockerfile(text).needed(target)
        for instruction in stage.instructions
        if instruction.keyword in {"COPY", "ADD"}
        for source in _sources(instruction)
        if not set(source) & set("$*?[")
    ]


def copies(instruction: Instruction, path: str) -> bool:
    """Whether a ``COPY`` or ``ADD`` would take this path of the context."""
    parts = path.split("/")
    for source in _sources(instruction):
        pattern = source.split("/")
        if source == ".":
            return True
        if len(parts) >= len(pattern) and all(map(fnmatch.fnmatchcase, parts, pattern)):
            return True
    return False


def _sources(instruction: Instruction) -> list[str]:
    """From the context's root, which is ``.`` itself; none where they are not of the context."""
    rest = instruction.rest.partition("\n")[0]
    while rest.startswith("--"):
        option, _, rest = rest.partition(" ")
        rest = rest.lstrip()
        if option.startswith("--from="):
            return []
    if rest.startswith("["):
        arguments = re.findall(r'"((?:[^"\\]|\\.)*)"', rest)
    else:
        try:
            arguments = shlex.split(rest)
        except ValueError:
            # docker says what is wrong with it.
            arguments = rest.split()
    return [
        argument.strip("/").removeprefix("./") or "."
        for argument in arguments[:-1]
        if "://" not in argument and not argument.startswith(("<<", "git@"))
    ]
