"""What a prewarm is about to do: how the data gets onto the volume, on which machine, how long it takes and costs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from runctl._dataclasses import dataclass
from runctl.agent.object_store import Source
from runctl.core.errors import Conflict, NotFound, Unsupported, UsageError
from runctl.core.machine_models import Instance, InstanceState, Market, Volume, VolumeState
from runctl.core.mount_points import default_mount_point
from runctl.core.progress import SILENT, Progress
from runctl.costs.traffic import Requests, requests_for
from runctl.providers.abilities.filling import StoredData
from runctl.providers.instance_plans import CreatePlan, InstanceRequest
from runctl.providers.interface import Provider, require
from runctl.providers.registry import volume_command
from runctl.runs.train.plan import check_instance
from runctl.storage.attaching import AgentOn
from runctl.storage.initialising import Decision, Way, decide
from runctl.storage.machines import Estimate, choose, estimate

PROGRAM = "fill"
"""The agent's program that does it on the machine. Its runs are known by this name and their arguments."""
GIB = 1 << 30
PIECE = 16 << 20
"""What the program on the machine asks for at once."""
SHORTEST_TTL, LONGEST_TTL = timedelta(hours=1), timedelta(hours=48)
IDLE_MINUTES = 10
"""How long a helper machine waits, when its program has ended, for a command line that still wants it."""
ON_DEMAND_REASON = (
    "the volume fixes the zone, and an interruption costs more time than spot saves; --spot takes it"
)
"""Why a helper machine is not bought as spot unless that is asked for."""


@dataclass(frozen=True)
class PrewarmRequest:
    """What the user asked for."""

    volume: Volume
    source: Source | None = None
    """``None``: the snapshot that the volume was made from."""
    to: str | None = None
    """A folder on the volume; ``None`` is all of it."""
    delete: bool = False
    helper: bool | None = None
    """``None``: a helper machine if the volume is not attached."""
    instance_type: str | None = None
    """Of the helper machine."""
    market: Market = Market.ON_DEMAND
    ttl: timedelta | None = None
    mount_point: str | None = None
    may_format: bool = False
    detach: bool = False
    """Also from a machine that had it before."""
    project: str | None = None
    listing: str | None = None
    """What another volume was filled with, whose place it is to take (`runctl.core.tags.FILLED_WITH`)."""


@dataclass(frozen=True)
class PrewarmPlan:
    """Everything decided; nothing rented, attached or written yet."""

    request: PrewarmRequest
    way: str
    """``s3``, ``read``, ``wait`` or ``done``."""
    reason: str
    considered: tuple[str, ...]
    stored: StoredData | None
    size_bytes: int | None
    where: str
    """``attached``, ``helper`` (new), ``helper-found``, or ``nowhere``."""
    instance: Instance | None
    """The machine, where there is one already."""
    machine: CreatePlan | None
    """The helper machine that will be rented."""
    machine_reason: str
    role: str | None
    """The helper machine's own role."""
    mount_point: str | None
    was_mounted: bool
    """It is mounted there now, and stays so."""
    estimate: Estimate
    warnings: tuple[str, ...] = ()
    requests: Requests | None = None
    """To the object store; ``None``: there are none, or nobody knows how many or at what price."""

    @property
    def on_helper(self) -> bool:
        """Whether the machine is given back at the end."""
        return self.where in {"helper", "helper-found"}

    @property
    def into(self) -> str | None:
        """The folder on the machine that is filled."""
        if self.mount_point is None or self.request.source is None:
            return None
        return f"{self.mount_point}/{self.request.to}" if self.request.to else self.mount_point

    def arguments(self, mount_point: str) -> tuple[str, ...]:
        """Of `PROGRAM`; two calls that ask for the same have the same."""
        request = self.request
        ending = ("--end-machine-in", str(IDLE_MINUTES)) if self.on_helper else ()
        if request.source is None:
            return ("blocks", request.volume.id, *ending)
        into = f"{mount_point}/{request.to}" if request.to else mount_point
        region = self.stored.region if self.stored else ""
        delete = ("--delete",) if request.delete else ()
        where = ("--region", region, "--mount-point", mount_point)
        listing = ("--listing", request.listing) if request.listing else ()
        return ("s3", str(request.source), into, *where, *delete, *listing, *ending)


