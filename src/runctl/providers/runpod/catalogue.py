"""RunPod's pods: a GPU type, how many and in which cloud; which of them will do, and what they cost. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from runctl._dataclasses import dataclass
from runctl.core.errors import CapacityError, NotFound, UsageError
from runctl.core.money import hourly
from runctl.core.names import did_you_mean
from runctl.costs.rates import Per, Rate
from runctl.providers.capacity import LeftOut, Needs, Offer, Pool, RefusalReason
from runctl.providers.instance_plans import InstanceRequest
from runctl.providers.runpod.api import GpuType

ANYWHERE = "any"
CLOUDS = ("secure", "community")
SOURCE = "RunPod's catalogue"
ON_DEMAND_ONLY = "RunPod rents pods on demand only: its API has no spot pods any more"
UNTOLD = "RunPod does not tell how many CPUs and how much memory a pod has"
ASK_FOR_GPUS = "ask for GPUs: --gpu, --gpu-memory"
_TYPE = re.compile(r"([a-z0-9-]+?)(?:\.([0-9]+)x)?")
_NONE = "NONE"
_MAKER = r"^(NVIDIA|AMD) (GeForce )?"


def slug(name: str) -> str:
    """``RTX 4090`` as it is typed: ``rtx-4090``."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def type_name(gpu_id: str, count: int) -> str:
    """What ``--instance-type`` names: by RunPod's id of the GPU, as pods say that alone. Pure."""
    return f"{slug(re.sub(_MAKER, '', gpu_id))}.{count}x"


@dataclass(frozen=True)
class Kind:
    """A GPU type and how many of them."""

    gpu: GpuType
    count: int

    def __str__(self) -> str:
        return type_name(self.gpu.id, self.count)

    @classmethod
    def names_of(cls, gpu: GpuType) -> frozenset[str]:
        """Every way to name the GPU: short id, name and whole id."""
        return frozenset({str(cls(gpu, 1)).rpartition(".")[0], slug(gpu.name), slug(gpu.id)})


def sold(gpu: GpuType, cloud: str) -> tuple[Decimal, int] | None:
    """USD for one GPU's hour and the most of them, in ``secure`` or ``community``; ``None``: not there."""
    price: Decimal | None = getattr(gpu.price, cloud)
    most: int | None = getattr(gpu.maxCount, cloud)
    return (price, most or 1) if getattr(gpu, cloud) and price is not None else None


def parse_kind(name: str, gpus: Sequence[GpuType]) -> Kind:
    """``rtx-4090.2x``; ``rtx-4090`` is a pod with one. RunPod's own ids will do. Raises `NotFound`."""
    exact = next((gpu for gpu in gpus if gpu.id == name), None)
    if exact is not None:
        return Kind(exact, 1)
    found = _TYPE.fullmatch(slug_type(name))
    wanted = found[1] if found else ""
    gpu = next((gpu for gpu in gpus if wanted in Kind.names_of(gpu)), None)
    if gpu is None or found is None or (found[2] is not None and int(found[2]) < 1):
        names = sorted(str(Kind(each, 1)).rpartition(".")[0] for each in gpus)
        raise NotFound(
            f"RunPod has no GPU {name!r}",
            hint=did_you_mean(wanted, names) or "runctl offers --provider runpod lists them",
            code="instance-type-not-found",
        )
    return Kind(gpu, int(found[2] or 1))


def slug_type(name: str) -> str:
    """The name as typed, with its number of GPUs left alone."""
    base, dot, count = name.strip().lower().rpartition(".")
    return f"{slug(base)}.{count}" if dot and re.fullmatch("[0-9]+x", count) else slug(name)


@dataclass(frozen=True)
class Choice:
    """What may be asked for, and what not."""

    offers: tuple[Offer, ...]
    left_out: tuple[LeftOut, ...]


