"""What Lyceum says of a VM, as an `Instance`. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from runctl.core import tags as tag
from runctl.core.ids import InstanceId, VolumeId
from runctl.core.machine_models import AttachedVolume, Instance, InstanceState, Market
from runctl.providers.labels import tags_of
from runctl.providers.lyceum.api import Attached, BlockVolume, Variant, Vm
from runctl.providers.lyceum.catalogue import ANYWHERE, Kind, on_offer
from runctl.providers.registry import command
from runctl.providers.ssh_machines import Door

PROVIDER = "lyceum"
_STATES = {
    "pending": InstanceState.PENDING,
    "provisioning": InstanceState.PENDING,
    "running": InstanceState.RUNNING,
    "ready": InstanceState.RUNNING,
    "stopped": InstanceState.STOPPED,
    "failed": InstanceState.TERMINATED,
    "error": InstanceState.TERMINATED,
    "terminated": InstanceState.TERMINATED,
}
"""A word that is not here is taken for a machine that runs: one that nobody sees is billed all the same."""
_FAULTS = {"failed": "failed", "error": "has an error"}
"""Words by which Lyceum says that it was the machine's own end, and in ours."""


def door_of(address: str | None) -> Door | None:
    """Of ``203.0.113.10``, ``203.0.113.10:2022``, ``[2001:db8::1]:22`` or ``2001:db8::1``; ``None``: not known yet."""
    text = (address or "").strip()
    if not text:
        return None
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return Door(host, _port(rest.removeprefix(":"))) if host else None
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return Door(host, _port(port)) if host else None
    return Door(text, 22)


def _port(text: str) -> int:
    return int(text) if text.isdecimal() and 0 < int(text) < 65_536 else 22


def state_of(vm: Vm) -> InstanceState:
    """Running only where there is an address too: ``ready`` comes before it."""
    state = _STATES.get(vm.status, InstanceState.RUNNING)
    if state is InstanceState.RUNNING and door_of(vm.ip_address) is None:
        return InstanceState.PENDING
    return state


def with_volumes(vms: Iterable[Vm], volumes: Iterable[BlockVolume]) -> tuple[Vm, ...]:
    """The VMs with the volumes that they have: the list of VMs does not say it. Pure."""
    had: dict[str | None, list[Attached]] = {}
    for each in volumes:
        attached = Attached(each.volume_id, each.size_gb, each.mount_path)
        had.setdefault(each.attached_vm_id, []).append(attached)
    return tuple(
        vm if vm.volumes or vm.vm_id not in had else msgspec.structs.replace(vm, volumes=tuple(had[vm.vm_id]))
        for vm in vms
    )


def kind_of(vm: Vm) -> Kind:
    """What it is made of; a new VM says it in its specs only."""
    specs = vm.instance_specs
    profile = (specs.gpu_type if specs else None) or vm.hardware_profile or "unknown"
    count = (specs.gpu_count if specs else None) or vm.gpu_count or 1
    return Kind(profile.lower(), count)


def instance_of(
    vm: Vm, variants: Iterable[Variant] = (), *, login_user: str, ended_by_us: bool = False
) -> Instance:
    """The VM; with ``variants``, priced by them.

    A spot VM that is terminated and that nobody of ours has ended counts as taken back: Lyceum gives no reason, and
    does not say who has ended it. One that failed was not.
    """
    kind, state = kind_of(vm), state_of(vm)
    market = Market.SPOT if vm.instance_type == Market.SPOT.value else Market.ON_DEMAND
    variant = on_offer(variants, market).get(kind)
    door = door_of(vm.ip_address)
    tags = tags_of(vm.display_name)
    over = state is InstanceState.TERMINATED
    interrupted = over and vm.status not in _FAULTS and not ended_by_us and market is Market.SPOT
    return Instance(
        id=InstanceId(vm.vm_id),
        provider=PROVIDER,
        state=state,
        instance_type=str(kind),
        market=market,
        zone=ANYWHERE,
        public_ip=door.host if door is not None and not over else None,
        private_ip=None,
        price_per_hour=variant.price_per_hour * kind.gpus if variant is not None else None,
        project=tags.get(tag.PROJECT),
        owner=tags.get(tag.OWNER),
        created_at=time_of(vm.created_at),
        volumes=tuple(
            AttachedVolume(VolumeId(each.volume_id), "", each.mount_path) for each in vm.volumes or ()
        ),
        tags={**tags, tag.LOGIN_USER: login_user} if tags else {tag.NAME: vm.display_name or ""},
        state_reason=_reason(vm, state, interrupted=interrupted, ended_by_us=ended_by_us),
        interrupted=interrupted,
    )


def _reason(vm: Vm, state: InstanceState, *, interrupted: bool, ended_by_us: bool) -> str | None:
    if state is InstanceState.STOPPED:
        end = command(PROVIDER, "terminate", vm.vm_id)
        return f"its system has shut down, and Lyceum may bill it until it is ended: {end}"
    if not state.is_over:
        return None
    if vm.status in _FAULTS:
        return f"Lyceum says that it {_FAULTS[vm.status]}"
    if ended_by_us:
        return "ended by runctl"
    return (
        "Lyceum took it back (inferred: nobody here has ended it)" if interrupted else "ended, not from here"
    )


def time_of(text: str | None) -> datetime:
    """Lyceum's times, some of which have no zone, are UTC."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
