"""The group that has rented this machine, ended by it: what a machine asks EC2 Auto Scaling for."""

from __future__ import annotations

import time

from runctl.agent.after_run import GroupEnd
from runctl.agent.cloud.ec2 import Ec2, of_this_machine
from runctl.agent.errors import AgentError

_GONE = ("not found", "being deleted", "pending delete")
"""What a refusal's message says of a group that is gone, or going."""


class AutoScaling(Ec2):
    """EC2 Auto Scaling, which speaks as EC2 does. Every method raises `AgentError` as those of `Ec2` do."""

    service = "autoscaling"
    title = "EC2 Auto Scaling"
    version = "2011-01-01"

    def set_to_zero(self, group: str) -> None:
        """The group keeps no machine any more, or is gone."""
        self._unless_gone("SetDesiredCapacity", {"AutoScalingGroupName": group, "DesiredCapacity": "0"})

    def begin_at(self, group: str, action: str, at: float) -> None:
        """The group keeps one machine from that time on (seconds since the epoch), which replaces an earlier one."""
        begins = {"StartTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)), "DesiredCapacity": "1"}
        named = {"AutoScalingGroupName": group, "ScheduledActionName": action}
        self._call("PutScheduledUpdateGroupAction", {**named, **begins, "MinSize": "0", "MaxSize": "1"})

    def delete(self, group: str) -> None:
        """The group is being deleted, with its machine, or is gone."""
        self._unless_gone("DeleteAutoScalingGroup", {"AutoScalingGroupName": group, "ForceDelete": "true"})

    def _unless_gone(self, action: str, parameters: dict[str, str]) -> None:
        try:
            self._call(action, parameters)
        except AgentError as error:
            if not any(known in error.message for known in _GONE):
                raise


def end_groups(
    end: GroupEnd, scaling: AutoScaling | None = None, ec2: Ec2 | None = None, *, own: str = ""
) -> None:
    """Nothing of the run's groups is left but this machine's own, which is being deleted, and this machine with it.

    ``own`` is the one of them that has rented this machine; empty: ``end.group``.

    In the order in which whatever fails is done again by the next call: this machine is there until the last one.
    Raises `AgentError`.
    """
    scaling = scaling or of_this_machine(AutoScaling)
    own = own or end.group
    for other in (each for each in (end.group, *end.others) if each != own):
        scaling.set_to_zero(other)
        scaling.delete(other)
    if end.template:
        (ec2 or of_this_machine(Ec2)).delete_launch_template(end.template)
    # From here on nothing replaces this machine, whatever becomes of it.
    scaling.set_to_zero(own)
    scaling.delete(own)
