"""VMs that are created and ended. Lyceum has no client tokens and no tags: a VM's name carries both."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from runctl.agent.object_store import KEY_OPTIONS
from runctl.core import tags as tag
from runctl.core.errors import (
    Conflict,
    NotFound,
    PermissionDenied,
    Unreachable,
    Unsupported,
)
from runctl.core.ids import InstanceId
from runctl.core.journal import Change, Effect
from runctl.core.machine_models import Instance, InstanceState, Market
from runctl.core.mount_points import usual_mount_points
from runctl.core.progress import SILENT, Progress
from runctl.core.text import time_span
from runctl.core.waiting import attempts
from runctl.providers.capacity import Offer, RefusalListener, no_listener
from runctl.providers.ending_calls import end_once
from runctl.providers.instance_plans import CreatePlan, InstanceRequest, VolumeMount
from runctl.providers.interface import Renting
from runctl.providers.labels import label_of, left_out, tags_of
from runctl.providers.lyceum.api import NAME, Vm
from runctl.providers.lyceum.catalogue import ANYWHERE, choose, on_offer, parse_kind, rate_of
from runctl.providers.lyceum.context import LyceumContext
from runctl.providers.lyceum.machines import PROVIDER, state_of, time_of
from runctl.providers.lyceum.volumes import LyceumVolumes
from runctl.providers.rental_tags import terms_by_label
from runctl.providers.without_tokens import Calls, Creations

FOUND_WITHIN = timedelta(minutes=10)
"""A VM whose creation was not answered may appear this late."""
_HOURS_A_DAY = 24


class LyceumRenting(Renting):
    """See `Renting`."""

    # Whether a machine that is shut down from inside is still billed, Lyceum does not say.
    ends_on_shutdown = False
    choosing = True

    def __init__(self, context: LyceumContext, volumes: LyceumVolumes) -> None:
        self._context = context
        self._volumes = volumes
        self._creations: Creations[Vm] = Creations(
            PROVIDER,
            NAME,
            "VM",
            FOUND_WITHIN,
            self._of_token,
            lambda vm: vm.vm_id,
            Calls(context.state_directory / "creations"),
            context.clock,
            context.journal,
        )

    def plan(self, request: InstanceRequest, progress: Progress = SILENT) -> CreatePlan:
        """Which machines will do, and their prices."""
        del progress
        _refuse(request)
        mounts = tuple(self._mount(each) for each in request.volumes)
        context = self._context
        now = context.clock.now()
        variants = context.api.variants()
        choice = choose(request, variants, now, context.settings.instance_type)
        first = choice.offers[0]
        kind = parse_kind(first.pool.instance_type)
        on_demand = on_offer(variants, Market.ON_DEMAND).get(kind)
        terms = terms_by_label(
            request,
            owner=context.owner,
            per_hour=first.price.usd if first.price is not None else None,
            now=now,
        )
        return CreatePlan(
            provider=PROVIDER,
            instance_type=first.pool.instance_type,
            market=request.market,
            region=ANYWHERE,
            zone=None,
            zone_reason="Lyceum chooses where",
            image="Lyceum's own",
            image_reason="there is no other",
            login_user=context.settings.login_user,
            price=first.price,
            on_demand_price=rate_of(kind, on_demand, now) if on_demand is not None else None,
            volumes=mounts,
            volume_prices={},
            data_volume_size_gib=None,
            data_mount_point=request.data_mount_point,
            root_volume_size_gib=None,
            key_name=None,
            security_groups=(),
            instance_profile=None,
            subnet=None,
            project=request.project,
            owner=context.owner,
            name=request.name,
            ttl=terms.limits.ttl,
            tags=terms.tags,
            client_token=terms.token,
            warnings=_warnings(request, first),
            will_also_create=_new_volume_text(request),
            new_volume_gib=new_volume(request),
            offers=choice.offers,
            left_out=choice.left_out,
            max_price=request.max_price,
            fallback=request.fallback,
            unused_for=request.unused_for,
            budget=terms.limits.budget,
            budget_time=terms.limits.budget_time,
            idle_timeout=terms.limits.idle_timeout,
        )

    def create(
        self, plan: CreatePlan, progress: Progress = SILENT, refused: RefusalListener = no_listener
    ) -> Instance:
        """The VM of the first offer that has one. The same plan again finds it by its name."""
        known = self._of_token(plan.client_token)
        if known is not None:
            return self._usable(known)
        created = self._creations.first_that_can_be_had(
            plan, lambda offer: self._context.api.create(self._body(plan, offer)), refused, progress
        )
        return self._usable(created)

    def terminate(self, instance_id: InstanceId, progress: Progress = SILENT) -> Instance:
        """It is ended, and Lyceum says so. Its block volumes stay, and are named."""
        vm = self._context.api.vm(instance_id)
        if not tags_of(vm.display_name):
            raise PermissionDenied(
                f"VM {instance_id} was not created by runctl",
                hint="end it in Lyceum's dashboard, or with the vendor's tool",
                code="not-ours",
            )
        if state_of(vm) is InstanceState.TERMINATED:
            return self._context.instance(vm)
        attached = {each.volume_id for each in vm.volumes or ()}
        for volume_id in attached:
            # Whoever ends it by an answer that is lost knows the volume all the same.
            self._context.note_volume(volume_id, progress)
        # Before the call: a VM that ends after it is not to be taken for one that was taken back.
        self._context.note_ended(instance_id, progress)
        entry = self._context.journal.begin(
            Change(
                "instance",
                (instance_id,),
                Effect.GONE,
                f"instance {instance_id} has ended",
                check=f"runctl lyceum status {instance_id}",
            )
        )

        def goes_on() -> None:
            # And may yet be taken back.
            self._context.forget_ended(instance_id)
            entry.refused()

        ended = end_once(
            lambda: self._context.api.terminate(instance_id),
            lambda: state_of(self._context.api.vm(instance_id)) is InstanceState.TERMINATED,
            goes_on,
        )
        for volume in (vm.volumes if ended is None else ended.detached_volumes) or ():
            if volume.volume_id not in attached:
                self._context.note_volume(volume.volume_id, progress)
            progress.note(
                f"block volume {volume.volume_id} stays, and is billed: runctl lyceum volumes delete {volume.volume_id}"
            )
        vm = self._ended(instance_id, vm)
        entry.done()
        return self._context.instance(vm, ended_by_us=True)

    def wait_ended(
        self, instance_id: InstanceId, *, timeout: timedelta, progress: Progress = SILENT
    ) -> Instance:
        """Lyceum lists it as terminated."""
        progress.step(f"waiting until {instance_id} has ended")
        for _ in attempts(self._context.clock, timeout):
            vm = self._context.api.vm(instance_id)
            if state_of(vm) is InstanceState.TERMINATED:
                return self._context.instance(vm)
        raise Unreachable(
            f"{instance_id} has not ended after {time_span(timeout)}",
            hint=f"runctl lyceum terminate {instance_id}",
        )

    def _body(self, plan: CreatePlan, offer: Offer) -> dict[str, Any]:
        kind = parse_kind(offer.pool.instance_type)
        storage: dict[str, Any] = {}
        if plan.volumes:
            # They decide where the machine is; else a volume may be copied elsewhere for hours, and billed twice.
            storage = {
                "volume_ids": [each.volume for each in plan.volumes],
                "volume_migration_allowed": False,
            }
        elif plan.new_volume_gib is not None:
            storage = {"new_volume": {"size_gb": plan.new_volume_gib}}
        return {
            **storage,
            "user_public_key": self._context.access.public_key,
            "hardware_profile": kind.profile,
            "instance_type": plan.market.value,
            # At the top level the count is ignored, and 0 is taken for 1.
            "instance_specs": {"gpu_count": kind.gpus},
            "display_name": label_of(plan.tags),
        }

    def _mount(self, wanted: VolumeMount) -> VolumeMount:
        """With the volume's id, and where Lyceum mounts it. Raises `NotFound`, `Conflict`, `Unsupported`."""
        volume = self._volumes.find(wanted.volume)
        path = volume.mount_point or usual_mount_points(volume)[0].path
        if wanted.mount_point not in {None, path}:
            raise Unsupported(
                f"Lyceum mounts {volume.id} at {path}, and nowhere else", hint=f"--volume {volume.id}"
            )
        if volume.attached_to is not None:
            raise Conflict(
                f"block volume {volume.id} is used by {volume.attached_to}",
                hint=f"runctl lyceum terminate {volume.attached_to}",
                code="volume-in-use",
            )
        return VolumeMount(volume.id, path)

    def _of_token(self, token: str) -> Vm | None:
        """The VM that this token has made, ended ones too; the newest that lives first."""
        found = [vm for vm in self._context.api.vms() if tags_of(vm.display_name).get(tag.INTENT) == token]
        found.sort(
            key=lambda vm: (state_of(vm) is not InstanceState.TERMINATED, time_of(vm.created_at)),
            reverse=True,
        )
        return found[0] if found else None

    def _usable(self, vm: Vm) -> Instance:
        if state_of(vm) is InstanceState.TERMINATED:
            raise Conflict(
                f"VM {vm.vm_id}, which this command had made, has ended", hint="try again", code="token-spent"
            )
        return self._context.instance(vm, self._context.variants())

    def _ended(self, instance_id: InstanceId, vm: Vm) -> Vm:
        """As Lyceum shows it after its end; a moment later it may still say that it runs."""
        for _ in attempts(self._context.clock, timedelta(seconds=30)):
            try:
                vm = self._context.api.vm(instance_id)
            except NotFound:
                return Vm(vm.vm_id, "terminated", vm.display_name, None, vm.created_at, vm.instance_specs)
            if state_of(vm) is InstanceState.TERMINATED:
                return vm
        raise Unreachable(
            f"Lyceum has accepted the end of {instance_id} and still lists it as {vm.status}",
            hint=f"look again: runctl lyceum status {instance_id}",
        )


