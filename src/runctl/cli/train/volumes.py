"""The options of ``train`` that are about volumes: what the script sees where, and what is attached for it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from runctl.cli.framework.completion import complete_volumes
from runctl.cli.framework.values import MOUNT_POINT, VOLUME, pair_volumes
from runctl.cli.machines.resolve import LOCAL

if TYPE_CHECKING:
    from runctl.providers.interface import VolumeMount


@dataclass(frozen=True)
class VolumeOptions:
    """As they were given."""

    ebs_mounts: tuple[str, ...]
    automatic: bool
    volumes: tuple[VolumeMount, ...]


def volume_options(provider: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds the options; the command gets them as the one parameter ``on_volumes``."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def bundled(
            *args: Any,
            ebs_mounts: tuple[str, ...],
            no_ebs_auto: bool,
            ebs_volumes: tuple[str, ...] = (),
            mount_points: tuple[str, ...] = (),
            **rest: Any,
        ) -> Any:
            options = VolumeOptions(ebs_mounts, not no_ebs_auto, pair_volumes(ebs_volumes, mount_points))
            return function(*args, on_volumes=options, **rest)

        for option in reversed(_options(provider)):
            bundled = option(bundled)
        return bundled

    return decorate


def _options(provider: str) -> list[Callable[[Callable[..., Any]], Callable[..., Any]]]:
    local = provider == LOCAL
    what = "a folder" if local else "a volume (a path on the machine, a volume id or name)"
    options: list[Callable[[Callable[..., Any]], Callable[..., Any]]] = [
        click.option(
            "--ebs-mount",
            "ebs_mounts",
            multiple=True,
            metavar="SOURCE:TARGET[:ro]",
            help=f"Show {what} to the script at TARGET.{'' if local else ' Attached first if it is not.'} Repeatable.",
        ),
        click.option(
            "--no-ebs-auto", is_flag=True, help="Leave out mounted volumes that no --ebs-mount names."
        ),
    ]
    if not local:
        options += [
            click.option(
                "--ebs-volume",
                "ebs_volumes",
                multiple=True,
                metavar="ID|NAME",
                type=VOLUME,
                shell_complete=complete_volumes,
                help="Attach and mount a volume; the script sees it at the same path. Repeatable.",
            ),
            click.option(
                "--mount-point",
                "mount_points",
                type=MOUNT_POINT,
                multiple=True,
                help="Where, for each --ebs-volume in turn; without any, where it was last, else /mnt/NAME.",
            ),
        ]
    return options
