"""Which instruction broke the cache in each stage of a build, and what had changed since the last one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from runctl._dataclasses import dataclass
from runctl.containers.build_log import Step
from runctl.containers.dockerfile_text import DockerfileText, Instruction, Stage, copies
from runctl.containers.image_inputs import ImageInputs

_LAYERS = frozenset({"FROM", "RUN", "COPY", "ADD", "WORKDIR"})
"""The instructions that BuildKit counts as steps."""
_MOST_FILES = 5
NOT_EXPLAINED = (
    "nothing in the project explains it: the cache was cleared, the engine is another, or a base image moved"
)


@dataclass(frozen=True)
class CacheBreak:
    """The first step of a stage that did not come from the cache."""

    stage: str | None
    """What ``--target`` takes; ``None`` where there is only one stage."""
    line: int | None
    """In the Dockerfile."""
    instruction: str
    reason: str
    """For a person."""
    changed: tuple[str, ...] = ()
    """The files, or the argument, that had changed."""
    steps_after: int = 0
    """How many steps of the stage were built anew after it."""


@dataclass(frozen=True)
class StageUse:
    """How much of one stage came from the cache."""

    stage: str | None
    """What ``--target`` takes; ``None`` is the stage that the image is."""
    steps: int
    built: int
    from_start: bool
    """Every one of its steps was built."""


@dataclass(frozen=True)
class CacheReport:
    """How a build went by the cache."""

    cached: int
    built: int
    breaks: tuple[CacheBreak, ...]
    stages: tuple[StageUse, ...] = ()


@dataclass(frozen=True)
class Changes:
    """What differs between two builds' contexts."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    modified: tuple[str, ...]

    def reason(self, path: str) -> str:
        """One path and what happened to it."""
        how = "is new" if path in self.added else "is gone" if path in self.removed else "changed"
        return f"{path} {how}"

    @property
    def paths(self) -> tuple[str, ...]:
        """All of them, sorted."""
        return tuple(sorted((*self.added, *self.removed, *self.modified)))


def changes_between(before: Mapping[str, str], now: Mapping[str, str]) -> Changes:
    """Pure."""
    return Changes(
        tuple(sorted(now.keys() - before.keys())),
        tuple(sorted(before.keys() - now.keys())),
        tuple(sorted(path for path in now.keys() & before.keys() if now[path] != before[path])),
    )


def explain(steps: Sequence[Step], now: ImageInputs, before: ImageInputs | None) -> CacheReport:
    """What the log of a build shows, with the reasons that the two builds' inputs give. Pure."""
    real = [step for step in steps if not step.text.startswith("FROM ") and (step.cached or step.done)]
    stages = now.parsed.needed(now.target)
    broken: list[CacheBreak] = []
    uses: list[StageUse] = []
    rebuilt: set[str] = set()
    for stage in stages:
        mine = [step for step in real if _belongs(step, stage, now.parsed)]
        built = sum(1 for step in mine if not step.cached)
        name = None if stage is stages[-1] else stage.target
        uses.append(StageUse(name, len(mine), built, built == len(mine) > 0))
        first = next((index for index, step in enumerate(mine) if not step.cached), None)
        if first is None:
            continue
        found = _instruction(mine[first], stage)
        reason, changed = _reason(found, stage, now, before, rebuilt)
        rebuilt.update({stage.target, str(stage.index)})
        broken.append(
            CacheBreak(
                stage.target if len(now.parsed.stages) > 1 else None,
                found.line if found is not None else None,
                mine[first].text,
                reason,
                changed,
                len(mine) - first - 1,
            )
        )
    cached = sum(1 for step in real if step.cached)
    return CacheReport(cached, len(real) - cached, tuple(broken), tuple(uses))


def _belongs(step: Step, stage: Stage, parsed: DockerfileText) -> bool:
    if step.stage is None:
        return len(parsed.stages) == 1 or stage.index == len(parsed.stages) - 1
    return step.stage in {stage.name, f"stage-{stage.index}"}


def _instruction(step: Step, stage: Stage) -> Instruction | None:
    """By its text; where docker has put variables in, by its position."""
    for instruction in stage.instructions:
        if instruction.text == " ".join(step.text.split()):
            return instruction
    layers = [instruction for instruction in stage.instructions if instruction.keyword in _LAYERS]
    index = step.number - 1
    return layers[index] if index < len(layers) and step.text.startswith(layers[index].keyword) else None


def _reason(
    found: Instruction | None,
    stage: Stage,
    now: ImageInputs,
    before: ImageInputs | None,
    rebuilt: set[str],
) -> tuple[str, tuple[str, ...]]:
    if before is None:
        return "no earlier build of this project is recorded on this computer", ()
    upstream = next((name for name in _from_names(stage, found) if name in rebuilt), None)
    if upstream is not None:
        return f"the stage {upstream}, which it is made of, was rebuilt", ()
    old = before.parsed.stage(stage.target)
    if old is None:
        return "the stage is new", ()
    if old.base != stage.base:
        return f"its base image is {stage.base} now, and was {old.base}", ()
    if found is not None and found.text not in {instruction.text for instruction in old.instructions}:
        return "the instruction is new or has changed", ()
    if found is not None and found.keyword in {"COPY", "ADD"}:
        changes = changes_between(before.context, now.context)
        touched = tuple(path for path in changes.paths if copies(found, path))
        if touched:
            named = ", ".join(changes.reason(path) for path in touched[:_MOST_FILES])
            more = len(touched) - _MOST_FILES
            return named + (f" and {more} more" if more > 0 else ""), touched
    for name in _arguments(stage, found, now.parsed):
        if now.args.get(name) != before.args.get(name):
            return f"the build argument {name} changed", (name,)
    if before.platform != now.platform:
        return f"the platform is {now.platform} now, and was {before.platform}", ()
    if _before_it_changed(found, stage, old):
        return "an instruction before it was added, removed or changed", ()
    return NOT_EXPLAINED, ()


def _before_it_changed(found: Instruction | None, stage: Stage, old: Stage) -> bool:
    def until(instructions: Sequence[Instruction]) -> list[str]:
        texts = [instruction.text for instruction in instructions]
        return texts[: texts.index(found.text)] if found is not None and found.text in texts else texts

    return until(stage.instructions) != until(old.instructions)


def _from_names(stage: Stage, found: Instruction | None) -> list[str]:
    names = [stage.base.lower()]
    if found is not None:
        names += [name.lower() for name in re.findall(r"\bfrom=([^,\s]+)", found.rest)]
    return names


def _arguments(stage: Stage, found: Instruction | None, parsed: DockerfileText) -> list[str]:
    """The build arguments that a step of the stage can see."""
    names = []
    for instruction in (*parsed.global_arguments, *stage.instructions):
        if found is not None and instruction.line >= found.line:
            break
        if instruction.keyword == "ARG":
            names += [argument.partition("=")[0] for argument in instruction.rest.split()]
    return names
