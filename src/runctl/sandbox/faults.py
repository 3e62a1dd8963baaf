"""What is to go wrong, on request: the server's side of `runctl.sandbox.control.Faults`."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from runctl.sandbox.world import World


def apply(world: World, verb: str, words: dict[str, Any]) -> Any:
    """Carry out one request. Raises `KeyError` for an unknown verb or instance."""
    if verb not in _VERBS:
        raise KeyError(f"no such fault: {verb}")
    _VERBS[verb](world, words)
    return {}


def _kill(_world: World, words: dict[str, Any]) -> None:
    from runctl.sandbox.ec2 import backend

    backend().lose(words["instance_id"])


def _rebalance(world: World, words: dict[str, Any]) -> None:
    world.notices[words["instance_id"]].rebalance = json.dumps({"noticeTime": _stamp(datetime.now(UTC))})


def _no_capacity(world: World, words: dict[str, Any]) -> None:
    world.faults.no_capacity.append((words.get("zone"), words.get("instance_type")))


def _capacity(world: World, _words: dict[str, Any]) -> None:
    world.faults.no_capacity.clear()


def _throttle(world: World, words: dict[str, Any]) -> None:
    world.faults.throttled[words["action"]] = int(words["times"])


def _deny(world: World, words: dict[str, Any]) -> None:
    world.faults.denied.add(words["action"])


def _boot_delay(world: World, words: dict[str, Any]) -> None:
    world.faults.boot_delay = float(words["seconds"])


def _ecr_token_seconds(world: World, words: dict[str, Any]) -> None:
    world.faults.ecr_token_seconds = float(words["seconds"])


def _expire_images(_world: World, _words: dict[str, Any]) -> None:
    from runctl.sandbox.ecr.backend import expire_now

    expire_now()


def _boot_never(world: World, words: dict[str, Any]) -> None:
    world.faults.never_boots = bool(words["never"])


def _ssm_offline(world: World, words: dict[str, Any]) -> None:
    world.faults.ssm_offline.add(words["instance_id"])


def _volume_times(world: World, words: dict[str, Any]) -> None:
    for name in ("modifying", "optimizing", "snapshot", "initializing"):
        if words.get(name) is not None:
            setattr(world.faults, f"{name}_seconds", float(words[name]))


def _lazy_blocks(world: World, words: dict[str, Any]) -> None:
    world.faults.lazy_seconds = float(words["seconds"])
    world.faults.background_mibps = float(words["background_mibps"])


def _age_modifications(_world: World, words: dict[str, Any]) -> None:
    from runctl.sandbox.ec2 import backend

    backend().age_modifications(words["volume_id"], timedelta(hours=float(words["hours"])))


def _clear(world: World, _words: dict[str, Any]) -> None:
    world.faults = type(world.faults)()


def _interrupt(world: World, words: dict[str, Any]) -> None:
    """The notice now, the end after ``seconds``: AWS gives 120."""
    instance_id, seconds = words["instance_id"], float(words["seconds"])
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
    "no-capacity": _no_capacity,
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
