"""Which images are pushed as caches beside the image itself, where no buildx exports the whole cache. Pure.

An image with an inline cache serves, to another machine, the steps of its own stage that were built on the engine that
made it. For those that this engine had itself taken from a cache in the registry its records are without layers
(seen with the BuildKit of Docker 20.10). So a cache that holds every step must never be replaced by one that holds a
few: those go to a second name beside it, and builds look at both.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from runctl._dataclasses import dataclass
from runctl.containers.explain import StageUse

CACHE_TAG = "cache"
NEWER = "-top"
"""After the name of a cache: the steps that were built on top of it."""


@dataclass(frozen=True)
class CachePush:
    """One stage as an image in the registry."""

    stage: str | None
    """What ``--target`` takes; ``None`` is the image itself."""
    tag: str


def cache_tag(stage: str | None) -> str:
    """Of the cache that holds every step of a stage."""
    return CACHE_TAG if stage is None else f"{CACHE_TAG}-{stage}"


def cache_tags(stages: Sequence[str | None]) -> tuple[str, ...]:
    """Everything that a build looks at."""
    return tuple(tag for stage in stages for tag in (cache_tag(stage), cache_tag(stage) + NEWER))


def doubtful_tags(stages: Sequence[str | None], uses: Sequence[StageUse] | None) -> tuple[str, ...]:
    """Of which `caches_to_push` must know whether the registry has them."""
    known = _by_stage(stages, uses)
    return tuple(cache_tag(stage) for stage in stages if stage in known and not known[stage].from_start)


def caches_to_push(
    stages: Sequence[str | None], uses: Sequence[StageUse] | None, there: Collection[str]
) -> tuple[CachePush, ...]:
    """What to push for these stages after a build that went like ``uses`` (``None``: nobody watched it).

    ``there`` are those of `doubtful_tags` that the registry has.
    """
    known = _by_stage(stages, uses)
    pushes = []
    for stage in stages:
        full = cache_tag(stage)
        use = known.get(stage)
        if use is None:
            continue
        if use.from_start or full not in there:
            pushes.append(CachePush(stage, full))
        elif uses is None or (use.built and not _only_code(stage, use)):
            pushes.append(CachePush(stage, full + NEWER))
    return tuple(pushes)


def _by_stage(stages: Sequence[str | None], uses: Sequence[StageUse] | None) -> dict[str | None, StageUse]:
    if uses is None:
        return {stage: StageUse(stage, 0, 0, False) for stage in stages}
    return {use.stage: use for use in uses}


def _only_code(stage: str | None, use: StageUse) -> bool:
    """Only the image's last step was built: the project is copied there, and it will be another one next time."""
    return stage is None and use.built == 1
