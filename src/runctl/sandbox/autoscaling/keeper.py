"""Keeps every group at its desired capacity: launches, replaces what is not healthy, carries out scheduled actions.

What AWS does within minutes is done in the next round here. Launches are those of fleets (`runctl.sandbox.ec2.fleets`):
the pools are the overrides in all subnets, in the order of the group's allocation strategy.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError
from moto.ec2.exceptions import EC2ClientError

from runctl.sandbox.autoscaling.groups import (
    DISTRIBUTION,
    Activity,
    Group,
    Seen,
    due,
    market_of_next,
    next_step,
)
from runctl.sandbox.ec2 import backend, fleets
from runctl.sandbox.ec2.fleet_pools import Pool, pools
from runctl.sandbox.ec2.world_backend import log
from runctl.sandbox.world import World, current

POLL_SECONDS = 0.2
RETRY_SECONDS = 1.0
"""Between a launch that has failed and the next."""
NAME_TAG = "aws:autoscaling:groupName"


class Keeper:
    """One thread for all groups, from the first group on."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._started = False
        self._wake = threading.Event()

    def wake(self) -> None:
        """A group was made or changed: start a round now."""
        with self._world.lock:
            if not self._started:
                self._started = True
                threading.Thread(target=self._keep, daemon=True).start()
        self._wake.set()

    def _keep(self) -> None:
        while True:
            self._wake.wait(POLL_SECONDS if self._world.groups else None)
            self._wake.clear()
            for group in list(self._world.groups.values()):
                try:
                    self._keep_group(group)
                except Exception:  # noqa: BLE001 (it has a traceback in the log, and other groups need keeping)
                    log.exception("the group %s could not be kept", group.name)

    def _keep_group(self, group: Group) -> None:
        with self._world.lock:
            if "ScheduledActions" not in group.suspended:
                late = timedelta(seconds=self._world.faults.schedule_late)
                for action in due(list(group.scheduled.values()), datetime.now(UTC) - late):
                    del group.scheduled[action.name]
                    resize(group, action.desired, action.least, action.most)
            members = self._seen(group)
            step = next_step(
                group.desired,
                members,
                rebalances=group.capacity_rebalance and not group.deleting,
                suspended=group.suspended,
            )
        states = {each.instance_id: each.state for each in members}
        for instance_id in step.replace:
            self._leave(group, instance_id, states[instance_id], healthy=False)
        for instance_id in step.terminate:
            self._leave(group, instance_id, states[instance_id], healthy=True)
        for _ in range(step.launch if time.monotonic() >= group.next_launch else 0):
            self._launch(group)
        with self._world.lock:
            if group.deleting and not group.members:
                self._world.groups.pop(group.name, None)
                self._world.deleted_groups.append(group)

    def _seen(self, group: Group) -> list[Seen]:
        known = {instance.id: instance for instance in backend().all_instances()}
        found = []
        for instance_id in group.members:
            notices = self._world.notices.get(instance_id)
            at_risk = notices is not None and bool(notices.rebalance or notices.instance_action)
            state = known[instance_id]._state.name if instance_id in known else "terminated"
            found.append(Seen(instance_id, state, at_risk))
        return found

    def _leave(self, group: Group, instance_id: str, state: str, *, healthy: bool) -> None:
        why = (
            "a difference between desired and actual capacity"
            if healthy
            else "an EC2 health check indicating it has been terminated or stopped"
        )
        now = datetime.now(UTC)
        cause = f"At {now:%Y-%m-%dT%H:%M:%SZ} an instance was taken out of service in response to {why}."
        if state not in ("shutting-down", "terminated"):
            backend().terminate_instances([instance_id])
        with self._world.lock:
            group.members.pop(instance_id, None)
            note(group, f"Terminating EC2 instance: {instance_id}", cause, "Successful")

    def _launch(self, group: Group) -> None:
        now = datetime.now(UTC)
        before = len(group.members)
        cause = (
            f"At {now:%Y-%m-%dT%H:%M:%SZ} an instance was started in response to a difference between desired and"
            f" actual capacity, increasing the capacity from {before} to {before + 1}."
        )
        try:
            instance_id = launch(self._world, group)
        except (ClientError, EC2ClientError) as error:
            message = error.response["Error"]["Message"] if isinstance(error, ClientError) else error.message
            with self._world.lock:
                group.next_launch = time.monotonic() + RETRY_SECONDS
                note(
                    group,
                    "Launching a new EC2 instance.  Status Reason: " + message,
                    cause,
                    "Failed",
                    f"{message} Launching EC2 instance failed.",
                )
            return
        with self._world.lock:
            group.members[instance_id] = now
            note(group, f"Launching a new EC2 instance: {instance_id}", cause, "Successful")


def launch(world: World, group: Group) -> str:
    """One more instance of the group, tagged as its member; its id.

    Raises `ClientError` with the last pool's refusal when none has one, `EC2ClientError` for a template that is gone.
    """
    distribution = group.distribution
    settings: Mapping[str, Any] = {**DISTRIBUTION, **(distribution or {})}
    region_backend = backend()
    lifecycles = {instance.id: instance.lifecycle for instance in region_backend.all_instances()}
    on_demand = sum(lifecycles.get(instance_id) != "spot" for instance_id in group.members)
    market = market_of_next(distribution, on_demand, group.desired)
    asked = "SpotAllocationStrategy" if market == "spot" else "OnDemandAllocationStrategy"
    bid = {"MaxPrice": settings["SpotMaxPrice"]} if settings["SpotMaxPrice"] else {}
    overrides = [
        {**override, **bid, "SubnetId": subnet}
        for override in group.overrides or [{}]
        for subnet in group.subnets
    ]
    request = {
        "LaunchTemplateConfigs": [{"LaunchTemplateSpecification": group.template, "Overrides": overrides}]
    }
    tags = [
        {"Key": tag["Key"], "Value": tag.get("Value", "")}
        for tag in group.tags
        if tag.get("PropagateAtLaunch")
    ]
    tagged = {"TagSpecifications": [{"ResourceType": "instance", "Tags": tags}]} if tags else {}
    client = fleets.client_of(world.keys.access_key_id, "", world.region)
    refusal: ClientError | None = None
    for pool in fleets.in_order(
        list(pools(request, region_backend)), market, str(settings[asked]), world.region
    ):
        try:
            instance_id = fleets.run_instance(client, tagged, _placed(pool, group), market)
        except ClientError as error:
            refusal = error
            continue
        region_backend.create_tags([instance_id], {NAME_TAG: group.name})
        return instance_id
    assert refusal is not None  # noqa: S101 - a group has at least one subnet
    raise refusal


def _placed(pool: Pool, group: Group) -> Pool:
    if not group.placement:
        return pool
    placement = {**pool.launch.get("Placement", {}), "GroupName": group.placement}
    return replace(pool, launch={**pool.launch, "Placement": placement})


def resize(group: Group, desired: int | None, least: int | None, most: int | None) -> None:
    """The group has these sizes; the desired one is kept within the two others."""
    group.least = group.least if least is None else least
    group.most = group.most if most is None else most
    group.desired = min(max(group.desired if desired is None else desired, group.least), group.most)


def note(group: Group, description: str, cause: str, status: str, message: str = "") -> Activity:
    """Record an activity of the group that has ended."""
    now = datetime.now(UTC)
    activity = Activity(str(uuid.uuid4()), description, cause, now, status, message, now)
    group.activities.append(activity)
    return activity


_keepers: dict[int, Keeper] = {}


def keeper() -> Keeper:
    """Of this process's world."""
    world = current()
    return _keepers.setdefault(id(world), Keeper(world))
