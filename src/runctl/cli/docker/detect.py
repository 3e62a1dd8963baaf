"""``docker``: which Dockerfile, building its image, pushing it, and what there is of them."""

from __future__ import annotations

from pathlib import Path

import click

from runctl.cli.context import Cli
from runctl.cli.docker.options import dockerfile_options
from runctl.cli.docker.project import docker_project
from runctl.cli.framework.commands import Command


@click.command(cls=Command)
@dockerfile_options
@click.pass_obj
def detect(cli: Cli, dockerfile: Path | None, dockerfile_search: bool) -> None:
    """Show which Dockerfile an image would be built from, and why.

    The first that there is: --dockerfile, [docker] dockerfile_path, a known place, --dockerfile-search.
    """
    from runctl.containers.dockerfile_text import parse_dockerfile
    from runctl.containers.image_inputs import unpinned_bases
    from runctl.project.dockerignore import ignore_file
    from runctl.render.images import detected_document, detected_text

    project = docker_project(cli, dockerfile, search=dockerfile_search)
    parsed = parse_dockerfile((project.root / project.dockerfile.path).read_text(encoding="utf-8-sig"))
    found = detected_document(
        project.root,
        project.dockerfile,
        ignore_file(project.root, project.dockerfile.path),
        parsed,
        unpinned_bases(parsed, None),
    )
    cli.emit(found, text=lambda: detected_text(found), ids=[project.dockerfile.path])
