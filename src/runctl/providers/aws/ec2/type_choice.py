"""Which instance types will do: those that are named, or all that have what is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from runctl.core.errors import NotFound, Unsupported, UsageError
from runctl.core.machine_models import Market
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ec2.images import (
    InstanceType,
    describe_instance_types,
    has_old_gpu,
    image_family,
    instance_type_of,
)
from runctl.providers.capacity import ARCHITECTURES, Needs
from runctl.providers.instance_plans import InstanceRequest

MOST_PRICED = 60
"""Of the types that have what is needed, so many of the smallest are compared by price."""
MOST_TYPES = 10
DEAREST = Decimal(2)
"""A type that costs more than so many times the cheapest is not taken for the sake of its capacity."""


def choose_types(context: AwsContext, request: InstanceRequest) -> tuple[InstanceType, ...]:
    """The types that will do, at least one; the first is the one that was named first, or the cheapest.

    All of them boot the same image. Raises `NotFound`, `Unsupported`, `UsageError`.
    """
    named = tuple(filter(None, (request.instance_type, *request.other_types)))
    if request.needs is None:
        names = tuple(dict.fromkeys(named)) or (context.instance_type,)
        types = describe_instance_types(context.session, names)
        _check_market(types, request.market)
        _check_same_image(types)
        return tuple(each for each in types if each.spot or request.market is Market.ON_DEMAND)
    if named:
        raise UsageError(
            f"{named[0]} is named, and needs are stated as well",
            hint="name instance types, or say what the machine needs, not both",
        )
    fitting = fitting_types(context, request.needs, request.market)
    if not fitting:
        raise NotFound(
            f"{context.session.region} has no instance type with {needs_text(request.needs)}",
            hint="ask for less, or another region; https://aws.amazon.com/ec2/instance-types lists the types",
        )
    smallest = sorted(fitting, key=lambda each: (each.gpu_count, each.vcpus, each.memory_mib, each.name))
    compared = smallest[:MOST_PRICED]
    return cheapest_types(compared, _lowest_prices(context, compared, request.market))


def fitting_types(context: AwsContext, needs: Needs, market: Market) -> list[InstanceType]:
    """Every type of the region that has what is needed."""
    sold = _all_types(context, market, architecture_of(needs), with_gpus=needs.wants_gpu)
    return [each for each in sold if fits(each, needs)]


def fits(kind: InstanceType, needs: Needs) -> bool:
    """Whether the type has at least what is needed; without a GPU in the needs, one with a GPU does not fit. Pure.

    What no choice by needs takes: GPUs that the images do not know, shares of GPUs, and CPUs on credit.
    """
    if kind.architecture != architecture_of(needs) or kind.burstable or kind.shares_gpu:
        return False
    if needs.wants_gpu:
        if kind.accelerator != "nvidia" or has_old_gpu(kind):
            return False
    elif kind.accelerator is not None:
        return False
    gpu_bytes = kind.gpu_memory_mib * 2**20
    return (
        (needs.gpu is None or _model(needs.gpu) == _model(kind.gpu_name or ""))
        and kind.gpu_count >= (needs.gpu_count or (1 if needs.wants_gpu else 0))
        # EC2 states 22,888 MiB for what its maker sells as 24 GB.
        and gpu_bytes >= (needs.gpu_memory_gb or 0) * 10**9 * 0.99
        and kind.vcpus >= (needs.cpus or 0)
        and kind.memory_mib >= (needs.memory_gib or 0) * 1024
    )


def cheapest_types(types: Sequence[InstanceType], prices: Mapping[str, Decimal]) -> tuple[InstanceType, ...]:
    """The cheapest first; at most `MOST_TYPES`, none `DEAREST` times as dear as the first. Pure.

    ``types`` are in the order that counts where prices are equal or not known; those without a price count only where
    none has one.
    """
    priced = sorted((each for each in types if each.name in prices), key=lambda each: prices[each.name])
    if not priced:
        return tuple(types[:1])
    most = prices[priced[0].name] * DEAREST
    return tuple(each for each in priced if prices[each.name] <= most)[:MOST_TYPES]


def needs_text(needs: Needs) -> str:
    """For a person: ``1 A10G, 24 GB of GPU memory, 8 vCPUs``. Pure."""
    parts = []
    if needs.gpu is not None or needs.gpu_count:
        parts.append(f"{needs.gpu_count or 1} {needs.gpu or 'NVIDIA GPU'}")
    if needs.gpu_memory_gb:
        parts.append(f"{needs.gpu_memory_gb} GB of GPU memory")
    if needs.cpus:
        parts.append(f"{needs.cpus} vCPUs")
    if needs.memory_gib:
        parts.append(f"{needs.memory_gib} GiB of memory")
    if needs.architecture:
        parts.append(f"an {needs.architecture} processor")
    return ", ".join(parts)


def _model(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


def _check_market(types: Sequence[InstanceType], market: Market) -> None:
    if market is Market.SPOT and not any(each.spot for each in types):
        names = ", ".join(each.name for each in types)
        raise Unsupported(
            f"{names} {'is' if len(types) == 1 else 'are'} not sold as spot",
            hint="leave --spot out, or choose another type",
        )


def _check_same_image(types: Sequence[InstanceType]) -> None:
    first = types[0]
    for other in types[1:]:
        if image_family(other) != image_family(first):
            raise UsageError(
                f"{first.name} and {other.name} need different images: {image_family(first)} and"
                f" {image_family(other)}",
                hint="name types of one kind: one architecture, all with NVIDIA GPUs or all without",
            )


def architecture_of(needs: Needs) -> str:
    """What the machine's processor must be. Pure."""
    return needs.architecture or ARCHITECTURES[0]


def _all_types(
    context: AwsContext, market: Market, architecture: str, *, with_gpus: bool
) -> list[InstanceType]:
    known = context.types_sold.get((market, architecture, with_gpus))
    if known is not None:
        return known
    usage = "spot" if market is Market.SPOT else "on-demand"
    filters: Any = [
        {"Name": "hypervisor", "Values": ["nitro"]},
        {"Name": "bare-metal", "Values": ["false"]},
        {"Name": "supported-usage-class", "Values": [usage]},
        {"Name": "processor-info.supported-architecture", "Values": [architecture]},
    ]
    if with_gpus:
        # All families with GPUs of NVIDIA begin so: one page of answers in place of ten.
        filters.append({"Name": "instance-type", "Values": ["g*", "p*"]})
    pages = context.session.ec2.get_paginator("describe_instance_types").paginate(Filters=filters)
    found = [instance_type_of(item) for page in pages for item in page["InstanceTypes"]]
    context.types_sold[market, architecture, with_gpus] = found
    return found


def _lowest_prices(context: AwsContext, types: Sequence[InstanceType], market: Market) -> dict[str, Decimal]:
    if market is Market.SPOT:
        found: dict[str, Decimal] = {}
        for quote in context.prices.spot_quotes([each.name for each in types]):
            found[quote.instance_type] = min(quote.usd, found.get(quote.instance_type, quote.usd))
        return found
    known = {each.name: context.prices.known_on_demand(each.name) for each in types}
    return {name: price.usd for name, price in known.items() if price is not None}
