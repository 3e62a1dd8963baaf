"""Faults on request: the server's side of `runctl.sandbox.fault_client.Faults`."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from runctl.core.names import did_you_mean
from runctl.sandbox.capacity import Pool
from runctl.sandbox.quotas import QUOTA_OF
from runctl.sandbox.store_trouble import WELL, StoreTrouble
from runctl.sandbox.world import Faults, World


def apply(world: World, verb: str, parameters: dict[str, Any]) -> Any:
    """Carry out one request. Raises `KeyError` for an unknown verb, instance, zone or type; with a hint, or none."""
    if verb not in _VERBS:
        raise KeyError(f"no such fault: {verb}")
    return _VERBS[verb](world, parameters) or {}


def _kill(world: World, parameters: dict[str, Any]) -> dict[str, Any]:
    from runctl.sandbox.ec2 import backend

    instance = _instance(world, parameters)
    backend().lose(instance.id, holds_seconds=float(parameters.get("holds_seconds") or 0))
    return {"instance_id": instance.id}


def _rebalance(world: World, parameters: dict[str, Any]) -> dict[str, Any]:
    instance = _spot_instance(world, parameters)
    world.notices[instance.id].rebalance = json.dumps({"noticeTime": _stamp(datetime.now(UTC))})
    return {"instance_id": instance.id}


def _instance(world: World, parameters: dict[str, Any]) -> Any:
    """The machine with that id, or the only one with that name. Raises `KeyError`, whose text says why not."""
    from runctl.sandbox.ec2 import backend

    wanted = parameters["instance_id"]
    present = [instance for instance in backend().all_instances() if instance.id in world.machines]
    found = [instance for instance in present if instance.id == wanted] or [
        instance
        for instance in present
        if any(tag["key"] == "Name" and tag["value"] == wanted for tag in instance.get_tags())
    ]
    if len(found) > 1:
        ids = ", ".join(instance.id for instance in found)
        raise KeyError(f"{len(found)} instances are named {wanted!r}: {ids}; name one by its id")
    if not found:
        raise KeyError(f"the sandbox has no instance {wanted!r} that is running or stopped")
    return found[0]


def _spot_instance(world: World, parameters: dict[str, Any]) -> Any:
    instance = _instance(world, parameters)
    if instance.lifecycle != "spot":
        raise KeyError(f"{instance.id} is an on-demand instance: EC2 interrupts spot instances only")
    if instance._state.name not in {"pending", "running"}:
        raise KeyError(f"{instance.id} is {instance._state.name}")
    return instance


def _pool(parameters: dict[str, Any]) -> Pool:
    """Raises `KeyError`, with a hint, for a zone or a type that there is not: nothing would ever go wrong there."""
    from moto.ec2.models.instance_types import INSTANCE_TYPES

    from runctl.sandbox.ec2 import backend

    pool = Pool(*(parameters.get(name) for name in ("zone", "instance_type", "market")))
    zones = [zone.name for zone in backend().describe_availability_zones()]
    if pool.zone is not None and pool.zone not in zones:
        raise KeyError(f"the sandbox has no zone {pool.zone!r}", f"it has {', '.join(zones)}")
    if pool.instance_type is not None and pool.instance_type not in INSTANCE_TYPES:
        hint = did_you_mean(pool.instance_type, INSTANCE_TYPES) or "name a type of EC2's, such as g5.xlarge"
        raise KeyError(f"the sandbox has no instance type {pool.instance_type!r}", hint)
    return pool


def _capacity(world: World, parameters: dict[str, Any]) -> None:
    """At most ``count`` instances at once in a pool; without a count, as many as anybody wants."""
    pool = _pool(parameters)
    count = parameters.get("count")
    with world.lock:
        if count is None:
            world.faults.capacity.pop(pool, None)
        else:
            world.faults.capacity[pool] = int(count)


def _quota(world: World, parameters: dict[str, Any]) -> None:
    """The account may have so many vCPUs of a kind; without a number, as many as at first."""
    vcpus = parameters.get("vcpus")
    with world.lock:
        for market in [parameters["market"]] if parameters.get("market") else ["on-demand", "spot"]:
            code = QUOTA_OF[parameters["kind"], market].code
            if vcpus is None:
                world.faults.quotas.pop(code, None)
            else:
                world.faults.quotas[code] = int(vcpus)


def _throttle(world: World, parameters: dict[str, Any]) -> None:
    world.faults.throttled[parameters["action"]] = int(parameters["times"])


def _deny(world: World, parameters: dict[str, Any]) -> None:
    world.faults.denied.add(parameters["action"])


def _boot_delay(world: World, parameters: dict[str, Any]) -> None:
    world.faults.boot_delay = float(parameters["seconds"])


def _ecr_token_seconds(world: World, parameters: dict[str, Any]) -> None:
    world.faults.ecr_token_seconds = float(parameters["seconds"])


def _expire_images(_world: World, _parameters: dict[str, Any]) -> None:
    from runctl.sandbox.ecr.backend import expire_now

    expire_now()


def _boot_never(world: World, parameters: dict[str, Any]) -> None:
    world.faults.never_boots = bool(parameters["never"])


def _ssm_offline(world: World, parameters: dict[str, Any]) -> None:
    world.faults.ssm_offline.add(parameters["instance_id"])


def _volume_times(world: World, parameters: dict[str, Any]) -> None:
    for name in ("modifying", "optimizing", "snapshot", "initializing"):
        if parameters.get(name) is not None:
            setattr(world.faults, f"{name}_seconds", float(parameters[name]))


def _lazy_blocks(world: World, parameters: dict[str, Any]) -> None:
    world.faults.lazy_seconds = float(parameters["seconds"])
    world.faults.background_mibps = float(parameters["background_mibps"])


def _schedule_late(world: World, parameters: dict[str, Any]) -> None:
    world.faults.schedule_late = float(parameters["seconds"])


def _store(world: World, parameters: dict[str, Any]) -> None:
    world.faults.store = StoreTrouble(bool(parameters["away"]), float(parameters["bytes_per_second"]))


def _age_modifications(_world: World, parameters: dict[str, Any]) -> None:
    from runctl.sandbox.ec2 import backend

    backend().age_modifications(parameters["volume_id"], timedelta(hours=float(parameters["hours"])))


def _clear(world: World, _parameters: dict[str, Any]) -> None:
    world.faults = type(world.faults)()
    world.lyceum.behaviour = type(world.lyceum.behaviour)()
    world.runpod.behaviour = type(world.runpod.behaviour)()


def _lyceum(world: World, parameters: dict[str, Any]) -> None:
    """How Lyceum's API behaves from now on; see `runctl.sandbox.lyceum.account.Behaviour`."""
    stock = parameters.pop("stock", None)
    if stock is not None:
        world.lyceum.behaviour.stock[stock["profile"], stock["market"]] = int(stock["count"])
    _behave(world.lyceum.behaviour, parameters)


