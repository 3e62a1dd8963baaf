"""What options may hold: durations, tags, mount points, ids; each with an error that says how to write it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runctl.core.clock import parse_duration
from runctl.core.errors import UsageError
from runctl.core.money import parse_usd
from runctl.core.mount_points import is_system_folder
from runctl.core.tags import CLOUDS_OWN, NAME
from runctl.core.text import with_article
from runctl.transport.interface import PortForward, parse_forward

if TYPE_CHECKING:
    from runctl.providers.instance_plans import VolumeMount

F = TypeVar("F", bound=Callable[..., Any])


class Duration(click.ParamType[timedelta]):
    """``90s``, ``15m``, ``2h``, ``1h30m``."""

    name = "duration"

    def convert(
        self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """The time span."""
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Timeout(Duration):
    """A duration, or ``off``: zero."""

    name = "duration|off"

    def convert(
        self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """The time span."""
        return timedelta(0) if value == "off" else super().convert(value, param, ctx)


class Price(click.ParamType[Decimal]):
    """An amount of money above zero, such as ``0.50``; ``example`` says how to write one."""

    def __init__(self, example: str, *, name: str = "price") -> None:
        self.name, self._example = name, example

    def convert(
        self, value: str | Decimal, param: click.Parameter | None, ctx: click.Context | None
    ) -> Decimal:
        """The amount."""
        try:
            amount = parse_usd(str(value))
        except ValueError:
            amount = Decimal(0)
        if not amount:
            self.fail(f"{value!r} is not a price; write {self._example}", param, ctx)
        return amount


class Budget(click.ParamType[Decimal]):
    """An amount of US dollars above zero: ``25usd``, ``25`` or ``$25``."""

    name = "usd"

    def convert(
        self, value: str | Decimal, param: click.Parameter | None, ctx: click.Context | None
    ) -> Decimal:
        """The amount."""
        try:
            amount = parse_usd(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not amount:
            self.fail(f"{value} is nothing at all; write 25usd, for example", param, ctx)
        return amount


class BudgetOrOff(Budget):
    """The same, or ``off``: zero."""

    name = "usd|off"

    def convert(
        self, value: str | Decimal, param: click.Parameter | None, ctx: click.Context | None
    ) -> Decimal:
        """The amount."""
        return Decimal(0) if value == "off" else super().convert(value, param, ctx)


class Forward(click.ParamType[PortForward]):
    """A port of this computer that leads to the machine: ``8265``, ``8265:127.0.0.1:8265``."""

    name = "forward"

    def convert(
        self, value: str | PortForward, param: click.Parameter | None, ctx: click.Context | None
    ) -> PortForward:
        """The ports."""
        try:
            return value if isinstance(value, PortForward) else parse_forward(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


FORWARD = Forward()


class WholeNumber(click.ParamType[int]):
    """A number without a fraction, from ``least`` to ``most``, in a unit that is not written."""

    name = "number"

    def __init__(self, least: int, most: int | None = None, *, unit: str = "", singular: str = "") -> None:
        self.least, self.most = least, most
        self.unit, self.singular = unit, singular or unit

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number."""
        if isinstance(value, int):
            return value
        text = value.strip()
        try:
            number = int(text)
        except ValueError:
            self.fail(f"{value!r} is not a whole number{self._example(text)}", param, ctx)
        if number < self.least:
            self.fail(f"{number} is too small: {self._amount(self.least)} is the least", param, ctx)
        if self.most is not None and number > self.most:
            self.fail(f"{number} is too large: {self._amount(self.most)} is the most", param, ctx)
        return number

    def _amount(self, number: int) -> str:
        return f"{number} {self.singular if number == 1 else self.unit}".strip()

    def _example(self, text: str) -> str:
        digits = re.match(r"\d+", text)
        number = int(digits[0]) if digits and self.least <= int(digits[0]) else max(self.least, 1)
        return f": write {number} for {self._amount(number)}" if self.unit else f", such as {number}"


class MountPoint(click.ParamType[str]):
    """An absolute path on the machine, without ``..``, and not one that the system lives in."""

    name = "path"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The path, normalised."""
        path = PurePosixPath(value)
        if not path.is_absolute():
            self.fail(f"{value!r} is not an absolute path; write /mnt/data, for example", param, ctx)
        if ".." in path.parts:
            self.fail(f"{value!r} holds '..'", param, ctx)
        if is_system_folder(value):
            self.fail(f"{value!r} belongs to the system; write /mnt/data, for example", param, ctx)
        return "/" + "/".join(path.parts[1:])


class Reference(click.ParamType[str]):
    """A name or an id of one kind of thing; the id of another kind is refused, and said to be one."""

    name = "reference"

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As it was written."""
        kinds = kinds_of_id(value)
        if kinds and self.kind not in kinds:
            self.fail(
                f"{value} is {with_article(kinds[0])}, and {with_article(self.kind)} is needed here",
                param,
                ctx,
            )
        return value


