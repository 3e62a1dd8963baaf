"""Several EC2 instances for one run: one fleet in one zone, a security group and a placement group of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

from runctl.core import tags as tag
from runctl.core.errors import Conflict, Unreachable
from runctl.core.ids import InstanceId
from runctl.core.journal import Change, Effect
from runctl.core.machine_models import Instance, InstanceState
from runctl.core.progress import SILENT, Progress
from runctl.core.text import time_span
from runctl.core.waiting import attempts
from runctl.providers.abilities.groups import GroupNetwork
from runctl.providers.abilities.nodes import Nodes, NodesPlan, NodesRequest
from runctl.providers.aws.calls.errors import raising_our_errors
from runctl.providers.aws.calls.filters import describe as describe_exactly
from runctl.providers.aws.calls.parse import mounts_tag, tag_list, tags_of
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ec2 import planning, private_network
from runctl.providers.aws.ec2.fleets import Batch, delete_template, launch_from_pools
from runctl.providers.aws.ec2.images import root_device
from runctl.providers.aws.ec2.instances import describe, priced
from runctl.providers.aws.ec2.launch import profile_of, run_instances_arguments, visible
from runctl.providers.aws.ec2.releasing import let_go
from runctl.providers.capacity import RefusalListener, no_listener
from runctl.providers.instance_plans import VolumeMount

TAGGED_WITHIN = timedelta(minutes=1)


@raising_our_errors
class Ec2Nodes(Nodes):
    """See `Nodes`."""

    def __init__(self, context: AwsContext) -> None:
        self._context = context

    def plan(self, request: NodesRequest, progress: Progress = SILENT) -> NodesPlan:
        """As for one machine, with the quota of all, and the groups that are made for them.

        The VPC's default group, in which any machine of the account may be, is left out unless it is named: what it
        lets in over SSH from networks, the machines' own group does.
        """
        machine = planning.plan_create(self._context, request.machine, progress, count=request.least)
        named = bool(request.machine.security_groups)
        machine, own = private_network.plan_network(self._context, machine, request.most, named=named)
        return NodesPlan(
            machine,
            request.least,
            request.most,
            own.name,
            own.entrances,
            own.placement,
            own.placement_reason,
        )

    def create(
        self, plan: NodesPlan, progress: Progress = SILENT, refused: RefusalListener = no_listener
    ) -> tuple[Instance, ...]:
        """CreateFleet with a least capacity; each instance then gets its name and rank."""
        context, machine = self._context, plan.machine
        described = self._described(plan.token)
        live = [item for item in described if not InstanceState(item["State"]["Name"]).is_over]
        if len(live) >= plan.least:
            delete_template(context, machine)
        elif described:
            self._end([InstanceId(item["InstanceId"]) for item in live])
            raise Conflict(
                f"{len(live)} of the {plan.least} machines that this request created earlier are left",
                hint="run the same command again to create new ones",
                code="token-spent",
            )
        else:
            live = self._launch(plan, progress, refused)
        return self._ranked(plan, live)

    def find(self, token: str) -> tuple[Instance, ...]:
        """By the tag of the intent."""
        live = [item for item in self._described(token) if not InstanceState(item["State"]["Name"]).is_over]
        return tuple(priced(self._context, item) for item in in_rank(live))

    def assign(self, node: Instance, mounts: Sequence[VolumeMount]) -> Instance:
        """In the instance's tag, which `wait_ready` goes by."""
        if not mounts:
            return node
        text = mounts_tag([(mount.volume, mount.mount_point or "") for mount in mounts])
        tags = {tag.MOUNTS: text}
        if read_only := " ".join(mount.volume for mount in mounts if mount.read_only):
            tags[tag.READ_ONLY] = read_only
        self._tag(node.id, tags)
        return replace(node, tags={**node.tags, **tags})

    def remove_network(self, token: str, progress: Progress = SILENT) -> tuple[str, ...]:
        """Security group and placement group."""
        progress.step("removing the network of the machines")
        return private_network.remove_network(self._context, token)

    def _launch(
        self, plan: NodesPlan, progress: Progress, refused: RefusalListener
    ) -> list[Mapping[str, Any]]:
        context, machine = self._context, plan.machine
        let_go(context, machine.volumes, progress)
        # Each is told what it mounts when it has its rank.
        tags = {key: value for key, value in machine.tags.items() if key not in {tag.MOUNTS, tag.READ_ONLY}}
        private_network.remove_old_networks(context, plan.token)
        progress.step("making a network for the machines")
        subnet = next(offer.subnet for offer in machine.offers if offer.subnet)
        own_network = GroupNetwork(plan.network, plan.entrances, plan.placement)
        group = private_network.make_network(context, plan.token, subnet, own_network, tags)
        own = replace(machine, tags=tags, security_groups=(*machine.security_groups, group))
        profile = profile_of(context, own, progress)
        arguments = run_instances_arguments(own, root_device(context.session, machine.image), profile)
        batch = Batch(plan.least, plan.most, plan.placement)

        def launched() -> tuple[InstanceId, ...]:
            return tuple(InstanceId(item["InstanceId"]) for item in self._described(plan.token))

        try:
            ids = launch_from_pools(context, own, arguments, launched, progress, refused, batch)
        except Exception:
            # Nothing uses it; where a machine has come of it after all, EC2 refuses.
            with suppress(Exception):
                private_network.remove_network(context, plan.token)
            raise
        for instance_id in ids[1:]:
            # The call itself tells of the first.
            context.session.journal.record(exists(instance_id))
        return [visible(context, instance_id) for instance_id in ids]

    def _ranked(self, plan: NodesPlan, live: Sequence[Mapping[str, Any]]) -> tuple[Instance, ...]:
        """Each has its rank and its name, from the first call on."""
        found = []
        for rank, item in enumerate(in_rank(live)):
            instance_id = InstanceId(item["InstanceId"])
            wanted = rank_tags(plan.machine.tags, rank)
            known = tags_of(item.get("Tags"))
            if any(known.get(key) != value for key, value in wanted.items()):
                self._tag(instance_id, wanted)
            found.append(priced(self._context, self._seen_with_rank(instance_id, rank)))
        return tuple(found)

    def _seen_with_rank(self, instance_id: InstanceId, rank: int) -> Mapping[str, Any]:
        for _ in attempts(self._context.clock, TAGGED_WITHIN):
            described = describe(self._context, instance_id)
            if tags_of(described.get("Tags")).get(tag.RANK) == str(rank):
                return described
        raise Unreachable(f"EC2 does not show the rank of {instance_id} after {time_span(TAGGED_WITHIN)}")

    def _tag(self, instance_id: InstanceId, tags: Mapping[str, str]) -> None:
        ec2: Any = self._context.session.ec2
        ec2.create_tags(Resources=[instance_id], Tags=tag_list(tags))

    def _end(self, instance_ids: Sequence[InstanceId]) -> None:
        if instance_ids:
            self._context.session.ec2.terminate_instances(InstanceIds=list(instance_ids))

    def _described(self, token: str) -> list[Mapping[str, Any]]:
        return describe_exactly(
            self._context.session.ec2, "describe_instances", {f"tag:{tag.INTENT}": [token]}
        )


def in_rank(described: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Instances by the rank that they have, and those that have none yet after them, by id. Pure."""

    def rank(item: Mapping[str, Any]) -> tuple[int, str]:
        text = tags_of(item.get("Tags")).get(tag.RANK, "")
        return (int(text) if text.isdigit() else len(described), item["InstanceId"])

    return sorted(described, key=rank)


def rank_tags(tags: Mapping[str, str], rank: int) -> dict[str, str]:
    """What tells the machine of that rank from the others, and whose run it is of; ``tags`` are those of all. Pure."""
    found = {tag.NAME: f"{tags[tag.NAME]}-{rank}", tag.RANK: str(rank)}
    return {**found, tag.ATTEMPT: tags[tag.ATTEMPT]} if tag.ATTEMPT in tags else found


def exists(instance_id: InstanceId) -> Change:
    """How one of several launched instances is told. Pure."""
    return Change(
        "instance",
        (instance_id,),
        Effect.CREATED,
        f"instance {instance_id} exists and is billed",
        undo=f"runctl aws terminate {instance_id}",
    )
