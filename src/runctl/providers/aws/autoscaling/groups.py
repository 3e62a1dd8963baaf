"""Auto Scaling groups, each for one run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from runctl.core.ids import InstanceId, RunId
from runctl.core.progress import SILENT, Progress
from runctl.providers.abilities.groups import GroupActivity, GroupPlan, GroupRequest, Groups, MachineGroup
from runctl.providers.aws.autoscaling import carrying_out
from runctl.providers.aws.autoscaling.planning import name_of, plan_group
from runctl.providers.aws.calls.errors import raising_our_errors
from runctl.providers.aws.calls.parse import utc
from runctl.providers.aws.context import AwsContext


@raising_our_errors
class AutoScalingGroups(Groups):
    """See `Groups`."""

    def __init__(self, context: AwsContext) -> None:
        self._context = context

    def plan(self, request: GroupRequest, progress: Progress = SILENT) -> GroupPlan:
        """As for one machine, with the group around it."""
        machines = self.machines(request.take_up.run_id)
        return plan_group(self._context, request, progress, next(iter(machines), None))

    def create(self, plan: GroupPlan, progress: Progress = SILENT) -> MachineGroup:
        """Role, template, group, and its size last."""
        return carrying_out.create(self._context, plan, progress)

    def find(self, run_id: RunId) -> MachineGroup | None:
        """By its name, which has the run's id."""
        found = carrying_out.described_group(self._context, name_of(run_id))
        return carrying_out.group_of(found) if found is not None else None

    def list(self) -> tuple[MachineGroup, ...]:
        """By their tags."""
        found = (carrying_out.group_of(each) for each in carrying_out.described_groups(self._context))
        return tuple(group for group in found if group.run_id)

    def activities(self, run_id: RunId, limit: int = 10) -> tuple[GroupActivity, ...]:
        """AWS remembers them for six weeks."""
        answer = self._context.session.autoscaling.describe_scaling_activities(
            AutoScalingGroupName=name_of(run_id), IncludeDeletedGroups=True, MaxRecords=limit
        )
        return tuple(activity_of(item) for item in answer["Activities"])

    def machines(self, run_id: RunId) -> tuple[InstanceId, ...]:
        """By the run's tag."""
        return carrying_out.live_machines(self._context, run_id)

    def end(self, run_id: RunId, progress: Progress = SILENT) -> tuple[str, ...]:
        """Group and template; network and role when its machines have ended."""
        return carrying_out.end(self._context, run_id, progress)


REPLACES = ("health check", "unhealthy", "rebalanc")
"""What the cause of a termination says where only the group wanted it ("Scaling activities" in the user guide)."""
_TERMINATION = re.compile(r"Terminating EC2 instance: (i-[0-9a-f]+)")


def activity_of(described: Mapping[str, Any]) -> GroupActivity:
    """An item of DescribeScalingActivities. Pure."""
    description, cause = str(described.get("Description") or ""), str(described.get("Cause") or "")
    ended = _TERMINATION.match(description)
    replaces = ended is not None and any(known in cause.lower() for known in REPLACES)
    return GroupActivity(
        at=utc(described.get("StartTime")),
        text=str(described.get("StatusMessage") or description),
        failed=described.get("StatusCode") in {"Failed", "Cancelled"},
        cause=cause,
        replaced=InstanceId(ended.group(1)) if ended is not None and replaces else None,
    )
