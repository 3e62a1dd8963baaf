"""Which machines would do, where they are offered, and what came of asking for them: plain data of every provider."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum

from runctl._dataclasses import dataclass
from runctl.core.errors import Unsupported
from runctl.core.machine_models import Market
from runctl.costs.rates import Rate


@dataclass(frozen=True, order=True)
class Pool:
    """Machines that share capacity."""

    instance_type: str
    zone: str

    def __str__(self) -> str:
        return f"{self.instance_type} in {self.zone}"


ARCHITECTURES = ("x86_64", "arm64")


@dataclass(frozen=True)
class Needs:
    """What a machine must have at least, where the type does not matter."""

    gpu: str | None = None
    """The GPU's model, such as ``A10G``; case does not matter. ``None``: any, where ``gpu_count`` wants one."""
    gpu_count: int | None = None
    gpu_memory_gb: int | None = None
    """Of each GPU, in GB as its maker states it (24 for an A10G)."""
    cpus: int | None = None
    """vCPUs."""
    memory_gib: int | None = None
    architecture: str | None = None
    """One of `ARCHITECTURES`; ``None``: the first."""

    @property
    def wants_gpu(self) -> bool:
        """Whether only machines with GPUs will do."""
        return self.gpu is not None or bool(self.gpu_count) or self.gpu_memory_gb is not None


class FallbackMode(StrEnum):
    """What happens when no spot machine can be had."""

    NONE = "none"
    """The command fails."""
    ASK = "ask"
    """Somebody is asked, with both prices."""
    ON_DEMAND = "on-demand"
    """It is rented on demand."""


@dataclass(frozen=True)
class SpotFallback:
    """Whether, and after how long without spot capacity, a machine is rented on demand."""

    mode: FallbackMode = FallbackMode.NONE
    after: timedelta = timedelta()
    """For how long spot capacity is asked for again and again first."""


@dataclass(frozen=True)
class Offer:
    """A pool that a machine may come from."""

    pool: Pool
    price: Rate | None
    """An hour in the plan's market."""
    subnet: str | None = None
    """The network that its machine gets, where one is named."""
    last: bool = False
    """It is asked only when no other offer has a machine."""


@dataclass(frozen=True)
class LeftOut:
    """A pool that the request would have allowed, and that is not asked."""

    pool: Pool
    reason: str
    price: Rate | None = None
    """An hour of it, where that is the reason."""


class RefusalReason(StrEnum):
    """Why a pool gave no machine; each calls for something else."""

    NO_CAPACITY = "no-capacity"
    """Later, or elsewhere, there may be some."""
    PRICE = "price"
    """The price is above the limit."""
    QUOTA = "quota"
    """The account has its share: waiting does not help."""
    NOT_OFFERED = "not-offered"
    """There is no such machine, or no free address, in that zone: another zone may do."""
    WRONG = "wrong"
    """The request or the rights are wrong: no zone will do."""


@dataclass(frozen=True)
class Refusal:
    """A pool that was asked and gave no machine."""

    pool: Pool
    market: Market
    reason: RefusalReason
    code: str
    """The provider's own."""
    message: str
    """The provider's own."""


class SpotMarket(ABC):
    """The ability to tell how likely spot capacity is."""

    @abstractmethod
    def placement_scores(
        self, instance_types: Sequence[str], count: int = 1
    ) -> Mapping[str, int] | Unsupported:
        """By zone, from 1 to 10, how likely it is that so many machines of these types can be had there.

        `Unsupported` where nobody says, with the reason.
        """


RefusalListener = Callable[[Refusal], None]


def no_listener(_: Refusal) -> None:
    """Nobody is told."""


def pools_text(pools: Iterable[Pool]) -> str:
    """Pools for a person: each type once, with its zones."""
    zones: dict[str, list[str]] = {}
    for pool in sorted(pools):
        zones.setdefault(pool.instance_type, []).append(pool.zone)
    return ", ".join(f"{kind} in {' and '.join(_joined(found))}" for kind, found in zones.items())


def _joined(zones: Sequence[str]) -> list[str]:
    return [", ".join(zones[:-1]), zones[-1]] if len(zones) > 1 else list(zones)


def price_range(offers: Sequence[Offer]) -> tuple[Decimal, Decimal] | None:
    """The lowest and the highest known price of an hour; ``None`` where none is known."""
    known = [offer.price.usd for offer in offers if offer.price is not None]
    return (min(known), max(known)) if known else None


def check_instance_type(text: str) -> None:
    """Raises `ValueError`, with what to do, for several types in one text."""
    if "," in text:
        raise ValueError(
            f"{text!r} is not one instance type", "name one; create takes --instance-type for each of several"
        )
