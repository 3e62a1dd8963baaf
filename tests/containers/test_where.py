"""Where a run's image is built."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runctl.containers.where import INSTANCE, LOCAL, BuildFacts, choose_build_location
from runctl.core.errors import RunctlError, Unsupported

FACTS = BuildFacts(
    asked=None,
    registry="ecr",
    this_computer=False,
    dev_mode=False,
    engine="linux/amd64",
    no_engine="",
    platform="linux/amd64",
)


@pytest.mark.parametrize(
    ("change", "where", "expected"),
    [
        ({}, LOCAL, "the registry is ecr"),
        ({"registry": None}, INSTANCE, "no registry is configured"),
        ({"engine": None, "no_engine": "no engine answers"}, INSTANCE, "no engine answers"),
        ({"engine": "linux/arm64"}, INSTANCE, "the machine is linux/amd64"),
        ({"dev_mode": True}, INSTANCE, "dev-mode"),
        ({"this_computer": True}, INSTANCE, "on this computer"),
        ({"this_computer": True, "asked": LOCAL}, INSTANCE, "on this computer"),
        ({"asked": INSTANCE}, INSTANCE, "asked for"),
        ({"asked": LOCAL, "registry": None}, LOCAL, "asked for"),
        ({"asked": LOCAL, "engine": "linux/arm64"}, LOCAL, "asked for"),
        ({"platform": None}, LOCAL, "a Docker engine answers here"),
    ],
)
def test_the_location_and_its_reason(change: dict[str, object], where: str, expected: str) -> None:
    location = choose_build_location(replace(FACTS, **change))  # type: ignore[arg-type]

    assert location.where == where
    assert expected in location.reason


def test_here_without_an_engine_is_refused_and_another_word_is_none() -> None:
    with pytest.raises(Unsupported, match="no engine answers"):
        choose_build_location(replace(FACTS, asked=LOCAL, engine=None, no_engine="no engine answers"))
    with pytest.raises(RunctlError):
        choose_build_location(replace(FACTS, asked="moon"))
