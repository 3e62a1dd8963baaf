"""``init``: a first configuration file, with what can be seen in the project filled in."""

from __future__ import annotations

from pathlib import Path

import click

from runctl._dataclasses import dataclass
from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.core.config.files import FILE_NAME, find_project_file
from runctl.core.errors import Conflict
from runctl.core.files import write_atomically
from runctl.project.docker.dockerfile import find_dockerfile
from runctl.project.files import ProjectFiles
from runctl.project.label import fit_for_a_tag, project_folder
from runctl.providers.registry import plugins

TEMPLATE = """\
# runctl's configuration. Flags and RUNCTL_... variables outrank it; the user's own file stands below it.
# runctl config show prints every key, its value and where it comes from.

[project]
name = {name}

{providers}[docker]
{docker}

[train]
# timeout = "8h"
# grace = "30s"                   # between SIGTERM and SIGKILL

[sync]
# include_patterns = ["data/small/*.csv"]   # files that the ignore rules leave out
"""


@dataclass(frozen=True)
class Seen:
    """What can be told from the project's folder."""

    root: Path
    name: str
    dockerfile: bool


@click.command(cls=Command)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.option("--name", metavar="NAME", help="The project's name (default: the folder's).")
@click.pass_obj
def init(cli: Cli, force: bool, name: str | None) -> None:
    """Write a .runctl.toml for this project.

    An existing file is overwritten only with --force, or if you answer yes.
    """
    seen = describe_project(Path.cwd(), name)
    target = seen.root / FILE_NAME
    existing, _ = find_project_file(seen.root)
    if existing is not None and existing.table:
        raise Conflict(
            f"{existing.path} has a [tool.runctl] table already",
            hint="runctl config set changes it; two files side by side are refused",
            code="configured",
        )
    if target.exists() and not force:
        cli.confirm(f"{target} exists. Overwrite it?")
    write_atomically(target, render(seen))
    cli.emit(
        {"file": target, "project": seen.name},
        text=lambda: f"wrote {target}\nnext: runctl doctor",
        ids=[str(target)],
    )


def describe_project(folder: Path, name: str | None) -> Seen:
    """The project that a folder belongs to, or the folder itself."""
    root = project_folder(folder) or folder
    return Seen(root, fit_for_a_tag(name or root.name), find_dockerfile(ProjectFiles(root)) is not None)


def render(seen: Seen) -> str:
    """The file's text."""
    docker = (
        "# The Dockerfile is found by itself; enabled = false runs on the host all the same.\n# enabled = true"
        if seen.dockerfile
        else '# image = "pytorch/pytorch:latest"   # runs happen in a container of it'
    )
    providers = "".join(f"{plugin.config_template}\n" for plugin in plugins() if plugin.config_template)
    return TEMPLATE.format(name=f'"{seen.name}"', docker=docker, providers=providers)