class VolumeAt(click.ParamType["VolumeMount"]):
    """``NAME``, or ``NAME:/PATH``: a volume by id or name, and where it is to be mounted."""

    name = "name[:path]"

    def convert(
        self, value: str | VolumeMount, param: click.Parameter | None, ctx: click.Context | None
    ) -> VolumeMount:
        """The two of them."""
        from runctl.providers.instance_plans import VolumeMount

        if isinstance(value, VolumeMount):
            return value
        volume, colon, path = value.partition(":")
        if not volume:
            self.fail(f"{value!r} names no volume; write datasets:/data", param, ctx)
        volume = Reference("volume").convert(volume, param, ctx)
        return VolumeMount(volume, MountPoint().convert(path, param, ctx) if colon else None)


_RUN_ID = re.compile(r"run-[0-9a-z]{10}")


def kinds_of_id(text: str) -> list[str]:
    """What the text is an id of, such as ``volume``; none where it can only be a name."""
    from runctl.providers.registry import plugins

    if _RUN_ID.fullmatch(text):
        return ["run"]
    return [each.kind for plugin in plugins() for each in plugin.ids if re.fullmatch(each.pattern, text)]


RUN = Reference("run")
SNAPSHOT = Reference("snapshot")
VOLUME = Reference("volume")
DURATION = Duration()
TIMEOUT = Timeout()
BUDGET = Budget()
BUDGET_OR_OFF = BudgetOrOff()
COUNT = WholeNumber(1)
LINES = WholeNumber(0)
VOLUME_AT = VolumeAt()
GIB = WholeNumber(1, unit="GiB")
MIB_PER_SECOND = WholeNumber(1, unit="MiB/s")
MOUNT_POINT = MountPoint()


trace_means_option = click.option(
    "--trace-means",
    type=click.Choice(["available", "preempted"]),
    default="available",
    show_default=True,
    help="What a number above 0 in the traces means.",
)
"""See `runctl.simulation.traces.Means`."""


node_option = click.option(
    "--node", type=WholeNumber(0), metavar="RANK", help="For a run on several machines: only this one."
)


def format_option(help_text: str) -> Callable[[F], F]:
    """``--format``, as ``form``: a table, or the same as a whole document."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(["table", "csv", "json", "html"]),
        default="table",
        show_default=True,
        help=help_text,
    )


def check_format(form: str | None, *, as_json: bool) -> None:
    """Raises `UsageError` where stdout would be another format than ``--output json`` promises."""
    if as_json and form in {"csv", "html"}:
        raise UsageError(
            f"--format {form} and --output json contradict each other",
            hint="leave one of them out",
        )


wide_option = click.option("--wide", is_flag=True, help="Show every column, however wide the terminal is.")


def parse_tags(texts: Iterable[str], *, names: bool = True) -> dict[str, str]:
    """``K=V`` pairs. Raises `UsageError` for another form, a key given twice, or one of runctl's own; and, unless they
    name something (``names``), for the tag that has its name, which ``--name`` gives."""
    tags: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"--tag {text}: expected KEY=VALUE", hint="for example --tag team=vision")
        if key.lower().startswith(("runctl:", CLOUDS_OWN)):
            raise UsageError(f"--tag {text}: tags that begin with {key.split(':')[0]}: are not yours to set")
        if key == NAME and not names:
            raise UsageError(f"--tag {text} would have no effect", hint=f"--name {shlex.quote(value)}")
        if key in tags:
            raise UsageError(f"--tag {key} is given twice")
        tags[key] = value
    return tags


def pair_volumes(volumes: Sequence[str], mount_points: Sequence[str]) -> tuple[VolumeMount, ...]:
    """The first volume goes to the first mount point, and so on; without any, each goes where it belongs.

    Raises `UsageError` when one has no partner, or a volume or a path is named twice.
    """
    if len(volumes) > len(mount_points) > 0:
        lonely = volumes[len(mount_points)]
        suggestion = "/mnt/data" if "/mnt/data" not in mount_points else f"/mnt/{lonely}"
        raise UsageError(
            f"--ebs-volume {lonely} has no --mount-point",
            hint=f"say where to mount it: --ebs-volume {lonely} --mount-point {suggestion}; or leave out every"
            " --mount-point: each volume then goes where it was last, else to /mnt/NAME",
            code="unpaired",
        )
    if len(mount_points) > len(volumes):
        raise UsageError(
            f"--mount-point {mount_points[len(volumes)]} has no --ebs-volume",
            hint="each mount point needs a volume; a fresh disk's place is set by --data-mount-point",
            code="unpaired",
        )
    from runctl.providers.instance_plans import VolumeMount

    for flag, values in (("--ebs-volume", volumes), ("--mount-point", mount_points)):
        for value in values:
            if list(values).count(value) > 1:
                raise UsageError(f"{flag} {value} is given twice")
    for inner in mount_points:
        for outer in mount_points:
            if inner.startswith(outer + "/"):
                raise UsageError(f"--mount-point {inner} lies inside {outer}", hint="mount them side by side")
    if not mount_points:
        return tuple(map(VolumeMount, volumes))
    return tuple(VolumeMount(*pair) for pair in zip(volumes, mount_points, strict=True))
