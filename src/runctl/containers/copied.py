"""What a Dockerfile copies from its context."""

from __future__ import annotations

import json
import shlex

from runctl.containers.dockerfile_text import Instruction, parse_dockerfile


def copied_paths(text: str, target: str | None = None) -> list[tuple[int, str]]:
    """Line and source of each ``COPY`` and ``ADD`` that the target needs, from the context's root; without those that
    come from other stages, addresses, here-documents, or have variables or patterns in them. Pure."""
    found = []
    for stage in parse_dockerfile(text).needed(target):
        for instruction in stage.instructions:
            if instruction.keyword in {"COPY", "ADD"}:
                found += [(instruction.line, source) for source in _sources(instruction)]
    return found


def _sources(instruction: Instruction) -> list[str]:
    rest = instruction.rest
    while rest.startswith("--"):
        option, _, rest = rest.partition(" ")
        rest = rest.lstrip()
        if option.startswith("--from="):
            return []
    try:
        arguments = json.loads(rest) if rest.startswith("[") else shlex.split(rest)
    except ValueError:
        # docker says what is wrong with it.
        return []
    sources = [str(argument) for argument in arguments[:-1]] if isinstance(arguments, list) else []
    return [
        source.removeprefix("./").strip("/")
        for source in sources
        if "://" not in source and not source.startswith(("<<", "git@")) and not set(source) & set("$*?[")
    ]
