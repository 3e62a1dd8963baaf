"""What an instance is asked to be, and what a provider makes of that before anything exists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import timedelta
from decimal import Decimal
from typing import Any

from runctl._dataclasses import dataclass
from runctl.core.ids import VolumeId
from runctl.core.machine_models import Market
from runctl.costs.rates import Rate
from runctl.providers.capacity import (
    LeftOut,
    Needs,
    Offer,
    Pool,
    SpotFallback,
)


@dataclass(frozen=True)
class VolumeMount:
    """A volume that an instance is to have, and where."""

    volume: str
    """Id or name; ids after planning."""
    mount_point: str | None = None
    """Absolute path on the machine; ``None`` leaves it to `runctl.core.mount_points.usual_mount_points`, and is in no
    plan."""
    read_only: bool = False
    """Whoever asks for it only reads it; of several machines, all may have it then where the volume allows it."""


@dataclass(frozen=True)
class InstanceRequest:
    """What a user wants of a new instance. ``None`` leaves the choice to configuration, then to the provider."""

    instance_type: str | None = None
    other_types: tuple[str, ...] = ()
    """More types that will do as well as ``instance_type``: what can be had is taken."""
    needs: Needs | None = None
    """What the machine must have; without ``instance_type``, every type that has it will do."""
    market: Market = Market.ON_DEMAND
    max_price: Decimal | None = None
    """USD an hour: a dearer offer is not taken. It is never bid."""
    fallback: SpotFallback = field(default_factory=SpotFallback)
    """What is done where no spot machine can be had; whoever rents decides by it, providers do not."""
    avoid: tuple[Pool, ...] = ()
    """Pools that are asked last, as one that has just taken a machine back."""
    volumes: tuple[VolumeMount, ...] = ()
    data_volume_size_gib: int | None = None
    """A fresh volume that dies with the instance, mounted at ``data_mount_point``."""
    data_mount_point: str = "/mnt/data"
    root_volume_size_gib: int | None = None
    image: str | None = None
    """The provider's image id (an AMI); else the provider chooses by architecture and GPU."""
    key_name: str | None = None
    security_groups: tuple[str, ...] = ()
    instance_profile: str | None = None
    subnet: str | None = None
    zone: str | None = None
    project: str | None = None
    name: str | None = None
    ttl: timedelta | None = None
    """The machine ends itself when it has run for this long, whatever happens to runctl."""
    budget: Decimal | None = None
    """USD: the machine ends itself before it has cost more than this, with the disks that are rented with it."""
    idle_timeout: timedelta | None = None
    """The machine ends itself when nothing has used it for so long; zero: never.
    See `runctl.providers.abilities.limits`."""
    unused_for: timedelta | None = None
    """The machine ends itself when no run was started on it within so long, and nothing is being sent to it."""
    helper_for: VolumeId | None = None
    """It is rented for this volume's sake only; see `runctl.providers.abilities.filling`."""
    attempt: str | None = None
    """It is rented for this attempt of a run, ``RUN/N``: the tag `runctl.core.tags.ATTEMPT`."""
    tags: Mapping[str, str] = field(default_factory=dict)
    imds_hop_limit: int | None = None
    """How many hops away the metadata service still answers: with 2, containers can take the machine's role."""
    writes: tuple[str, ...] = ()
    """Addresses in an object store (``s3://bucket/prefix``) that the machine itself must be able to write to, read and
    list, by a right of its own."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the provider's own options of ``create`` say; see `runctl.providers.plugin.CreateOption`."""
    token: str | None = None
    """The plan's client token; ``None`` makes a new one. The same token twice makes one instance."""


@dataclass(frozen=True)
class CreatePlan:
    """What `Renting.create` is about to do and what it will cost. Nothing has been created yet."""

    provider: str
    instance_type: str
    market: Market
    region: str
    zone: str | None
    """``None``: the provider chooses."""
    zone_reason: str
    image: str
    image_reason: str
    login_user: str
    price: Rate | None
    on_demand_price: Rate | None
    """What the same machine costs on demand, for comparison."""
    volumes: tuple[VolumeMount, ...]
    """By id. Every one was looked at: it exists, is free and is in ``zone``."""
    volume_prices: Mapping[str, Rate]
    """Monthly, by volume id; ``root`` and ``data`` for those created with the instance."""
    data_volume_size_gib: int | None
    data_mount_point: str
    root_volume_size_gib: int | None
    key_name: str | None
    security_groups: tuple[str, ...]
    instance_profile: str | None
    subnet: str | None
    project: str | None
    owner: str | None
    name: str | None
    ttl: timedelta | None
    tags: Mapping[str, str]
    client_token: str
    """The same plan carried out twice makes one instance."""
    address_price: Rate | None = None
    """An hour of its public IPv4 address; ``None``: it gets none, or the price is not known."""
    will_also_create: tuple[str, ...] = ()
    """In words: what else comes into being, such as an IAM role."""
    warnings: tuple[str, ...] = ()
    imds_hop_limit: int = 1
    offers: tuple[Offer, ...] = ()
    """Where the machine may come from, the best first; ``instance_type`` and ``zone`` are those of the first where
    there are several. Empty: the provider has one way only."""
    left_out: tuple[LeftOut, ...] = ()
    """What the request would allow and is not asked, each with the reason."""
    max_price: Decimal | None = None
    fallback: SpotFallback = field(default_factory=SpotFallback)
    writes: tuple[str, ...] = ()
    """As in the request; ``instance_profile`` lets it."""
    unused_for: timedelta | None = None
    """As in the request."""
    budget: Decimal | None = None
    """As in the request."""
    budget_time: timedelta | None = None
    """For how long the budget pays; the machine ends itself then."""
    idle_timeout: timedelta | None = None
    """The machine ends itself when nothing has used it for so long; ``None``: never."""
    new_volume_gib: int | None = None
    """Of a volume that comes into being with the machine and outlives it; see `will_also_create`."""

    @property
    def longest(self) -> timedelta | None:
        """How long the machine runs at most, by its time to live and its budget; ``None``: nothing limits it."""
        return min((limit for limit in (self.ttl, self.budget_time) if limit is not None), default=None)
