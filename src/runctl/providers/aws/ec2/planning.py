"""Resolves a request for an instance into a plan: reads everything, creates nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from runctl._dataclasses import dataclass
from runctl.core import tags as tag
from runctl.core.clock import rfc3339
from runctl.core.errors import Conflict, UsageError
from runctl.core.ids import new_client_token
from runctl.core.machine_models import Market, Volume, VolumeState
from runctl.core.money import usd
from runctl.core.mount_points import usual_mount_points
from runctl.core.progress import Progress
from runctl.providers.abilities.limits import MachineLimits
from runctl.providers.abilities.volume_plans import DiskShape
from runctl.providers.aws.calls.errors import our_errors
from runctl.providers.aws.calls.filters import describe as describe_exactly
from runctl.providers.aws.calls.parse import DATA_VOLUME, TAG_VALUE_LIMIT, checked_mount_point, mounts_tag
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ebs.types import checked_shape
from runctl.providers.aws.ebs.volume_lookup import check_not_moving, find_volume
from runctl.providers.aws.ec2 import images, network
from runctl.providers.aws.ec2.fleets import is_fleet
from runctl.providers.aws.ec2.limits import plan_limits
from runctl.providers.aws.ec2.offers import Limits, select
from runctl.providers.aws.ec2.quotas import find_beyond_quota
from runctl.providers.aws.ec2.releasing import is_being_released
from runctl.providers.aws.ec2.type_choice import choose_types
from runctl.providers.aws.ec2.zones import ZoneChoice, choose_zone
from runctl.providers.aws.iam.roles import ProfilePlan, plan_profile
from runctl.providers.aws.prices import shipped, spot_history
from runctl.providers.aws.prices.items import Item
from runctl.providers.aws.prices.price_list import Group
from runctl.providers.aws.prices.region_rates import RegionRates
from runctl.providers.capacity import Offer, Pool
from runctl.providers.instance_plans import CreatePlan, InstanceRequest, VolumeMount
from runctl.providers.interface import Rate
from runctl.providers.names import check_resource_name
from runctl.providers.rental_tags import rental_tags

if TYPE_CHECKING:
    from runctl.providers.aws.calls.session import AwsSession
    from runctl.providers.aws.ec2.images import Image, InstanceType
    from runctl.providers.aws.ec2.network import Subnet

MOST_VOLUMES = 11
"""The device names ``/dev/sdf`` to ``/dev/sdp``."""
RESERVED_TAGS = "runctl:"
MOST_ASKED = 8
"""The price list is asked for each type by itself: for more types, the prices that are known already will do."""


@dataclass(frozen=True)
class _Location:
    zone: ZoneChoice
    subnets: tuple[Subnet, ...]
    """Those that can be used, one for each zone."""
    group_ids: tuple[str, ...]
    ssh_open: bool
    public: bool


def plan_create(
    context: AwsContext,
    request: InstanceRequest,
    progress: Progress,
    own: str | None = None,
    count: int = 1,
) -> CreatePlan:
    """See `Renting.plan`. ``own`` is the instance that has the volumes already, and is to have them.

    With a ``count``, the account may have so many of them.
    """
    session, aws = context.session, context.settings
    now = context.clock.now()
    _check_request(request)
    progress.step("checking the account, the machine type and the volumes")
    owner = session.identity.name
    types = choose_types(context, request)
    owners = (own,) if own is not None else _own_instances(context, request.token)
    volumes = _volumes(context, request.volumes, owners)
    location = _choose_location(context, request, volumes)
    prices = _Prices(context, request.market, [each.name for each in types], progress)
    selection = select(
        region=session.region,
        offered=network.offered_zones(session, [each.name for each in types]),
        zone=location.zone,
        subnets=location.subnets,
        price=prices.of,
        limits=Limits(request.max_price, find_beyond_quota(session, types, request.market, progress, count)),
        avoid=request.avoid,
    )
    first = selection.offers[0].pool
    instance_type = next(each for each in types if each.name == first.instance_type)
    together = count > 1 or is_fleet(request.market, selection.offers)
    zone = _zone(location.zone, request.market, selection.offers, together=together)
    image = images.find_image(session, instance_type, request.image or aws.ami_id)
    root_size = _root_size(request.root_volume_size_gib or aws.root_volume_size, image, instance_type)
    key_name = _key(session, request.key_name or aws.key_name)
    profile = plan_profile(
        session,
        request.instance_profile or aws.instance_profile,
        ssh_works=location.ssh_open and location.public,
        writes=request.writes,
    )
    price, on_demand = prices.planned(selection.offers), prices.on_demand(selection.offers)
    rates = context.prices.current_rates(Group.EBS, Group.NETWORK, progress=progress)
    disks = _volume_prices(rates, volumes, root_size, request.data_volume_size_gib)
    own_disks = [disks[name].usd for name in ("root", DATA_VOLUME) if name in disks]
    limits = plan_limits(context, request, selection.offers, price, own_disks)
    project = request.project or context.config.project.name
    mounts = _mounts(request, volumes)
    token = request.token or new_client_token()
    return CreatePlan(
        provider="aws",
        instance_type=instance_type.name,
        market=request.market,
        region=session.region,
        zone=zone.zone,
        zone_reason=zone.reason,
        image=image.id,
        image_reason=f"{image.reason}: {image.name}" if image.name else image.reason,
        login_user=image.login_user,
        price=price,
        on_demand_price=on_demand,
        volumes=mounts,
        volume_prices=disks,
        data_volume_size_gib=request.data_volume_size_gib,
        data_mount_point=request.data_mount_point,
        root_volume_size_gib=root_size,
        key_name=key_name,
        security_groups=location.group_ids,
        instance_profile=profile.name,
        subnet=next((net.id for net in location.subnets if net.zone == zone.zone), None),
        project=project,
        owner=owner,
        name=request.name,
        ttl=limits.ttl,
        budget=limits.budget,
        budget_time=limits.budget_time,
        idle_timeout=limits.idle_timeout,
        tags=_tags(
            request=request,
            mounts=mounts,
            project=project,
            owner=owner,
            login_user=image.login_user,
            token=token,
            now=now,
            limits=limits,
        ),
        client_token=token,
        address_price=rates.first(Item.PUBLIC_IPV4) if location.public else None,
        imds_hop_limit=request.imds_hop_limit or aws.imds_hop_limit,
        writes=request.writes,
        unused_for=request.unused_for,
        will_also_create=(profile.will_create,) if profile.will_create else (),
        warnings=(*_leaving(volumes), *_warnings(instance_type, profile, location, price, rates)),
        offers=selection.offers,
        left_out=selection.left_out,
        max_price=request.max_price,
        fallback=request.fallback,
    )


def _check_request(request: InstanceRequest) -> None:
    if request.name is not None:
        check_resource_name(request.name, "an instance", "trainer")
    points = [mount.mount_point for mount in request.volumes if mount.mount_point is not None]
    count = len(request.volumes)
    if request.data_volume_size_gib is not None:
        checked_shape("gp3", request.data_volume_size_gib, None, None)
        points.append(request.data_mount_point)
        count += 1
    for point in points:
        if points.count(checked_mount_point(point)) > 1:
            raise UsageError(
                f"two volumes cannot both be mounted at {point}", hint="give each its own --mount-point"
            )
    if count > MOST_VOLUMES:
        raise UsageError(f"{count} volumes are more than the {MOST_VOLUMES} device names of an instance")
    for key, value in request.tags.items():
        if key.startswith((RESERVED_TAGS, "aws:")):
            raise UsageError(f"the tag {key!r} is reserved", hint="choose another key")
        if not 1 <= len(key) <= 128 or len(value) > TAG_VALUE_LIMIT:
            raise UsageError(
                f"the tag {key!r} is too long", hint="keys have 1 to 128 characters, values up to 256"
            )


def _own_instances(context: AwsContext, token: str | None) -> tuple[str, ...]:
    """What this very token has made: volumes that are there are where they are to be."""
    if token is None:
        return ()
    found = describe_exactly(context.session.ec2, "describe_instances", {f"tag:{tag.INTENT}": [token]})
    return tuple(item["InstanceId"] for item in found)


def _volumes(
    context: AwsContext, mounts: Sequence[VolumeMount], own_instances: Collection[str] = ()
) -> tuple[Volume, ...]:
    found: list[Volume] = []
    for mount in mounts:
        volume = find_volume(context, mount.volume)
        if volume.id in {other.id for other in found}:
            raise UsageError(
                f"volume {mount.volume} is named twice", hint="mount it once; runs can share the mount"
            )
        check_not_moving(volume)
        if volume.attached_to in own_instances:
            found.append(volume)
            continue
        leaving = volume.state is VolumeState.IN_USE and is_being_released(context, volume)
        if volume.attached_to is not None and not leaving:
            raise Conflict(
                f"volume {mount.volume} is in use: attached to {volume.attached_to}",
                hint=f"runctl aws ebs detach {volume.id}, or work on {volume.attached_to}; if its creation was cut"
                f" short, this finishes it: runctl aws wait {volume.attached_to}",
                code="volume-in-use",
            )
        if not leaving and volume.state not in {VolumeState.AVAILABLE, VolumeState.CREATING}:
            raise Conflict(
                f"volume {mount.volume} is {volume.state.value}, not available", hint="runctl aws ebs list"
            )
        found.append(volume)
    return tuple(found)


def _mounts(request: InstanceRequest, volumes: Sequence[Volume]) -> tuple[VolumeMount, ...]:
    """Every volume has a mount point: the one asked for, else the first of its own that is free."""
    taken = {mount.mount_point for mount in request.volumes}
    if request.data_volume_size_gib is not None:
        taken.add(request.data_mount_point)
    found = []
    for volume, asked in zip(volumes, request.volumes, strict=True):
        point = asked.mount_point
        if point is None:
            usual = usual_mount_points(volume)
            point = next((candidate.path for candidate in usual if candidate.path not in taken), None)
            if point is None:
                raise UsageError(
                    f"volume {asked.volume} has no mount point of its own: {usual[-1].path} is taken",
                    hint=f"give every volume its --mount-point, such as /mnt/{volume.id}",
                )
            taken.add(point)
        # One that nothing has been on is made a file system first.
        read_only = asked.read_only and tag.UNUSED not in volume.tags
        found.append(VolumeMount(volume.id, point, read_only))
    return tuple(found)


def _choose_location(context: AwsContext, request: InstanceRequest, volumes: Sequence[Volume]) -> _Location:
    session, aws = context.session, context.settings
    wanted = request.subnet or aws.subnet
    named = network.subnet(session, wanted) if wanted else None
    zone = choose_zone(
        volumes=[(volume.id, volume.zone) for volume in volumes],
        asked=request.zone,
        subnet_zone=named.zone if named else None,
        configured=aws.zone,
        region=session.region,
    )
    if named is None:
        usable = network.default_subnets(session)
        network.check_subnet_in(usable, zone.zone)
    else:
        usable = (named,)
    vpc, public = usable[0].vpc, all(subnet.public for subnet in usable)
    groups = network.security_groups(session, request.security_groups or aws.security_groups, vpc)
    return _Location(
        zone=zone,
        subnets=usable,
        group_ids=tuple(group["GroupId"] for group in groups),
        ssh_open=network.lets_ssh_in(groups),
        public=public,
    )


def _root_size(asked: int | None, image: Image, instance_type: InstanceType) -> int:
    if asked is None:
        default = (
            images.ROOT_DEFAULT_ACCELERATED_GIB if instance_type.accelerator else images.ROOT_DEFAULT_GIB
        )
        return max(default, image.root_size_gib)
    if asked < image.root_size_gib:
        raise UsageError(
            f"the image {image.id} needs a root volume of at least {image.root_size_gib} GiB, not {asked}",
            hint=f"--root-volume-size {image.root_size_gib}",
        )
    return checked_shape("gp3", asked, None, None).size_gib


def _zone(chosen: ZoneChoice, market: Market, offers: Sequence[Offer], *, together: bool) -> ZoneChoice:
    """The zone of the machine; ``None`` while there are several. ``together``: one fleet asks them all."""
    zones = {offer.pool.zone for offer in offers}
    if chosen.zone is not None or (len(zones) > 1 and not together):
        return chosen
    if len(zones) == 1:
        return ZoneChoice(zones.pop(), "no other zone will do")
    how = "price and capacity" if market is Market.SPOT else "price"
    return ZoneChoice(None, f"EC2 chooses among {len(zones)} zones by {how}")


class _Prices:
    """What the pools cost in the market, and what the types cost on demand."""

    def __init__(self, context: AwsContext, market: Market, types: Sequence[str], progress: Progress) -> None:
        self._context, self._market, self._types = context, market, types
        progress.step("looking up prices")
        ask = context.prices.on_demand if len(types) <= MOST_ASKED else context.prices.known_on_demand
        self._on_demand = {name: ask(name) for name in types}
        self._quotes = context.prices.spot_quotes(types, progress) if market is Market.SPOT else ()

    def of(self, pool: Pool) -> Rate | None:
        """An hour of it."""
        if self._market is Market.ON_DEMAND:
            return self._on_demand[pool.instance_type]
        own = [quote for quote in self._quotes if quote.instance_type == pool.instance_type]
        price = spot_history.spot_price(own, pool.zone, self._context.clock.now())
        return price or shipped.snapshot_spot(pool.instance_type, self._context.session.region)

    def planned(self, offers: Sequence[Offer]) -> Rate | None:
        """An hour of the dearest pool, so as not to promise less; ``None`` where one has no price."""
        prices = [offer.price for offer in offers]
        known = [price for price in prices if price is not None]
        if not known or len(known) < len(prices):
            return None
        low, high = min(known, key=lambda price: price.usd), max(known, key=lambda price: price.usd)
        if low.usd == high.usd:
            return high
        depends = "the zone" if len(self._types) == 1 else "the type and the zone"
        source = f"{high.source}; {usd(low.usd)} to {usd(high.usd)} depending on {depends}"
        current = low.current and high.current
        return replace(high, source=source, current=current)

    def on_demand(self, offers: Sequence[Offer]) -> Rate | None:
        """What the machine that `planned` is the price of costs on demand."""
        dearest = max(offers, key=lambda offer: offer.price.usd if offer.price else Decimal("Infinity"))
        return self._on_demand[dearest.pool.instance_type]


def _key(session: AwsSession, name: str | None) -> str | None:
    if name is not None:
        with our_errors(session.endpoint):
            session.ec2.describe_key_pairs(KeyNames=[name])
    return name


def _volume_prices(
    rates: RegionRates, volumes: Sequence[Volume], root_size: int, data_size: int | None
) -> Mapping[str, Rate]:
    prices: dict[str, Rate | None] = {
        volume.id: rates.volume(DiskShape(volume.type, volume.size_gib, volume.iops, volume.throughput))
        for volume in volumes
    }
    prices["root"] = rates.volume(checked_shape("gp3", root_size, None, None))
    if data_size is not None:
        prices[DATA_VOLUME] = rates.volume(checked_shape("gp3", data_size, None, None))
    return {name: price for name, price in prices.items() if price is not None}


def _tags(
    *,
    request: InstanceRequest,
    mounts: Sequence[VolumeMount],
    project: str | None,
    owner: str,
    login_user: str,
    token: str,
    now: datetime,
    limits: MachineLimits,
) -> Mapping[str, str]:
    pairs: list[tuple[str, str]] = [(mount.volume, mount.mount_point or "") for mount in mounts]
    if request.data_volume_size_gib is not None:
        pairs.append((DATA_VOLUME, request.data_mount_point))
    tags = {
        **rental_tags(request, limits, project=project, owner=owner, token=token, now=now),
        tag.NAME: request.name or (f"runctl-{project}" if project else "runctl"),
        tag.CREATED_AT: rfc3339(now),
        tag.LOGIN_USER: login_user,
    }
    if pairs:
        tags[tag.MOUNTS] = mounts_tag(pairs)
    if read_only := " ".join(mount.volume for mount in mounts if mount.read_only):
        tags[tag.READ_ONLY] = read_only
    return tags


def _leaving(volumes: Sequence[Volume]) -> tuple[str, ...]:
    return tuple(
        f"{volume.name or volume.id} is still attached to {volume.attached_to or 'a machine'}, which is shutting down:"
        " that is waited for before anything is launched"
        for volume in volumes
        if volume.state is VolumeState.IN_USE
    )


def _nat_price(rates: RegionRates) -> str:
    gib = rates.first(Item.NAT_GIB)
    return "" if gib is None else f"; what passes a NAT gateway costs {usd(gib.usd)} a GiB"


def _warnings(
    instance_type: InstanceType,
    profile: ProfilePlan,
    location: _Location,
    price: Rate | None,
    rates: RegionRates,
) -> tuple[str, ...]:
    warnings = []
    if profile.warning:
        warnings.append(profile.warning)
    if instance_type.accelerator not in {None, "nvidia", "neuron"}:
        warnings.append(
            f"{instance_type.name} has {instance_type.accelerator} accelerators; the image has no driver"
        )
    if not location.public and not location.ssh_open:
        warnings.append(
            "the subnet gives no public address: the machine needs a NAT gateway or VPC endpoints for Systems"
            f" Manager to reach it{_nat_price(rates)}"
        )
    if price is None:
        warnings.append("no price is known for this machine")
    return tuple(warnings)
