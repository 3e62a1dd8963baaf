"""Images as names and command lines."""

from __future__ import annotations

from pathlib import Path

from runctl.agent.images.build import build_options, default_tag
from runctl.agent.spec import ContainerSpec


def test_a_tag_is_one_that_registries_take() -> None:
    assert default_tag("My Project_2!", "abcdef0123456789") == "runctl/my-project-2:abcdef012345"
    assert default_tag("!!!", "") == "runctl/project:latest"


def test_the_builds_context_is_the_root_wherever_the_dockerfile_is() -> None:
    container = ContainerSpec(dockerfile="docker/Dockerfile")
    options = build_options(container, "p", Path("/work"), "t:1", buildkit=True)
    assert options[options.index("--file") + 1] == "/work/docker/Dockerfile"
    assert options[-1] == "/work"
