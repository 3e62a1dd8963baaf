"""A label says the tags that it was made of, and no other name is one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.core.tags import ATTEMPT, EXPIRES_AT, INTENT, NAME, OWNED, OWNED_VALUE, OWNER, PROJECT
from runctl.providers.labels import label_of, left_out, tags_of
from runctl.providers.rental_tags import LETTERS

TOKEN = "0123456789abcdef" * 2


@given(st.dictionaries(st.sampled_from(sorted(LETTERS.values())), st.text(min_size=1)))
def test_a_label_says_the_tags_that_it_was_made_of(tags: dict[str, str]) -> None:
    label = label_of({INTENT: TOKEN, **tags})

    assert label.isascii() and label.replace("_", "").replace(".", "").replace("-", "").isalnum()
    assert tags_of(label) == {
        OWNED: OWNED_VALUE,
        INTENT: TOKEN,
        **{key: value for key, value in tags.items() if _is_writable(value)},
    }


def _is_writable(value: str) -> bool:
    return value.encode(errors="replace").decode() == value


def test_what_a_label_looks_like() -> None:
    tags = {
        INTENT: TOKEN,
        OWNER: "ann@example.org",
        PROJECT: "digits",
        NAME: "mine",
        ATTEMPT: "run-7kq2m9xd4t/2",
        EXPIRES_AT: "2026-05-01T12:00:00Z",
    }
    assert label_of(tags) == (
        f"runctl.{TOKEN}.o-ann_40example_2eorg.p-digits.n-mine.a-run-7kq2m9xd4t_2f2.x-2026-05-01T12_3a00_3a00Z"
    )


@pytest.mark.parametrize(
    "name",
    [
        None,
        "",
        "runctl",
        "runctl-box",
        f"runctl.{TOKEN[1:]}",
        f"runctl.{TOKEN}.",
        f"runctl.{TOKEN}.z-what",
        f"runctl.{TOKEN}.n-a b",
        f"runctl.{TOKEN}.n-_41",
        f"runctl.{TOKEN}.n-b.o-a",
        f" runctl.{TOKEN}",
        f"RUNCTL.{TOKEN}",
    ],
)
def test_another_name_says_nothing(name: str | None) -> None:
    assert tags_of(name) == {}


def test_tags_that_a_label_has_no_room_for_are_named() -> None:
    assert left_out({INTENT: TOKEN, OWNED: OWNED_VALUE, NAME: "mine", "team": "vision"}) == ("team",)
