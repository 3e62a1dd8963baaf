"""A Dockerfile as text: its instructions with their lines, its stages, and what it copies from its context. Pure."""

from __future__ import annotations

import bisect
import fnmatch
import json
import re
import shlex
from collections.abc import Iterable
from functools import cached_property

from runctl._dataclasses import dataclass
from runctl.containers.heredocs import heredocs

_DIRECTIVE = re.compile(r"#\s*(syntax|escape|check)\s*=\s*(\S.*?)\s*", re.IGNORECASE)
_BLANKS = re.compile(r"[ \t\v\f\r]+")
_OPTIONS = re.compile(r"(?:--\S+\s+)*")
# An escaped escape goes on nowhere.
_CONTINUED = {
    "\\": re.compile(r"((?:[^\\]|^))\\[ \t]*$"),
    "`": re.compile(r"((?:[^`]|^))`[ \t]*$"),
}
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
    lines = text.split("\n")
    continued = _CONTINUED[_escape(lines)]
    ends = _Ends(lines)
    instructions = []
    position = 0
    while position < len(lines):
        start = position
        line = lines[position].strip()
        position += 1
        if not line or line.startswith("#"):
            continue
        line, goes_on = continued.subn(r"\1", line)
        while goes_on and position < len(lines):
            following = lines[position].rstrip("\r")
            position += 1
            # A comment in the middle is left out, an empty line does not end the instruction.
            if following.strip() and not following.lstrip().startswith("#"):
                following, goes_on = continued.subn(r"\1", following)
                line += following
        keyword, rest = (*_BLANKS.split(line.strip(), maxsplit=1), "")[:2]
        for mark, after_tabs in heredocs(rest) if "<<" in rest and _may_have_heredocs(keyword, rest) else ():
            end = ends.after(position, mark, after_tabs=after_tabs)
            if end is None:
                # docker refuses such a file.
                break
            rest = "\n".join((rest, *(inner.rstrip("\r") for inner in lines[position : end + 1])))
            position = end + 1
        instructions.append(Instruction(start + 1, keyword.upper(), rest.strip()))
    return DockerfileText(tuple(instructions))


class _Ends:
    """Where each line stands: a text of many here-documents is looked through once."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def after(self, start: int, mark: str, *, after_tabs: bool) -> int | None:
        """The first such line, from ``start`` on."""
        numbers = (self._without_tabs if after_tabs else self._as_they_are).get(mark, [])
        index = bisect.bisect_left(numbers, start)
        return numbers[index] if index < len(numbers) else None

    @cached_property
    def _as_they_are(self) -> dict[str, list[int]]:
        return self._numbers(line.rstrip("\r") for line in self._lines)

    @cached_property
    def _without_tabs(self) -> dict[str, list[int]]:
        return self._numbers(line.rstrip("\r").lstrip("\t") for line in self._lines)

    def _numbers(self, lines: Iterable[str]) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for number, line in enumerate(lines):
            found.setdefault(line, []).append(number)
        return found


def _may_have_heredocs(keyword: str, rest: str) -> bool:
    """Not in a list of JSON, where ``<<`` is text like any other."""
    if keyword.upper() == "ONBUILD":
        keyword, rest = (*_BLANKS.split(rest, maxsplit=1), "")[:2]
    if keyword.upper() not in _HEREDOC_KEYWORDS:
        return False
    try:
        listed = json.loads(_OPTIONS.sub("", rest))
    except (ValueError, RecursionError):
        return True
    return not (isinstance(listed, list) and all(isinstance(each, str) for each in listed))


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
        option, rest = (*rest.split(maxsplit=1), "")[:2]
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
