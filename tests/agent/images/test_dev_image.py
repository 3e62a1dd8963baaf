"""When dev-mode builds."""

from __future__ import annotations

import pytest

from runctl.agent.images.dev_image import removed_files, why_build

PARTS = {"the Dockerfile": "1", "requirements.txt": "2"}


@pytest.mark.parametrize(
    ("before", "now", "text"),
    [
        (PARTS, PARTS, None),
        (None, PARTS, "no image of this project has been built on this machine"),
        (PARTS, {**PARTS, "requirements.txt": "3"}, "requirements.txt changed"),
        (PARTS, {**PARTS, "uv.lock": "3"}, "uv.lock is new"),
        (PARTS, {"the Dockerfile": "1"}, "requirements.txt is gone"),
        ({}, {str(n): "" for n in range(7)}, "0 is new, 1 is new, 2 is new, 3 is new, 4 is new and 2 more"),
    ],
)
def test_an_image_is_built_again_only_if_something_but_code_has_changed(
    before: dict[str, str] | None, now: dict[str, str], text: str | None
) -> None:
    assert why_build(before, now) == text


def test_files_that_are_no_more_are_named() -> None:
    assert removed_files({"a": 1, "b": 1}, {"b": 2, "c": 1}) == ("a",)
