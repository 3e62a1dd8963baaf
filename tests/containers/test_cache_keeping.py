"""Which caches are pushed: one that holds every step is never replaced by one that holds a few."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.containers.cache_keeping import cache_tags, caches_to_push
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
    assert [item.tag for item in caches_to_push(STAGES, uses, there.__contains__)] == tags


@given(st.integers(1, 9), st.integers(0, 9))
def test_a_whole_cache_is_replaced_by_a_whole_one_only(steps: int, built: int) -> None:
    use = StageUse(None, steps, min(built, steps), built >= steps)

    pushed = caches_to_push((None,), [use], lambda _: True)

    assert not any(entry.tag == "cache" for entry in pushed) or use.from_start
    assert all(item.tag in cache_tags((None,)) for item in pushed)
