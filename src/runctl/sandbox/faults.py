"""What is to go wrong, on request: the server's side of `runctl.sandbox.control.Faults`."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from runctl.sandbox.world import World


def apply(world: World, verb: str, words: dict[str, Any]) -> Any:
    """Carry out one request. Raises `KeyError` for an unknown verb or instance."""
    faults = world.faults
    if verb == "kill":
        from runctl.sandbox.ec2 import backend

        backend().lose(words["instance_id"])
    elif verb == "interrupt":
        _interrupt(world, words["instance_id"], float(words["seconds"]))
    elif verb == "rebalance":
        world.notices[words["instance_id"]].rebalance = json.dumps({"noticeTime": _stamp(datetime.now(UTC))})
    elif verb == "no-capacity":
        faults.no_capacity.append((words.get("zone"), words.get("instance_type")))
    elif verb == "capacity":
        faults.no_capacity.clear()
    elif verb == "throttle":
        faults.throttled[words["action"]] = int(words["times"])
    elif verb == "deny":
        faults.denied.add(words["action"])
    elif verb == "boot-delay":
        faults.boot_delay = float(words["seconds"])
    elif verb == "boot-never":
        faults.never_boots = bool(words["never"])
    elif verb == "ssm-offline":
        faults.ssm_offline.add(words["instance_id"])
    elif verb == "clear":
        world.faults = type(faults)()
    else:
        raise KeyError(f"no such fault: {verb}")
    return {}


def _interrupt(world: World, instance_id: str, seconds: float) -> None:
    """The notice now, the end after ``seconds``: AWS gives 120."""
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    world.notices[instance_id].instance_action = json.dumps({"action": "terminate", "time": _stamp(at)})

    def end() -> None:
        from runctl.sandbox.ec2 import backend

        time.sleep(seconds)
        backend().take_back(instance_id)

    threading.Thread(target=end, daemon=True).start()


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
