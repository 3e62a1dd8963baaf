"""The options of ``train`` that are about its container."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runctl.containers.running import ContainerWishes
from runctl.core.clock import parse_duration
from runctl.core.config import Config
from runctl.core.errors import UsageError

if TYPE_CHECKING:
    from runctl.cli.train.training import WatchWish
    from runctl.runs.plan import ProjectPlan

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def container_options(function: F) -> F:
    """The parameter ``container_wishes``, gathered from options of their own."""

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
        wishes = ContainerWishes(
            entrypoint=None if entrypoint is None else split_words(entrypoint, "--entrypoint"),
            user=user,
            gpus=gpus,
            shm_mib=None if shm_size is None else parse_size_mib(shm_size),
            docker_args=docker_args,
            compose=compose,
        )
        return function(*arguments, container_wishes=wishes, **others)

    options = [
        click.option(
            "--compose",
            metavar="SERVICE",
            help="Run in this service of the project's compose.yaml, with the others beside it; without a script,"
            " what the service itself starts.",
        ),
        click.option(
            "--entrypoint",
            metavar="PROGRAM",
            help="Start this in the container instead of the image's own entry point; '' is none.",
        ),
        click.option(
            "--user",
            metavar="USER",
            help="Run as this user in the container (default: the login user; '' is the image's own).",
        ),
        click.option(
            "--gpus",
            metavar="all|N|none",
            help="GPUs for the container (default: all where there are some). Asked for and missing is an error.",
        ),
        click.option(
            "--shm-size", metavar="SIZE", help="Shared memory, such as 8g (default: a quarter of the memory)."
        ),
        click.option(
            "--docker-arg",
            "docker_args",
            multiple=True,
            metavar="OPTION",
            help="One more option of docker run, in one word: --docker-arg=--network=host. Repeatable.",
        ),
    ]
    decorated: Any = gather
    for option in reversed(options):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


def with_configuration(wishes: ContainerWishes, config: Config) -> ContainerWishes:
    """What the configuration adds to the flags."""
    return replace(wishes, pull_timeout=parse_duration(config.docker.pull_timeout))


def split_words(text: str, option: str) -> tuple[str, ...]:
    """The words of a short command line. Raises `UsageError` for a quote that is not closed."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"{option} {text}: {error}", hint="close the quotes") from error


def parse_size_mib(text: str) -> int:
    """``8g``, ``512m`` or bytes, as docker reads sizes, in whole MiB. Raises `UsageError`."""
    word = text.strip().lower().removesuffix("ib")
    word = word.removesuffix("b") if word[-2:-1].isalpha() else word
    number, unit = (word[:-1], word[-1:]) if word[-1:].isalpha() else (word, "")
    try:
        size = float(number) * _UNITS[unit]
    except (KeyError, ValueError):
        size = 0.0
    if not (1 << 20) <= size < (1 << 50):
        raise UsageError(f"--shm-size {text}: it is not a size of 1 MiB or more", hint="such as 512m or 8g")
    return int(size) >> 20


def interpreter_of(script: Path | None, flag: str | None, configured: Mapping[str, str]) -> tuple[str, ...]:
    """The words that run the script: the flag's, else those configured for its extension; empty for neither."""
    if flag is not None:
        if not flag.strip():
            raise UsageError(
                "--interpreter is empty", hint="name a program, such as --interpreter python3.12"
            )
        return split_words(flag, "--interpreter")
    if script is None or not script.suffix:
        return ()
    extension = script.suffix.lower().removeprefix(".")
    known = {name.lower().removeprefix("."): text for name, text in configured.items()}
    return split_words(known[extension], f"train.interpreters.{extension}") if extension in known else ()


def code_wish(sync_code: bool | None, *, dev_mode: bool) -> bool | None:
    """Both options in one word. Raises `UsageError` when they contradict each other."""
    if dev_mode and sync_code is False:
        raise UsageError(
            "--dev-mode and --no-sync-code contradict each other",
            hint="dev-mode runs the project as it was synced; leave one of them out",
        )
    return True if dev_mode else sync_code


def starts_service(script: Path | None, rest: tuple[str, ...], wishes: ContainerWishes) -> bool:
    """A Compose service without a script starts what it says itself."""
    if script is not None or wishes.compose is None:
        return False
    if rest:
        raise UsageError(
            "arguments follow --, and there is no script that they are for",
            hint="name a script, or run them as a command with --command",
        )
    return True


def watch_wish(project: ProjectPlan, *, watch: bool, restart_on_change: bool) -> WatchWish:
    """What a save does. Raises `UsageError` where that would change nothing of what runs."""
    from runctl.cli.train.training import WatchWish
    from runctl.cli.train.watch import check_watch

    if not watch:
        if restart_on_change:
            raise UsageError("--restart-on-change needs --watch", hint="add --watch")
        return WatchWish.NOT
    check_watch(project.container, synced=project.sent.selection is not None)
    return WatchWish.RESTART if restart_on_change else WatchWish.SYNC
