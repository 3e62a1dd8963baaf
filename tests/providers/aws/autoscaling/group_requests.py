"""A run that is left to a group, and what the tests of groups ask of AWS's answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from runctl.core.ids import RunId
from runctl.core.machine_models import Market
from runctl.providers.abilities.groups import GroupRequest, TakeUp
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.instance_plans import InstanceRequest

RUN = RunId("run-7kq2m9xd4t")

NAME = f"runctl-{RUN}"

URL = "s3://mine/runs"

TYPES = ("m7i.large", "m6i.large")

MACHINE = InstanceRequest(
    TYPES[0], other_types=TYPES[1:], market=Market.SPOT, writes=(f"{URL}/{RUN}",), tags={"team": "vision"}
)

REQUEST = GroupRequest(MACHINE, TakeUp(URL, RUN, "0" * 64))

CHANGES = [
    "CreateRole",
    "PutRolePolicy",
    "PutRolePolicy",
    "CreateInstanceProfile",
    "AddRoleToInstanceProfile",
    "CreateLaunchTemplate",
    "CreateServiceLinkedRole",
    "CreateServiceLinkedRole",
    "CreateAutoScalingGroup",
    "SuspendProcesses",
    "SetDesiredCapacity",
]
"""What `create` calls, in this order: the last one rents."""


@contextmanager
def recorded(session: AwsSession, cut_after: int | None = None) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """The calls that change something, with their parameters; the command is cut short after so many."""
    calls: list[tuple[str, dict[str, Any]]] = []

    def hear(params: dict[str, Any], model: Any, **_: Any) -> None:
        if not model.name.startswith(("Describe", "Get", "Head")):
            calls.append((model.name, params))

    def cut(model: Any, **_: Any) -> None:
        if calls and calls[-1][0] == model.name and len(calls) == cut_after:
            raise KeyboardInterrupt

    clients = (session.ec2, session.iam, session.autoscaling)
    for client in clients:
        client.meta.events.register("provide-client-params.*.*", hear, unique_id="hear")
        client.meta.events.register("after-call.*.*", cut, unique_id="cut")
    yield calls
    for client in clients:
        client.meta.events.unregister("provide-client-params.*.*", unique_id="hear")
        client.meta.events.unregister("after-call.*.*", unique_id="cut")


def nothing_left(session: AwsSession) -> bool:
    roles = [role["RoleName"] for role in session.iam.list_roles()["Roles"]]
    profiles = session.iam.list_instance_profiles()["InstanceProfiles"]
    return (
        not session.autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"]
        and not session.ec2.describe_launch_templates()["LaunchTemplates"]
        and NAME not in roles
        and all(profile["InstanceProfileName"] != NAME for profile in profiles)
    )
