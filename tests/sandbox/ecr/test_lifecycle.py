"""Which images a lifecycle policy takes away."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from runctl.sandbox.ecr.lifecycle import Candidate, expired

NOW = datetime(2026, 1, 31, tzinfo=UTC)


def image(digest: str, days_old: float, *tags: str, in_list: bool = False) -> Candidate:
    return Candidate(digest, tags, NOW - timedelta(days=days_old), in_list)


def rule(priority: int, status: str = "any", **selection: Any) -> dict[str, Any]:
    return {
        "rulePriority": priority,
        "selection": {"tagStatus": status, **selection},
        "action": {"type": "expire"},
    }


def most(number: int) -> dict[str, Any]:
    return {"countType": "imageCountMoreThan", "countNumber": number}


def older(days: int) -> dict[str, Any]:
    return {"countType": "sinceImagePushed", "countUnit": "days", "countNumber": days}


def gone(images: list[Candidate], *rules: dict[str, Any]) -> list[str]:
    return [found.digest for found, _ in expired(json.dumps({"rules": rules}), images, NOW)]


def test_the_newest_stay() -> None:
    images = [image("old", 3), image("new", 1), image("middle", 2)]

    assert gone(images, rule(1, **most(2))) == ["old"]


def test_the_old_go_the_oldest_first() -> None:
    images = [image("a", 8), image("b", 6), image("c", 9)]

    assert gone(images, rule(1, **older(7))) == ["c", "a"]


def test_only_images_without_tags_go_where_the_rule_says_so() -> None:
    images = [image("tagged", 9, "x"), image("untagged", 9)]

    assert gone(images, rule(1, "untagged", **older(7))) == ["untagged"]


def test_every_prefix_must_be_there() -> None:
    images = [image("one", 9, "prod-1"), image("both", 9, "prod-1", "eu-1"), image("none", 9, "prodigy")]

    assert gone(images, rule(1, "tagged", tagPrefixList=["prod-", "eu"], **older(7))) == ["both"]


def test_a_pattern_has_stars_and_nothing_else() -> None:
    images = [image("match", 9, "prod-eu-1"), image("not", 9, "prod-us-1"), image("dot", 9, "p[r]od-eu")]

    assert gone(images, rule(1, "tagged", tagPatternList=["prod*eu*"], **older(7))) == ["match"]


def test_what_a_rule_is_about_no_later_rule_takes() -> None:
    images = [image("release", 99, "release-1"), image("other", 99, "x")]
    keep = rule(1, "tagged", tagPrefixList=["release"], **most(9999))

    assert gone(images, keep, rule(2, **older(7))) == ["other"]


def test_a_later_rule_counts_what_an_earlier_one_has() -> None:
    images = [image("a", 1, "keep"), image("b", 2), image("c", 3)]

    assert gone(images, rule(1, "tagged", tagPrefixList=["keep"], **most(1)), rule(2, **most(2))) == ["c"]


def test_the_rules_come_by_priority_and_not_by_place() -> None:
    images = [image("a", 9, "x")]

    (found,) = expired(
        json.dumps({"rules": [rule(5, **older(1)), rule(2, "tagged", tagPrefixList=["x"], **older(1))]}),
        images,
        NOW,
    )

    assert found[1] == 2


def test_an_image_of_a_list_stays_with_it() -> None:
    images = [image("part", 99, in_list=True), image("list", 99)]

    assert gone(images, rule(1, **older(7))) == ["list"]


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.lists(st.sampled_from("abc"), max_size=2, unique=True)), max_size=20
    ),
    st.integers(1, 10),
)
def test_as_many_stay_as_the_rule_says(ages: list[tuple[int, list[str]]], number: int) -> None:
    images = [image(str(index), days, *tags) for index, (days, tags) in enumerate(ages)]

    taken = gone(images, rule(1, **most(number)))

    kept = [item.pushed for item in images if item.digest not in taken]
    assert len(kept) == min(number, len(images))
    assert all(entry.pushed <= min(kept) for entry in images if entry.digest in taken)
