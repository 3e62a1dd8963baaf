"""A mounted volume, and what is made of it."""

from __future__ import annotations

import pytest

from runctl.core.machine_models import VolumeState
from runctl.providers.abilities.volume_plans import ClonePlan, CloneRequest, SnapshotPlan, SnapshotRequest
from tests.cli.fake_provider import INSTANCE_ID, Script, a_snapshot, a_volume, an_instance
from tests.rates import monthly

ON_IT = a_volume(attached_to=INSTANCE_ID, state=VolumeState.IN_USE, instances=(INSTANCE_ID,))
PRICE = monthly(8, "EBS list price")


def a_snapshot_plan(request: SnapshotRequest) -> SnapshotPlan:
    return SnapshotPlan(
        ON_IT, request.name, "runctl: datasets", False, {}, PRICE, a_snapshot(), "token-of-the-plan"
    )


def a_clone_plan(request: CloneRequest) -> ClonePlan:
    return ClonePlan(
        ON_IT,
        request.name,
        100,
        "gp3",
        3000,
        125,
        True,
        False,
        {},
        PRICE,
        "once, by the GiB",
        "token-of-the-plan",
    )


@pytest.fixture
def frozen(script: Script) -> Script:
    """A volume that is mounted on a running machine."""
    script.answers.update(
        {
            "instance": an_instance(),
            "agent": None,
            "agent.freeze": {"how": "frozen", "mount_points": ["/mnt/data"], "why": ""},
            "agent.thaw": {"was_frozen": True},
            "plan_snapshot": a_snapshot_plan,
            "create_snapshot": a_snapshot(),
            "wait_snapshot": a_snapshot(),
            "plan_clone": a_clone_plan,
            "clone_volume": a_volume("vol-0fedcba9876543210", name="copy"),
            "snapshots": [],
            "volumes": [],
        }
    )
    return script
