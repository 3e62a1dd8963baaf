"""Options that say which machines would do, at what price, and what happens when none can be had."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import click

from runctl.cli.framework.values import COUNT, GIB, Price, WholeNumber
from runctl.core.clock import parse_duration
from runctl.core.errors import UsageError
from runctl.providers.capacity import ARCHITECTURES, FallbackMode, Needs, SpotFallback

GB = WholeNumber(1, unit="GB")
NAMES = ("gpu", "gpu_memory", "cpus", "memory", "architecture", "max_price", "spot_fallback")
"""The parameters of `capacity_options`."""
FLAGS = ("--gpu", "--gpu-memory", "--cpus", "--memory", "--architecture", "--max-price", "--spot-fallback")


class GpuNeed(NamedTuple):
    """``--gpu``: a model, or any, and how many."""

    model: str | None
    number: int


class Gpu(click.ParamType[GpuNeed]):
    """``A10G``, ``A10G:4``, or ``2`` of any model."""

    name = "gpu"

    def convert(
        self, value: str | GpuNeed, param: click.Parameter | None, ctx: click.Context | None
    ) -> GpuNeed:
        """The model and the number."""
        if isinstance(value, GpuNeed):
            return value
        model, colon, count = value.partition(":")
        if not colon and model.isdigit():
            model, count = "", model
        if (count and not (count.isascii() and count.isdigit() and int(count))) or (colon and not count):
            self.fail(f"{value!r} is not a GPU; write A10G, A10G:4, or 2 for any two", param, ctx)
        if not model and colon:
            self.fail(f"{value!r} names no model; write A10G:1, or 1 for any", param, ctx)
        return GpuNeed(model or None, int(count or 1))


class Fallback(click.ParamType[SpotFallback]):
    """``none``, ``ask``, ``on-demand``, each but the first with ``:after=20m``."""

    name = "fallback"

    def convert(
        self, value: str | SpotFallback, param: click.Parameter | None, ctx: click.Context | None
    ) -> SpotFallback:
        """What it means."""
        if isinstance(value, SpotFallback):
            return value
        matched = re.fullmatch(r"(none|ask|on-demand)(?::after=(.+))?", value)
        if matched is None or (matched[1] == "none" and matched[2]):
            self.fail(f"{value!r} is not one of none, ask, on-demand, on-demand:after=20m", param, ctx)
        try:
            after = parse_duration(matched[2]) if matched[2] else SpotFallback().after
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return SpotFallback(FallbackMode(matched[1]), after)


def capacity_options() -> list[Callable[[Callable[..., Any]], Callable[..., Any]]]:
    """The options, in the order of help."""
    return [
        click.option(
            "--gpu", type=Gpu(), metavar="MODEL[:N]", help="Any type with these GPUs, such as A10G:1."
        ),
        click.option(
            "--gpu-memory",
            type=GB,
            metavar="GB",
            help="Any type whose GPUs have at least this much memory each.",
        ),
        click.option("--cpus", type=COUNT, metavar="N", help="Any type with at least this many vCPUs."),
        click.option("--memory", type=GIB, metavar="GIB", help="Any type with at least this much memory."),
        click.option(
            "--architecture",
            type=click.Choice(ARCHITECTURES),
            help="Any type with this processor (default when choosing by needs: x86_64).",
        ),
        click.option(
            "--max-price",
            type=Price("0.50 for half a dollar an hour", name="usd"),
            metavar="USD",
            help="Take no offer that costs more than this an hour. A limit, not a bid.",
        ),
        click.option(
            "--spot-fallback",
            type=Fallback(),
            metavar="HOW",
            help="What to do without spot capacity: none, ask, or on-demand[:after=20m] (default: ask, on a terminal).",
        ),
    ]


def capacity_fields(given: Mapping[str, Any], *, spot: bool, terminal: bool) -> dict[str, Any]:
    """The options' values as fields of an `InstanceRequest`. Raises `UsageError`."""
    fallback: SpotFallback | None = given["spot_fallback"]
    if fallback is not None and fallback.mode is not FallbackMode.NONE and not spot:
        raise UsageError("--spot-fallback is for spot machines", hint="add --spot, or leave it out")
    if fallback is None:
        fallback = SpotFallback(FallbackMode.ASK if spot and terminal else FallbackMode.NONE)
    gpu: GpuNeed | None = given["gpu"]
    needs = Needs(
        gpu=gpu.model if gpu else None,
        gpu_count=gpu.number if gpu else None,
        gpu_memory_gb=given["gpu_memory"],
        cpus=given["cpus"],
        memory_gib=given["memory"],
        architecture=given["architecture"],
    )
    return {
        "needs": None if needs == Needs() else needs,
        "max_price": given["max_price"],
        "fallback": fallback,
    }
