"""Images as names and command lines."""

from __future__ import annotations

from pathlib import Path

from runctl.agent.images.image_plan import build, tag
from runctl.agent.spec import ContainerSpec, RunSpec


def test_a_tag_is_one_that_registries_take() -> None:
    assert tag("My Project_2!", "abcdef0123456789") == "runctl/my-project-2:abcdef012345"
    assert tag("!!!", "") == "runctl/project:latest"


def test_the_builds_context_is_the_root_wherever_the_dockerfile_is() -> None:
    one = RunSpec("r", "train.py", project="p", container=ContainerSpec(dockerfile="docker/Dockerfile"))
    words = build(one, Path("/work"), "t:1", plain_progress=True)
    assert words[words.index("--file") + 1] == "/work/docker/Dockerfile"
    assert words[-1] == "/work"
