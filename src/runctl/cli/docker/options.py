"""Options that say which Dockerfile an image is built from, how, and where."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from runctl.cli.framework.options import with_options
from runctl.containers.image_plan import BuildOptions, Rebuild
from runctl.providers.registry import usual_registry

F = TypeVar("F", bound=Callable[..., Any])


def dockerfile_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The parameters ``dockerfile`` and ``dockerfile_search``."""
    return with_options(
        function,
        (
            click.option(
                "--dockerfile",
                metavar="PATH",
                type=click.Path(path_type=Path),
                help="Build from this Dockerfile (default: [docker] dockerfile_path, else one in a known location).",
            ),
            click.option(
                "--dockerfile-search",
                is_flag=True,
                help="If there is none in the known locations, search the whole project, except what is ignored.",
            ),
        ),
    )


def build_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The parameter ``build``: `BuildOptions`."""

    @functools.wraps(function)
    def wrapper(*args: Any, **options: Any) -> Any:
        build = BuildOptions(
            target=options.pop("target"),
            args=options.pop("build_args"),
            secrets=options.pop("build_secrets"),
            platform=options.pop("platform"),
            rebuild=Rebuild(options.pop("rebuild"), options.pop("pull")),
        )
        return function(*args, build=build, **options)

    added = (
        click.option("--target", metavar="STAGE", help="Build this stage of the Dockerfile."),
        click.option(
            "--build-arg",
            "build_args",
            multiple=True,
            metavar="K=V",
            help="Set an ARG of the Dockerfile; K alone takes the variable's value. Repeatable.",
        ),
        click.option(
            "--secret",
            "build_secrets",
            multiple=True,
            metavar="id=NAME,src=FILE|env=VAR",
            help="Make it available to RUN --mount=type=secret,id=NAME; it ends up in no image and no command"
            " line. Repeatable.",
        ),
        click.option(
            "--platform",
            metavar="OS/ARCH",
            help="Build for this platform; by default the machine's, not this computer's.",
        ),
        click.option("--rebuild", is_flag=True, help="Build even if the image exists, without any cache."),
        click.option(
            "--pull",
            is_flag=True,
            help="Build even if the image exists, on the newest base images.",
        ),
    )
    return with_options(wrapper, added)


def registry_option(function: F) -> F:
    """The parameter ``registry``: ``None`` leaves it to the configuration."""
    return click.option(
        "--registry",
        metavar=f"{usual_registry()}|HOST/PATH",
        help="Use this registry (default: [docker] registry).",
    )(function)


def build_on_option(function: F) -> F:
    """The parameter ``build_on``: ``None`` leaves it to the configuration, then to what there is."""
    return click.option(
        "--build-on",
        type=click.Choice(["local", "instance"]),
        help="Build the image here, for the machine to pull from the registry, or on the machine.",
    )(function)