def _runpod(world: World, parameters: dict[str, Any]) -> None:
    """How RunPod's API behaves from now on; see `runctl.sandbox.runpod.account.Behaviour`."""
    stock = parameters.pop("stock", None)
    if stock is not None:
        world.runpod.behaviour.stock[stock["gpu"]] = int(stock["count"])
    _behave(world.runpod.behaviour, parameters)


def _runpod_fail_host(world: World, parameters: dict[str, Any]) -> None:
    world.runpod.fail_host(parameters["pod_id"])


def _behave(behaviour: object, parameters: dict[str, Any]) -> None:
    for name, value in parameters.items():
        if not hasattr(behaviour, name):
            raise KeyError(f"this API has no behaviour {name!r}")
        setattr(behaviour, name, type(getattr(behaviour, name))(value))


def _lyceum_reclaim(world: World, parameters: dict[str, Any]) -> None:
    world.lyceum.reclaim(world, parameters["vm_id"])


def _interrupt(world: World, parameters: dict[str, Any]) -> dict[str, Any]:
    """The notice now, the end after ``seconds``: AWS gives 120. A second notice does not move the end."""
    instance, seconds = _spot_instance(world, parameters), float(parameters["seconds"])
    notices = world.notices[instance.id]
    with world.lock:
        if notices.instance_action is not None:
            return {"instance_id": instance.id, "ends_at": json.loads(notices.instance_action)["time"]}
        at = _stamp(datetime.now(UTC) + timedelta(seconds=seconds))
        notices.instance_action = json.dumps({"action": "terminate", "time": at})

    def end() -> None:
        from runctl.sandbox.ec2 import backend

        time.sleep(seconds)
        backend().take_back(instance.id)

    threading.Thread(target=end, daemon=True).start()
    return {"instance_id": instance.id, "ends_at": at}