def plan_prewarm(
    provider: Provider, request: PrewarmRequest, agent_on: AgentOn, progress: Progress = SILENT
) -> PrewarmPlan:
    """Look at everything; rent, attach and write nothing.

    Raises `UsageError`, `NotFound` (no bucket, nothing there), `Conflict` (volume in use, too small) and what
    `Renting.plan` raises.
    """
    volume = request.volume
    _check(provider.name, request)
    stored = None
    if request.source is not None:
        stored = require(provider.filling).stored_data(request.source.bucket, request.source.prefix, progress)
        _check_size(provider.name, volume, stored)
    found, where, why = _where(provider, request)
    if found is not None and where == "attached":
        check_instance(found)
    size = stored.size_bytes if stored else volume.size_gib * GIB
    likely = volume.size_gib * GIB if size is None else size
    filling = require(provider.filling)
    speed = filling.volume_mibps(volume)
    names = filling.helper_types
    if found is not None or request.instance_type is not None:
        names = (found.instance_type if found is not None else str(request.instance_type),)
    offers = filling.machine_speeds(names, volume.zone, progress)
    network = request.source is not None
    if found is not None or (request.instance_type is not None and offers):
        chosen = offers[0] if offers else None
        expected = estimate(speed, chosen, likely, rented=where != "attached", network=network)
        kind = found.instance_type if found else str(request.instance_type)
        why = why or "asked for"
    else:
        if not offers:
            raise NotFound(
                f"{volume.zone} has none of {', '.join(names)}", hint="name a type: --instance-type"
            )
        choice = choose(offers, speed, likely, network=network)
        expected, kind, why = choice.estimate, choice.offer.instance_type, choice.reason
    decision = _decision(provider, request, expected)
    if decision is not None and decision.way in {Way.WAIT, Way.DONE}:
        where, found = "nowhere", None
        expected = replace(expected, seconds=decision.seconds, usd=Decimal(0))
    plan = PrewarmPlan(
        request=request,
        way="s3" if decision is None else decision.way.value,
        reason="" if decision is None else decision.reason,
        considered=() if decision is None else decision.considered,
        stored=stored,
        size_bytes=size,
        where=where,
        instance=found,
        machine=None,
        machine_reason=why,
        role=None,
        mount_point=None,
        was_mounted=False,
        estimate=expected,
        warnings=_warnings(request, stored, volume),
        requests=None if stored is None else _requests(provider, stored),
    )
    return _with_machine(provider, plan, kind, agent_on, progress)


def _with_machine(
    provider: Provider, plan: PrewarmPlan, kind: str, agent_on: AgentOn, progress: Progress
) -> PrewarmPlan:
    """The plan with the machine to rent, its role, and where the volume is mounted."""
    request, volume = plan.request, plan.request.volume
    if plan.where == "nowhere":
        return plan
    point = request.mount_point or volume.mount_point or default_mount_point(volume)
    mounted = False
    if plan.where == "attached" and request.source is not None and plan.instance is not None:
        progress.step(f"asking {plan.instance.id} what is mounted")
        here = [mount for mount in agent_on(plan.instance).mounts() if mount.volume_id == volume.id]
        if here:
            mounted, point = True, here[0].mount_point
            if here[0].read_only:
                raise Conflict(
                    f"{volume.id} is mounted read-only at {point} on {plan.instance.id}",
                    hint=f"{volume_command(provider.name, 'detach', volume.id)}, and attach it without --read-only",
                    code="read-only",
                )
    machine, role = None, None
    if plan.on_helper and request.source is not None:
        role, creates = require(provider.filling).plan_role(volume.id)
    if plan.where == "helper":
        machine = require(provider.renting).plan(
            InstanceRequest(
                instance_type=kind,
                market=request.market,
                zone=volume.zone,
                project=request.project or volume.tags.get("runctl:project"),
                name=f"runctl-prewarm-{volume.name or volume.id}",
                ttl=request.ttl or default_ttl(plan.estimate.seconds),
                helper_for=volume.id,
            ),
            progress,
        )
        if role is not None:
            machine = replace(machine, instance_profile=role, will_also_create=(creates,))
    return replace(
        plan,
        machine=machine,
        role=role,
        mount_point=point if request.source is not None else None,
        was_mounted=mounted,
        warnings=(*plan.warnings, *(machine.warnings if machine else ())),
    )


