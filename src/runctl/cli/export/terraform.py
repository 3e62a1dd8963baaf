"""``export terraform``."""

from __future__ import annotations

from pathlib import Path

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.resources.common import EVERYONE, PROVIDER, check_provider, warn_of_unread
from runctl.core.text import counted


@click.command(
    cls=Command,
    name="terraform",
    examples=[
        ("runctl export terraform > runctl.tf", "then: terraform init && terraform plan"),
        ("runctl export terraform datasets --to datasets.tf", "one volume"),
    ],
)
@click.argument("references", metavar="[ID|NAME]...", nargs=-1)
@click.option("--project", metavar="NAME", help="Only of this project.")
@click.option(
    "--to", type=click.Path(dir_okay=False, path_type=Path), help="Write this file; by default to stdout."
)
@PROVIDER
@EVERYONE
@click.pass_obj
def terraform_command(
    cli: Cli,
    /,
    *,
    references: tuple[str, ...],
    project: str | None,
    to: Path | None,
    provider: str | None,
    everyone: bool,
) -> int:
    """Write what runctl has made as Terraform's resources, with their imports.

    Terraform takes them over as they are: its plan imports all of them and changes nothing. Nothing is changed here
    either. Exit code 1 means that something could not be read; it is named on stderr and in the file's first lines.
    """
    from runctl.cleanup.listing import Selection
    from runctl.core.files import write_atomically
    from runctl.export.terraform import export_terraform

    check_provider(provider)
    chosen = Selection(project=project, references=references)
    exported = export_terraform(cli.session, chosen, provider=provider, everyone=everyone)
    if to is not None:
        write_atomically(to, exported.text)
    count = counted(exported.imports, "resource")
    cli.emit(
        {
            "file": to,
            "imports": exported.imports,
            "configuration": exported.text if to is None else None,
            "left_out": exported.left_out,
            "unread": exported.unread,
        },
        text=lambda: exported.text if to is None else f"{count} in {to}",
        ids=[exported.text if to is None else str(to)],
    )
    if not exported.imports and not exported.unread:
        cli.progress.note("nothing that runctl has made can be written for Terraform")
    return warn_of_unread(cli, exported.unread)
