"""The options of ``train`` that are about its container, its volumes, its interpreter and its code."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from runctl._dataclasses import dataclass
from runctl.checkpoints.keeping import Keeping
from runctl.cli.framework.options import MayBeEmpty, with_options
from runctl.cli.framework.values import COUNT
from runctl.cli.machines.volume_options import volume_flags, volumes_of
from runctl.containers.container_options import ContainerOptions
from runctl.containers.mounts import VOLUME_FLAG, MountRequest, parse_mount
from runctl.core.errors import UsageError
from runctl.providers.instance_plans import VolumeMount
from runctl.providers.registry import plugin
from runctl.runs.train.request import split_command

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def container_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The parameter ``container``, gathered from options of their own."""

    @functools.wraps(function)
    def gather(
        *arguments: Any,
        entrypoint: str | None,
        user: str | None,
        gpus: str | None,
        shm_size: str | None,
        docker_args: tuple[str, ...],
        compose: str | None,
        **others: Any,
    ) -> Any:
        container = ContainerOptions(
            entrypoint=None if entrypoint is None else split_command(entrypoint, "--entrypoint"),
            user=user,
            gpus=gpus,
            shm_mib=None if shm_size is None else parse_size_mib(shm_size),
            docker_args=docker_args,
            compose=compose,
        )
        return function(*arguments, container=container, **others)

    options = [
        click.option(
            "--compose",
            metavar="SERVICE",
            help="Run in this service of the project's compose.yaml, along with the others; without a script,"
            " what the service itself starts.",
        ),
        click.option(
            "--entrypoint",
            cls=MayBeEmpty,
            metavar="PROGRAM",
            help="Use this entry point in place of the image's own; '' is none.",
        ),
        click.option(
            "--user",
            cls=MayBeEmpty,
            metavar="USER",
            help="Run as this user in the container (default: the login user; '' is the image's own).",
        ),
        click.option(
            "--gpus",
            metavar="all|N|none",
            help="GPUs for the container (default: all). An error if the machine has fewer.",
        ),
        click.option(
            "--shm-size", metavar="SIZE", help="Shared memory, such as 8g (default: a quarter of the memory)."
        ),
        click.option(
            "--docker-arg",
            "docker_args",
            multiple=True,
            metavar="OPTION",
            help="Another option for docker run, as one argument: --docker-arg=--network=host. Repeatable.",
        ),
    ]
    return with_options(gather, options)