def _interrupt_pool(world: World, parameters: dict[str, Any]) -> dict[str, Any]:
    """All spot instances of a zone, and of a type where one is given, have their notice; their ids."""
    from runctl.sandbox.ec2 import backend

    pool = _pool({**parameters, "market": "spot"})
    found = [
        instance.id
        for instance in backend().all_instances()
        if instance.lifecycle == "spot"
        and instance._state.name in {"pending", "running"}
        and pool.holds(Pool(instance.availability_zone, instance.instance_type, "spot"))
    ]
    for instance_id in found:
        _interrupt(world, {"instance_id": instance_id, "seconds": parameters["seconds"]})
    return {"instance_ids": found}


def _faults(world: World, _parameters: dict[str, Any]) -> dict[str, Any]:
    """The current faults: where the sandbox differs from one without faults."""
    faults, well = world.faults, Faults()
    with world.lock:
        found: dict[str, Any] = {
            "capacity": [
                {**asdict(pool), "count": count} for pool, count in sorted(faults.capacity.items(), key=str)
            ],
            "notices": [
                {"instance_id": instance_id, **json.loads(notices.instance_action)}
                for instance_id, notices in sorted(world.notices.items())
                if notices.instance_action is not None
            ],
            "rebalance": sorted(
                instance_id for instance_id, notices in world.notices.items() if notices.rebalance is not None
            ),
            "quotas": [
                {"kind": quota.kind, "market": quota.market, "vcpus": faults.quotas[quota.code]}
                for quota in QUOTA_OF.values()
                if quota.code in faults.quotas
            ],
            "throttled": {action: times for action, times in faults.throttled.items() if times},
            "denied": sorted(faults.denied),
            "ssm_offline": sorted(faults.ssm_offline),
            "store": asdict(faults.store) if faults.store != WELL else None,
        }
        found["other"] = {
            item.name: getattr(faults, item.name)
            for item in fields(faults)
            if item.name not in found and getattr(faults, item.name) != getattr(well, item.name)
        }
    return found


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


_VERBS: dict[str, Callable[[World, dict[str, Any]], dict[str, Any] | None]] = {
    "faults": _faults,
    "lyceum": _lyceum,
    "lyceum-reclaim": _lyceum_reclaim,
    "runpod": _runpod,
    "runpod-fail-host": _runpod_fail_host,
    "kill": _kill,
    "interrupt": _interrupt,
    "interrupt-pool": _interrupt_pool,
    "rebalance": _rebalance,
    "capacity": _capacity,
    "quota": _quota,
    "throttle": _throttle,
    "deny": _deny,
    "boot-delay": _boot_delay,
    "boot-never": _boot_never,
    "ssm-offline": _ssm_offline,
    "ecr-token-seconds": _ecr_token_seconds,
    "expire-images": _expire_images,
    "volume-times": _volume_times,
    "lazy-blocks": _lazy_blocks,
    "schedule-late": _schedule_late,
    "store": _store,
    "age-modifications": _age_modifications,
    "clear": _clear,
}