def _refuse(request: InstanceRequest) -> None:
    """What Lyceum's machines cannot have. Raises `Unsupported`."""
    for wanted, reason in (
        (
            request.volumes and new_volume(request),
            "a Lyceum machine has volumes that there are or a new one, not both: --volume or --new-volume",
        ),
        (request.data_volume_size_gib, "Lyceum's machines have no fresh data disk that ends with them"),
        (request.root_volume_size_gib, "the size of a Lyceum machine's disk cannot be chosen"),
        (request.image, "Lyceum's machines have one image"),
        (request.zone, "Lyceum chooses where a machine is"),
        (
            request.writes,
            (
                "Lyceum's machines have no rights of their own in an object store: --checkpoint-s3 own is Lyceum's, and"
                f" of another one the run needs keys ({KEY_OPTIONS})"
            ),
        ),
        (request.helper_for, "Lyceum's volumes cannot be filled by a helper machine"),
    ):
        if wanted:
            raise Unsupported(reason)


def new_volume(request: InstanceRequest) -> int | None:
    """GB of the volume that is made with the machine."""
    size = request.options.get("new-volume")
    return None if size is None else int(size)


def _new_volume_text(request: InstanceRequest) -> tuple[str, ...]:
    size = new_volume(request)
    if size is None:
        return ()
    what = f"a block volume of {size} GB, which stays when the machine has ended"
    return (f"{what}, and is billed (Lyceum does not say how much) until runctl lyceum volumes delete",)


def _warnings(request: InstanceRequest, offer: Offer) -> tuple[str, ...]:
    found = []
    if offer.last:
        found.append(f"Lyceum had no {offer.pool.instance_type} in stock a moment ago")
    if offer.price is not None:
        day: Decimal = offer.price.usd * _HOURS_A_DAY
        found.append(f"Lyceum ends no machine by itself: forgotten, this one costs ${day:.2f} a day")
    if request.market is Market.SPOT:
        found.append("Lyceum takes spot machines back without notice: what is not in a store then is lost")
    lost = left_out(request.tags)
    if lost:
        found.append(f"Lyceum keeps no tags: {', '.join(lost)} {'are' if lost[1:] else 'is'} not kept")
    return tuple(found)