def checkpoint_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The parameter ``keeping``, gathered from options of their own."""

    @functools.wraps(function)
    def gather(
        *arguments: Any,
        checkpoint_s3: str | None,
        checkpoint_folder: str | None,
        checkpoint_endpoint: str | None,
        checkpoint_every: str | None,
        keep_last: int | None,
        keep_best: tuple[str, ...],
        no_checkpoint: bool,
        **others: Any,
    ) -> Any:
        if checkpoint_s3 is not None and checkpoint_folder is not None:
            raise UsageError(
                "--checkpoint-s3 and --checkpoint-folder cannot be used together",
                hint="leave one of them out",
            )
        if no_checkpoint and (checkpoint_s3 or checkpoint_folder):
            raise UsageError(
                "--no-checkpoint and a store for checkpoints cannot be used together",
                hint="leave one of them out",
            )
        keeping = Keeping(
            s3=checkpoint_s3,
            folder=checkpoint_folder,
            endpoint=checkpoint_endpoint,
            every=checkpoint_every,
            keep_last=keep_last,
            keep_best=keep_best,
            without=no_checkpoint,
        )
        return function(*arguments, keeping=keeping, **others)

    options = [
        click.option(
            "--checkpoint-s3",
            metavar="s3://BUCKET/PREFIX",
            help="Publish each complete checkpoint and the log there, while the run goes on; another machine resumes"
            " from it. own/PREFIX is the bucket that the provider has for the account.",
        ),
        click.option(
            "--checkpoint-folder",
            metavar="PATH",
            help="Publish to a folder of the machine instead, such as a shared mount.",
        ),
        click.option(
            "--checkpoint-endpoint",
            metavar="URL",
            help="With --checkpoint-s3: the S3-compatible store (default: the provider's own).",
        ),
        click.option(
            "--checkpoint-every",
            metavar="TIME|auto",
            help="Ask the script for a checkpoint this often; auto weighs what one costs against interruptions.",
        ),
        click.option(
            "--keep-last",
            type=COUNT,
            metavar="N",
            help="Keep only the newest N checkpoints in the store (default: all).",
        ),
        click.option(
            "--keep-best",
            multiple=True,
            metavar="GLOB",
            help="With --keep-last: keep the newest of each name that matches as well, such as 'best*'. Repeatable.",
        ),
        click.option(
            "--no-checkpoint",
            is_flag=True,
            help="Publish no checkpoints: if a spot machine is taken back, what was saved on it is lost.",
        ),
    ]
    return with_options(gather, options)


def parse_size_mib(text: str) -> int:
    """``8g``, ``512m`` or bytes, as docker reads sizes, in whole MiB. Raises `UsageError`."""
    size_text = text.strip().lower().removesuffix("ib")
    size_text = size_text.removesuffix("b") if size_text[-2:-1].isalpha() else size_text
    number, unit = (size_text[:-1], size_text[-1:]) if size_text[-1:].isalpha() else (size_text, "")
    try:
        size = float(number) * _UNITS[unit]
    except (KeyError, ValueError):
        size = 0.0
    if not (1 << 20) <= size < (1 << 50):
        raise UsageError(f"--shm-size {text}: it is not a size of 1 MiB or more", hint="such as 512m or 8g")
    return int(size) >> 20


def parse_interpreter(text: str | None) -> tuple[str, ...]:
    """``--interpreter``; empty where it is not given. Raises `UsageError`."""
    if text is not None and not text.strip():
        raise UsageError("--interpreter is empty", hint="name a program, such as --interpreter python3.12")
    return () if text is None else split_command(text, "--interpreter")


def sync_choice(sync_code: bool | None, *, dev_mode: bool) -> bool | None:
    """``--sync-code`` and ``--dev-mode`` together. Raises `UsageError` when they contradict each other."""
    if dev_mode and sync_code is False:
        raise UsageError(
            "--dev-mode and --no-sync-code contradict each other",
            hint="dev-mode runs the project as it was synced; leave one of them out",
        )
    return True if dev_mode else sync_code


@dataclass(frozen=True)
class VolumeOptions:
    """What the script is to see."""

    mounts: tuple[MountRequest, ...]
    automatic: bool


def volume_options(provider: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds the options; the command gets them as the one parameter ``volumes``."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def bundled(
            *args: Any,
            no_ebs_auto: bool,
            ebs_mounts: tuple[str, ...] = (),
            volumes_at: tuple[VolumeMount, ...] = (),
            ebs_volumes: tuple[str, ...] = (),
            mount_points: tuple[str, ...] = (),
            **rest: Any,
        ) -> Any:
            pairs = volumes_of(volumes_at, ebs_volumes, mount_points)
            mounts = tuple(parse_mount(text) for text in ebs_mounts)
            mounts += tuple(
                MountRequest(pair.volume, "", False, VOLUME_FLAG, pair.mount_point) for pair in pairs
            )
            return function(*args, volumes=VolumeOptions(mounts, automatic=not no_ebs_auto), **rest)

        return with_options(bundled, _options(provider))

    return decorate


def _options(provider: str) -> list[Callable[[Callable[..., Any]], Callable[..., Any]]]:
    described = plugin(provider)
    group = described.volumes
    folder = "a folder" if described.this_computer else "a folder of the machine"
    attached = " It is attached first if necessary." if group is not None else ""
    what = "a volume (a path on the machine, a volume id or name)" if group is not None else folder
    options: list[Callable[[Callable[..., Any]], Callable[..., Any]]] = []
    if group is None or not group.chosen_at_creation:
        options.append(
            click.option(
                "--ebs-mount",
                "ebs_mounts",
                multiple=True,
                metavar="SOURCE:TARGET[:ro]",
                help=f"Mount {what} at TARGET for the script.{attached} Repeatable.",
            )
        )
    options.append(
        click.option("--no-ebs-auto", is_flag=True, help="Leave out mounted volumes that no option names.")
    )
    options += volume_flags(
        provider,
        attached="Attach and mount a volume; the script sees it at the same path. Repeatable.",
        mounted="Mount each --ebs-volume, in turn, here (default: where it was last, else /mnt/NAME).",
    )
    return options
