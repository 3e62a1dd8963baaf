"""A Dockerfile as text: its instructions with their lines, its stages, and what it copies from its context. Pure."""

from __future__ import annotations

import fnmatch
import re
import shlex
from dataclasses import dataclass
from functools import cached_property

_DIRECTIVE = re.compile(r"#\s*(syntax|escape|check)\s*=\s*(\S.*?)\s*", re.IGNORECASE)
_HEREDOC = re.compile(r"<<(-?)([\"']?)([A-Za-z_]\w*)\2")
_FROM = re.compile(r"(?:--\S+\s+)*(\S+)(?:\s+as\s+(\S+))?\s*", re.IGNORECASE)
_HEREDOC_KEYWORDS = frozenset({"RUN", "COPY", "ADD"})


@dataclass(frozen=True)
class Instruction:
    """One instruction."""

    line: int
    """Of its first word, from 1."""
    keyword: str
    """In capitals: ``RUN``."""
    rest: str
    """What follows, with continued lines joined and comments left out; a here-document is in it."""

    @property
    def text(self) -> str:
        """On one line, with single spaces."""
        return " ".join(f"{self.keyword} {self.rest}".split())


@dataclass(frozen=True)
class Stage:
    """From one ``FROM`` to the next."""

    index: int
    base: str
    """What follows ``FROM``: an image, a stage's name, or a variable."""
    name: str | None
    """In small letters, as docker compares them."""
    instructions: tuple[Instruction, ...]
    """``FROM`` first."""

    @property
    def target(self) -> str:
        """What ``--target`` takes for it."""
        return self.name or str(self.index)


@dataclass(frozen=True)
class DockerfileText:
    """A whole Dockerfile."""

    instructions: tuple[Instruction, ...]

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """In their order."""
        starts = [
            index for index, instruction in enumerate(self.instructions) if instruction.keyword == "FROM"
        ]
        stages = []
        for index, start in enumerate(starts):
            end = starts[index + 1] if index + 1 < len(starts) else len(self.instructions)
            found = _FROM.fullmatch(self.instructions[start].rest)
            base, name = (found.group(1), found.group(2)) if found else (self.instructions[start].rest, None)
            stages.append(Stage(index, base, name.lower() if name else None, self.instructions[start:end]))
        return tuple(stages)

    @property
    def global_arguments(self) -> tuple[Instruction, ...]:
        """``ARG`` before the first ``FROM``."""
        first = next(
            (index for index, instruction in enumerate(self.instructions) if instruction.keyword == "FROM"),
            len(self.instructions),
        )
        return tuple(instruction for instruction in self.instructions[:first] if instruction.keyword == "ARG")

    def stage(self, target: str | None) -> Stage | None:
        """The stage that ``--target`` names, the last one for ``None``; ``None`` when there is no such stage."""
        if target is None:
            return self.stages[-1] if self.stages else None
        wanted = target.lower()
        return next((stage for stage in self.stages if wanted in {stage.name, str(stage.index)}), None)

    def needed(self, target: str | None) -> tuple[Stage, ...]:
        """The stages that the target is made of, itself last: by ``FROM``, ``COPY --from`` and mounts."""
        last = self.stage(target)
        if last is None:
            return ()
        found: dict[int, Stage] = {}
        todo = [last]
        while todo:
            stage = todo.pop()
            if stage.index in found:
                continue
            found[stage.index] = stage
            for name in _sources(stage):
                other = self.stage(name)
                if other is not None and other.index < stage.index:
                    todo.append(other)
        return tuple(found[index] for index in sorted(found))


def parse_dockerfile(text: str) -> DockerfileText:
    """The instructions of a text, as far as they can be told apart; what is wrong with them docker says."""
    lines = text.splitlines()
    escape = _escape(lines)
    instructions = []
    position = 0
    while position < len(lines):
        start = position
        line = lines[position].strip()
        position += 1
        if not line or line.startswith("#"):
            continue
        while line.endswith(escape) and position < len(lines):
            line = line[:-1]
            following = lines[position].strip()
            position += 1
            # A comment in the middle is left out, an empty line does not end the instruction.
            line += escape if following.startswith("#") or not following else " " + following
        keyword, _, rest = line.partition(" ")
        if keyword.upper() in _HEREDOC_KEYWORDS:
            for dash, _quote, mark in _HEREDOC.findall(rest):
                while position < len(lines):
                    inner = lines[position]
                    position += 1
                    rest += "\n" + inner
                    if (inner.lstrip("\t") if dash else inner) == mark:
                        break
        instructions.append(Instruction(start + 1, keyword.upper(), rest.strip().rstrip(escape).strip()))
    return DockerfileText(tuple(instructions))


def _escape(lines: list[str]) -> str:
    for line in lines:
        found = _DIRECTIVE.fullmatch(line.strip())
        if found is None:
            break
        if found.group(1).lower() == "escape" and found.group(2) in {"`", "\\"}:
            return found.group(2)
    return "\\"


def _sources(stage: Stage) -> list[str]:
    names = [stage.base]
    for instruction in stage.instructions[1:]:
        names += re.findall(r"--from=(\S+)", instruction.rest)
        names += re.findall(r"--mount=\S*\bfrom=([^,\s]+)", instruction.rest)
    return names


def copied_paths(text: str, target: str | None = None) -> list[tuple[int, str]]:
    """Line and source of each ``COPY`` and ``ADD`` that the target needs, from the context's root; without those that
    come from other stages, addresses, here-documents, or have variables or patterns in them."""
    return [
        (instruction.line, source)
        for stage in parse_dockerfile(text).needed(target)
        for instruction in stage.instructions
        if instruction.keyword in {"COPY", "ADD"}
        for source in _copied_from(instruction)
        if not set(source) & set("$*?[")
    ]


def copies(instruction: Instruction, path: str) -> bool:
    """Whether a ``COPY`` or ``ADD`` would take this path of the context."""
    parts = path.split("/")
    for source in _copied_from(instruction):
        pattern = source.split("/")
        if source == ".":
            return True
        if len(parts) >= len(pattern) and all(map(fnmatch.fnmatchcase, parts, pattern)):
            return True
    return False


def _copied_from(instruction: Instruction) -> list[str]:
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
