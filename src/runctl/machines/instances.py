"""Machines by the use cases ``create`` and ``terminate``: planned, shown to whoever asked, rented and given back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypedDict, Unpack

from runctl.core.errors import UsageError
from runctl.core.machine_models import Instance, Market
from runctl.core.tags import NAME
from runctl.machines.deletion import Deleting, deleting
from runctl.machines.finding import instance_finder
from runctl.machines.intents import Kind
from runctl.machines.renting import READY_TIMEOUT, NewMachine
from runctl.machines.session import Session
from runctl.project.label import project_label
from runctl.providers.capacity import Needs, SpotFallback
from runctl.providers.instance_plans import CreatePlan, InstanceRequest, VolumeMount
from runctl.providers.interface import require
from runctl.providers.registry import DEFAULT

ENDED_TIMEOUT = timedelta(minutes=15)


@contextmanager
def new_machine(session: Session, provider: str, request: InstanceRequest) -> Iterator[NewMachine]:
    """For the time in which it is planned, rented and waited for; see `Rentals.renting`.

    What the plan warns of is told.
    """
    with session.rentals(provider).renting(request) as machine:
        for warning in (
            *machine.plan.warnings,
            *_shared_name(session, provider, request.name, machine.existing),
        ):
            session.progress.warn(warning)
        yield machine


def instance_request(
    session: Session,
    provider: str,
    *,
    spot: bool | None,
    project: str | None,
    volumes: Sequence[VolumeMount],
    data_volume_size_gib: int | None,
    data_mount_point: str,
    **fields: Any,
) -> InstanceRequest:
    """The request, with the market and the project that the configuration says where they are not given.

    ``fields`` are those of `InstanceRequest`. Raises `UsageError` where two volumes have one mount point.
    """
    if data_volume_size_gib is not None and data_mount_point in {volume.mount_point for volume in volumes}:
        raise UsageError(
            f"{data_mount_point} is both a volume's mount point and the fresh disk's",
            hint="set --data-mount-point",
        )
    on_spot = session.defaults(provider).spot if spot is None else spot
    return InstanceRequest(
        market=Market.SPOT if on_spot else Market.ON_DEMAND,
        project=project_label(project, session.config, Path.cwd()),
        volumes=tuple(volumes),
        data_volume_size_gib=data_volume_size_gib,
        data_mount_point=data_mount_point,
        **fields,
    )


class MachineArguments(TypedDict, total=False):
    """What a program may say of a new machine: the arguments of `create` that are about it."""

    instance_type: str | None
    other_types: Sequence[str]
    needs: Needs | None
    max_price: Decimal | None
    fallback: SpotFallback | None
    spot: bool | None
    volumes: Sequence[str | VolumeMount]
    data_volume_size_gib: int | None
    data_mount_point: str
    root_volume_size_gib: int | None
    image: str | None
    key_name: str | None
    security_groups: Sequence[str]
    instance_profile: str | None
    subnet: str | None
    imds_hop_limit: int | None
    zone: str | None
    project: str | None
    name: str | None
    ttl: timedelta | None
    budget: Decimal | None
    idle_timeout: timedelta | None
    tags: Mapping[str, str] | None
    options: Mapping[str, Any] | None


def machine_request(
    session: Session, provider: str, **arguments: Unpack[MachineArguments]
) -> InstanceRequest:
    """As `instance_request`, of what a program says."""
    given: dict[str, Any] = dict(arguments)
    volumes = given.pop("volumes", ())
    return instance_request(
        session,
        provider,
        spot=given.pop("spot", None),
        project=given.pop("project", None),
        volumes=[VolumeMount(each) if isinstance(each, str) else each for each in volumes],
        data_volume_size_gib=given.pop("data_volume_size_gib", None),
        data_mount_point=given.pop("data_mount_point", "/mnt/data"),
        security_groups=tuple(given.pop("security_groups", ())),
        tags=dict(given.pop("tags", None) or {}),
        options=dict(given.pop("options", None) or {}),
        other_types=tuple(given.pop("other_types", ())),
        fallback=given.pop("fallback", None) or SpotFallback(),
        **given,
    )


def create(
    instance_type: str | None = None,
    *,
    other_types: Sequence[str] = (),
    needs: Needs | None = None,
    max_price: Decimal | None = None,
    fallback: SpotFallback | None = None,
    provider: str = DEFAULT,
    spot: bool | None = None,
    volumes: Sequence[str | VolumeMount] = (),
    data_volume_size_gib: int | None = None,
    data_mount_point: str = "/mnt/data",
    root_volume_size_gib: int | None = None,
    image: str | None = None,
    key_name: str | None = None,
    security_groups: Sequence[str] = (),
    instance_profile: str | None = None,
    subnet: str | None = None,
    imds_hop_limit: int | None = None,
    zone: str | None = None,
    project: str | None = None,
    name: str | None = None,
    ttl: timedelta | None = None,
    budget: Decimal | None = None,
    idle_timeout: timedelta | None = None,
    tags: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    wait: bool = True,
    timeout: timedelta = READY_TIMEOUT,
    on_plan: Callable[[CreatePlan], None] = lambda _: None,
    session: Session | None = None,
) -> Instance:
    """A rented machine that can be used: what ``runctl PROVIDER create`` does, with the same options.

    Options that are not given come from the configuration. ``other_types`` will do as well as ``instance_type``;
    ``needs`` may stand for both. ``max_price`` is in USD an hour, ``fallback`` says what follows without spot
    capacity. ``ttl``, ``budget`` (USD) and ``idle_timeout`` (zero: never) say when the machine ends itself.
    ``volumes`` are ids or names, each mounted where it was last, else at ``/mnt/NAME``, or `VolumeMount`. ``options``
    are the provider's own. ``on_plan`` is called with the finished plan and its price before anything is rented; an
    exception from it stops the call there. Nobody is asked.

    A call that ends early may have rented the machine: the same call again goes on with that one. Raises
    `CapacityError`, `QuotaExceeded`, `Conflict`, `NotFound`, `UsageError`, and `Unreachable` when the machine is not
    ready in time.
    """
    session = session or Session()
    request = machine_request(
        session,
        provider,
        instance_type=instance_type,
        other_types=other_types,
        needs=needs,
        max_price=max_price,
        fallback=fallback,
        spot=spot,
        volumes=volumes,
        data_volume_size_gib=data_volume_size_gib,
        data_mount_point=data_mount_point,
        root_volume_size_gib=root_volume_size_gib,
        image=image,
        key_name=key_name,
        security_groups=security_groups,
        instance_profile=instance_profile,
        subnet=subnet,
        imds_hop_limit=imds_hop_limit,
        zone=zone,
        project=project,
        name=name,
        ttl=ttl,
        budget=budget,
        idle_timeout=idle_timeout,
        tags=tags,
        options=options,
    )
    with new_machine(session, provider, request) as machine:
        on_plan(machine.plan)
        return machine.rent(wait=timeout if wait else None)


def ending(
    session: Session, provider: str, references: Sequence[str], *, wait: timedelta | None = None
) -> Deleting[Instance]:
    """Instances by id or name, each to be given back; with ``wait``, their volumes are free then.

    Raises what `Deletions.find` raises; ending one raises what `Renting.terminate` raises.
    """
    rentals = session.rentals(provider)
    require(rentals.provider.renting)
    found = deleting(
        session.deletions(rentals.provider, Kind.TERMINATION),
        references,
        instance_finder(session, provider),
        lambda instance: rentals.give_back(instance.id),
    )

    def end(instance: Instance) -> Instance:
        ended = found.delete(instance)
        return ended if wait is None else rentals.wait_ended(ended.id, wait)

    return Deleting(found.found, end)


def terminate(
    *instances: str | Instance,
    wait: bool = False,
    timeout: timedelta = ENDED_TIMEOUT,
    provider: str = DEFAULT,
    session: Session | None = None,
) -> tuple[Instance, ...]:
    """The instances end for good; volumes stay. With ``wait``, their volumes can be attached elsewhere then.

    Raises `NotFound`, `UsageError` (ambiguous name), `PermissionDenied` for an instance that runctl did not create.
    """
    references = [each if isinstance(each, str) else each.id for each in instances]
    found = ending(session or Session(), provider, references, wait=timeout if wait else None)
    return tuple(map(found.delete, found.found))


def _shared_name(session: Session, provider: str, name: str | None, own_id: str | None) -> list[str]:
    """A warning for other instances of that name; ``own_id`` is the one that this command goes on with."""
    if name is None:
        return []
    known = session.provider(provider).instances()
    others = [i.id for i in known if i.tags.get(NAME) == name and i.id != own_id]
    if not others:
        return []
    return [f"{', '.join(others)} {'are' if others[1:] else 'is'} called {name} too: commands need its id"]