def default_ttl(seconds: float) -> timedelta:
    """Three times what it is expected to take and half an hour, in whole minutes within bounds. Pure."""
    wanted = timedelta(minutes=round((seconds * 3 + 1800) / 60))
    return min(LONGEST_TTL, max(SHORTEST_TTL, wanted))


def _check(provider: str, request: PrewarmRequest) -> None:
    volume = request.volume
    if volume.state not in {VolumeState.AVAILABLE, VolumeState.IN_USE}:
        raise Conflict(
            f"volume {volume.id} is {volume.state.value}, not available",
            hint=volume_command(provider, "list"),
        )
    if request.source is None and (request.delete or request.to or request.mount_point or request.may_format):
        raise UsageError(
            "--delete, --to, --mount-point and --format are for filling from S3",
            hint="add --from s3://bucket/folder",
        )
    parts = (request.to or "").split("/")
    if request.to is not None and (request.to.startswith("/") or {"", ".", ".."} & set(parts)):
        raise UsageError(
            f"--to {request.to}: not a folder on the volume", hint="for example --to datasets/cats"
        )
    if volume.multi_attach and request.source is not None:
        raise Unsupported(
            f"{volume.id} can be attached to several machines at once, and ext4 and XFS cannot be written by two",
            hint="fill a volume without Multi-Attach, and make this one from its snapshot",
        )


def _check_size(provider: str, volume: Volume, stored: StoredData) -> None:
    if stored.size_bytes is not None and stored.size_bytes > volume.size_gib * GIB:
        need = -(-stored.size_bytes * 105 // 100 // GIB)
        raise Conflict(
            f"volume {volume.id} has {volume.size_gib} GiB, and there are {stored.size_bytes / GIB:,.1f} GiB to fetch",
            hint=volume_command(provider, "resize", volume.id, "--size", str(need)),
            code="disk-full",
        )


def _where(provider: Provider, request: PrewarmRequest) -> tuple[Instance | None, str, str]:
    """The machine that there is, which kind it is, and why that one."""
    volume = request.volume
    helpers = require(provider.filling).helpers(volume.id)
    live = [helper for helper in helpers if helper.state in {InstanceState.PENDING, InstanceState.RUNNING}]
    if volume.attached_to is not None and volume.attached_to not in {helper.id for helper in helpers}:
        if request.helper:
            raise Conflict(
                f"volume {volume.id} is in use: attached to {volume.attached_to}",
                hint=f"leave --helper out to fill it there, or {volume_command(provider.name, 'detach', volume.id)}",
                code="volume-in-use",
            )
        return provider.instance(volume.attached_to), "attached", "the volume is attached to it"
    if request.helper is False:
        raise UsageError(
            f"volume {volume.id} is not attached, and --no-helper rents no machine",
            hint=f"{volume_command(provider.name, 'attach', volume.id, 'INSTANCE')}, or leave --no-helper out",
        )
    if live:
        return live[0], "helper-found", "an earlier call rented it for this volume"
    return None, "helper", ""


def _decision(provider: Provider, request: PrewarmRequest, reading: Estimate) -> Decision | None:
    if request.source is not None:
        return None
    volume = request.volume
    origin = require(provider.filling).volume_origin(volume.id)
    if origin.snapshot_id is None:
        raise UsageError(
            f"volume {volume.id} was not made from a snapshot: there is nothing to bring onto it",
            hint="name what to fill it from: --from s3://bucket/folder",
            code="nothing-to-fill",
        )
    return decide(origin, volume.size_gib * GIB, reading)


def _requests(provider: Provider, stored: StoredData) -> Requests | None:
    if isinstance(provider.prices, Unsupported) or stored.objects is None or stored.size_bytes is None:
        return None
    prices = provider.prices.storage(stored.region)
    if prices is None:
        return None
    return requests_for(stored.objects, stored.size_bytes, PIECE, prices.reads, prices.writes)


def _warnings(request: PrewarmRequest, stored: StoredData | None, volume: Volume) -> tuple[str, ...]:
    found = []
    if stored is not None and stored.why_not:
        found.append(f"how much there is in {request.source} is not known: {stored.why_not}")
    if stored is not None and not volume.zone.startswith(stored.region):
        found.append(
            f"the bucket is in {stored.region}, the volume in {volume.zone}: the transfer is billed by the GB"
        )
    return tuple(found)
