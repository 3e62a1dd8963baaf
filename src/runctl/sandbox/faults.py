"""What is to go wrong, on request: the server's side of `runctl.sandbox.control.Faults`."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from runctl.sandbox.capacity import Pool
from runctl.sandbox.world import World


def apply(world: World, verb: str, parameters: dict[str, Any]) -> Any:
    """Carry out one request. Raises `KeyError` for an unknown verb or instance."""
    if verb not in _VERBS:
        raise KeyError(f"no such fault: {verb}")
    _VERBS[verb](world, parameters)
    return {}


def _kill(_world: World, parameters: dict[str, Any]) -> None:
    from runctl.sandbox.ec2 import backend

    backend().lose(parameters["instance_id"])


def _rebalance(world: World, parameters: dict[str, Any]) -> None:
    world.notices[parameters["instance_id"]].rebalance = json.dumps({"noticeTime": _stamp(datetime.now(UTC))})


def _capacity(world: World, parameters: dict[str, Any]) -> None:
    """At most ``count`` instances at once in a pool; without a count, as many as anybody wants."""
    pool = Pool(*(parameters.get(name) for name in ("zone", "instance_type", "market")))
    count = parameters.get("count")
    with world.lock:
        if count is None:
            world.faults.capacity.pop(pool, None)
        else:
            world.faults.capacity[pool] = int(count)


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


def _age_modifications(_world: World, parameters: dict[str, Any]) -> None:
    from runctl.sandbox.ec2 import backend

    backend().age_modifications(parameters["volume_id"], timedelta(hours=float(parameters["hours"])))


def _clear(world: World, _parameters: dict[str, Any]) -> None:
    world.faults = type(world.faults)()


def _interrupt(world: World, parameters: dict[str, Any]) -> None:
    """The notice now, the end after ``seconds``: AWS gives 120."""
    instance_id, seconds = parameters["instance_id"], float(parameters["seconds"])
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    world.notices[instance_id].instance_action = json.dumps({"action": "terminate", "time": _stamp(at)})

    def end() -> None:
        from runctl.sandbox.ec2 import backend

        time.sleep(seconds)
        backend().take_back(instance_id)

    threading.Thread(target=end, daemon=True).start()


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


_VERBS: dict[str, Callable[[World, dict[str, Any]], None]] = {
    "kill": _kill,
    "interrupt": _interrupt,
    "rebalance": _rebalance,
    "capacity": _capacity,
    "throttle": _throttle,
    "deny": _deny,
    "boot-delay": _boot_delay,
    "boot-never": _boot_never,
    "ssm-offline": _ssm_offline,
    "ecr-token-seconds": _ecr_token_seconds,
    "expire-images": _expire_images,
    "volume-times": _volume_times,
    "lazy-blocks": _lazy_blocks,
    "age-modifications": _age_modifications,
    "clear": _clear,
}
