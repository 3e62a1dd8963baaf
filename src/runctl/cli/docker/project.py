"""The project that a ``docker`` command is given in, and its Dockerfile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runctl.cli.context import Cli
from runctl.cli.settings.project import project_folder, project_label
from runctl.core.errors import ProjectError
from runctl.project.dockerfile import DockerfileChoice, DockerfileWish, choose_dockerfile, no_dockerfile


@dataclass(frozen=True)
class DockerProject:
    """Where the context is, what it is called, and what is built."""

    root: Path
    name: str
    dockerfile: DockerfileChoice


def docker_project(cli: Cli, dockerfile: Path | None, *, search: bool) -> DockerProject:
    """Raises `ProjectError` outside a project, and what `choose_dockerfile` raises; `NotFound` when there is none."""
    cwd = Path.cwd()
    folder = project_folder(cwd)
    if folder is None:
        raise ProjectError(
            f"{cwd} is in no project: there is no .git and no project file here or above",
            hint="run it in the project's folder, or make it one: git init",
            code="no-project",
        )
    root = folder.resolve()
    wish = DockerfileWish(dockerfile, cli.config.docker.dockerfile_path, search)
    choice = choose_dockerfile(root, cwd, wish)
    if choice is None:
        raise no_dockerfile(root)
    return DockerProject(root, project_label(None, cli.config, cwd) or root.name, choice)
