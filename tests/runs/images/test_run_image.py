"""What the options of a build are to a run that builds nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runctl.agent.spec import ContainerSpec
from runctl.containers.container_options import NO_DOCKERFILE
from runctl.containers.image_plan import BuildOptions, Rebuild
from runctl.core.config import Config
from runctl.core.errors import UsageError
from runctl.machines.session import Session
from runctl.runs.images.run_image import RunImage
from runctl.runs.images.settled_image import BY_CONFIGURATION, ImageOptions

BUILD_OPTIONS = {
    "--target": ImageOptions(BuildOptions(target="train"), None),
    "--build-arg": ImageOptions(BuildOptions(args=("A=1",)), None),
    "--secret": ImageOptions(BuildOptions(secrets=("id=a,src=a",)), None),
    "--platform": ImageOptions(BuildOptions(platform="linux/arm64"), None),
    "--rebuild": ImageOptions(BuildOptions(rebuild=Rebuild(no_cache=True)), None),
    "--pull": ImageOptions(BuildOptions(rebuild=Rebuild(pull=True)), None),
    "--build-on": ImageOptions(BuildOptions(), "local"),
}


def image_of(container: ContainerSpec | None, options: ImageOptions) -> RunImage:
    instance: Any = SimpleNamespace(provider="local")
    return RunImage(Session(config=Config()), options, container, Path(), instance, None)


@pytest.mark.parametrize("container", [None, ContainerSpec(image="ubuntu:22.04")], ids=["host", "image"])
@pytest.mark.parametrize("option", BUILD_OPTIONS)
def test_an_option_of_a_build_is_refused_where_nothing_is_built(
    option: str, container: ContainerSpec | None
) -> None:
    with pytest.raises(UsageError, match="not built from a Dockerfile"):
        image_of(container, BUILD_OPTIONS[option]).settle(None, "train.py")


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        (NO_DOCKERFILE, "name one with --dockerfile PATH, or leave them out"),
        ("--no-docker", "leave them out, or --no-docker"),
        ("--compose", "leave them out, or --compose"),
        ("image ubuntu:22.04", "leave them out"),
        ("the machine is a container of ubuntu:22.04", "leave them out"),
    ],
)
def test_its_hint_names_no_option_that_contradicts_what_is_given(reason: str, hint: str) -> None:
    image = replace(image_of(None, BUILD_OPTIONS["--rebuild"]), container_reason=reason)

    with pytest.raises(UsageError) as raised:
        image.settle(None, "train.py")

    assert reason in raised.value.message
    assert raised.value.hint == hint


def test_a_run_on_the_host_has_no_image() -> None:
    assert image_of(None, BY_CONFIGURATION).settle(None, "train.py") is None
