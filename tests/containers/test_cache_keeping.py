"""Which caches are pushed: one that holds every step is never replaced by one that holds a few."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.containers.cache_keeping import cache_tags, caches_to_push, doubtful_tags
from runctl.containers.explain import StageUse

STAGES = ("deps", None)


@pytest.mark.parametrize(
    ("uses", "there", "tags"),
    [
        # The first build of all, and one whose cache was cleared.
        ([StageUse("deps", 2, 2, True), StageUse(None, 3, 3, True)], [], ["cache-deps", "cache"]),
        ([StageUse("deps", 2, 2, True), StageUse(None, 3, 3, True)], ["cache"], ["cache-deps", "cache"]),
        # Only the code changed.
        ([StageUse("deps", 2, 0, False), StageUse(None, 3, 1, False)], ["cache-deps", "cache"], []),
        # The last step of a stage below is no code.
        (
            [StageUse("deps", 2, 1, False), StageUse(None, 3, 3, True)],
            ["cache-deps", "cache"],
            ["cache-deps-top", "cache"],
        ),
        (
            [StageUse("deps", 2, 0, False), StageUse(None, 3, 2, False)],
            ["cache-deps", "cache"],
            ["cache-top"],
        ),
        # Everything was in the engine, and nothing in the registry.
        ([StageUse("deps", 2, 0, False), StageUse(None, 3, 0, False)], [], ["cache-deps", "cache"]),
        # Pushed by a command of its own.
        (None, [], ["cache-deps", "cache"]),
        (None, ["cache-deps", "cache"], ["cache-deps-top", "cache-top"]),
    ],
)
def test_what_is_pushed(uses: list[StageUse] | None, there: list[str], tags: list[str]) -> None:
    assert [item.tag for item in caches_to_push(STAGES, uses, there)] == tags


@given(st.integers(1, 9), st.integers(0, 9))
def test_a_whole_cache_is_replaced_by_a_whole_one_only(steps: int, built: int) -> None:
    use = StageUse(None, steps, min(built, steps), built >= steps)

    pushed = caches_to_push((None,), [use], {"cache"})

    assert not any(entry.tag == "cache" for entry in pushed) or use.from_start
    assert all(item.tag in cache_tags((None,)) for item in pushed)


STAGE_USE = st.builds(StageUse, st.just(""), st.just(3), st.integers(0, 3), st.booleans())


@given(
    st.none() | st.lists(STAGE_USE, min_size=2, max_size=2), st.sets(st.sampled_from(["cache-deps", "cache"]))
)
def test_what_the_registry_has_matters_for_the_doubtful_caches_alone(
    uses: list[StageUse] | None, there: set[str]
) -> None:
    if uses is not None:
        uses = [replace(use, stage=stage) for use, stage in zip(uses, STAGES, strict=True)]
    asked = there & set(doubtful_tags(STAGES, uses))
    assert caches_to_push(STAGES, uses, asked) == caches_to_push(STAGES, uses, there)
