"""What the machines of a further attempt are told."""

from __future__ import annotations

from runctl.agent.spec import MountSpec, RunSpec
from runctl.core.ids import VolumeId
from runctl.runs.recovering.several_machines import with_own_volumes


def test_a_machine_mounts_the_copies_that_it_has_in_the_place_of_the_runs_volumes() -> None:
    mounts = (
        MountSpec("/mnt/data", "/data", False, "vol-1", "--ebs-mount"),
        MountSpec("/mnt/shared", "/shared", True, "vol-2", "--ebs-mount"),
        MountSpec("/scratch", "/scratch", False, None, "--mount"),
    )
    told = with_own_volumes(RunSpec("run-a", "train.py", mounts=mounts), {"vol-1": VolumeId("vol-9")})
    assert [each.volume_id for each in told.mounts] == ["vol-9", "vol-2", None]
    assert [each.source for each in told.mounts] == [each.source for each in mounts]
