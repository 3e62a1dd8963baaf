"""The options that say which volumes a machine, or a run, is to have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from runctl.cli.framework.completion import complete_volumes
from runctl.cli.framework.values import MOUNT_POINT, VOLUME, VOLUME_AT, pair_volumes
from runctl.providers.instance_plans import VolumeMount
from runctl.providers.registry import plugin

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

FLAGS = ("--volume", "--ebs-volume", "--mount-point")


def volume_flags(provider: str, *, attached: str, mounted: str) -> list[Decorator]:
    """``--volume``, and where volumes can be attached to a machine that is there, ``--ebs-volume`` with its
    ``--mount-point``; nothing where the provider has no volumes. `volumes_of` makes one list of their values.

    ``attached`` and ``mounted`` are the help of these two.
    """
    group = plugin(provider).volumes
    if group is None:
        return []
    when = "The volume to create the machine with" if group.chosen_at_creation else "Attach a volume"
    options: list[Decorator] = [
        click.option(
            "--volume",
            "volumes_at",
            type=VOLUME_AT,
            shell_complete=complete_volumes,
            multiple=True,
            help=f"{when}, mounted at PATH (default: where it was last, else /mnt/NAME).",
        )
    ]
    if not group.chosen_at_creation:
        options += [
            click.option(
                "--ebs-volume",
                "ebs_volumes",
                metavar="ID|NAME",
                type=VOLUME,
                shell_complete=complete_volumes,
                multiple=True,
                help=attached,
            ),
            click.option("--mount-point", "mount_points", type=MOUNT_POINT, multiple=True, help=mounted),
        ]
    return options


def volumes_of(
    volumes_at: Sequence[VolumeMount] = (),
    ebs_volumes: Sequence[str] = (),
    mount_points: Sequence[str] = (),
) -> tuple[VolumeMount, ...]:
    """All that the options of `volume_flags` name. Raises `UsageError`."""
    return (*volumes_at, *pair_volumes(ebs_volumes, mount_points))