def choose(
    request: InstanceRequest, gpus: Sequence[GpuType], cloud: str, now: datetime, default: str | None
) -> Choice:
    """The pods that will do, those of needs cheapest first; without stock last, as stock is a hint.

    Raises `NotFound`, `UsageError`, and `CapacityError` where the price limit leaves none.
    """
    offers, left_out = [], []
    data_center = request.zone or ANYWHERE
    for kind in _wanted(request, gpus, cloud, default):
        price, most = _sold(kind, cloud)
        if kind.count > most:
            raise NotFound(
                f"RunPod has no pod with {kind.count} {kind.gpu.name} in its {cloud} cloud",
                hint=f"{most} are the most",
                code="instance-type-not-found",
            )
        rate = Rate(price * kind.count, Per.HOUR, now, SOURCE)
        pool = Pool(str(kind), data_center)
        if request.max_price is not None and rate.usd > request.max_price:
            left_out.append(LeftOut(pool, RefusalReason.PRICE.value, rate))
        else:
            offers.append(Offer(pool, rate, last=not in_stock(kind.gpu, request.zone)))
    if not offers and request.max_price is not None:
        cheapest = min(each.price.usd for each in left_out if each.price is not None)
        raise CapacityError(
            f"no pod that will do costs {hourly(request.max_price)} or less",
            hint=f"the cheapest is {hourly(cheapest)}: --max-price {cheapest}",
        )
    by_price = request.needs is not None

    def rank(offer: Offer) -> tuple[bool, bool, Decimal]:
        usd = offer.price.usd if by_price and offer.price is not None else Decimal(0)
        return offer.pool in request.avoid, offer.last, usd

    return Choice(tuple(sorted(offers, key=rank)), tuple(left_out))


def in_stock(gpu: GpuType, data_centre: str | None) -> bool:
    """Whether there was one a moment ago, there or anywhere."""
    if data_centre is None:
        return gpu.availability != _NONE
    return any(each.data_centre == data_centre and each.availability != _NONE for each in gpu.dataCenters)


def _wanted(
    request: InstanceRequest, gpus: Sequence[GpuType], cloud: str, default: str | None
) -> tuple[Kind, ...]:
    named = tuple(filter(None, (request.instance_type, *request.other_types)))
    if request.needs is not None:
        if named:
            raise UsageError(
                f"{named[0]} is named, and needs are stated as well",
                hint="name instance types, or say what the pod needs, not both",
            )
        return _fitting(request.needs, gpus, cloud)
    if not named and default is None:
        raise UsageError(
            "no instance type is named, and RunPod has no default",
            hint='--gpu "RTX 4090", --instance-type rtx-4090, or runctl config set runpod.instance_type rtx-4090',
        )
    return tuple(dict.fromkeys(parse_kind(name, gpus) for name in named or (default or "",)))


def _fitting(needs: Needs, gpus: Sequence[GpuType], cloud: str) -> tuple[Kind, ...]:
    if needs.cpus or needs.memory_gib:
        raise UsageError(UNTOLD, hint=ASK_FOR_GPUS)
    count = needs.gpu_count or 1
    found = tuple(
        Kind(gpu, count)
        for gpu in gpus
        if (known := sold(gpu, cloud)) is not None
        and known[1] >= count
        and (needs.gpu is None or is_model(gpu, needs.gpu))
        and gpu.memory >= (needs.gpu_memory_gb or 0)
    )
    if not found:
        raise NotFound(
            f"RunPod has no pod in its {cloud} cloud that has what is needed",
            hint="ask for less, or the other cloud (--cloud): runctl offers --provider runpod lists what there is",
        )
    return found


def is_model(gpu: GpuType, name: str) -> bool:
    """Whether a name is this GPU's: its own, its id's, or a model's, such as ``A100`` of ``A100 PCIe``."""
    wanted, first = slug(name), slug(gpu.name).split("-")[0]
    # RTX alone is no model.
    return wanted in Kind.names_of(gpu) or (wanted == first and any(map(str.isdigit, first)))


def _sold(kind: Kind, cloud: str) -> tuple[Decimal, int]:
    known = sold(kind.gpu, cloud)
    if known is None:
        other = "community" if cloud == "secure" else "secure"
        raise NotFound(
            f"RunPod has no {kind.gpu.name} in its {cloud} cloud",
            hint=f"--cloud {other}" if sold(kind.gpu, other) else "runctl offers --provider runpod",
            code="instance-type-not-found",
        )
    return known
