"""Mounts of a plan as a person and a program see them."""

from __future__ import annotations

from runctl.agent.spec import MountSpec
from runctl.core.machine_models import VolumeState
from runctl.render.plans.run_mounts import attachment_text, mount_text
from runctl.runs.mounts.plan import PlannedAttachment, PlannedMount
from tests.cli.fake_provider import VOLUME_ID, a_volume

GIB = 1 << 30
SPEC = MountSpec("/mnt/data", "/data", False, VOLUME_ID, "--ebs-mount")


def test_a_mount_says_its_volume_its_mode_its_room_and_its_rule() -> None:
    mount = PlannedMount(SPEC, a_volume(), 100 * GIB, 12 * GIB)

    assert mount_text(mount) == (
        f'/mnt/data -> /data ({VOLUME_ID} "datasets", read-write, 12.0 GiB free of 100.0 GiB; --ebs-mount)'
    )


def test_a_mount_that_is_not_made_yet_has_a_size_and_no_free_room() -> None:
    spec = MountSpec("/mnt/data", "/data", True, VOLUME_ID, "config")

    text = mount_text(PlannedMount(spec, a_volume(name=None), 100 * GIB))

    assert text == f"/mnt/data -> /data ({VOLUME_ID}, read-only, 100.0 GiB; config)"


def test_a_volume_that_the_provider_does_not_show_and_a_folder_are_named_too() -> None:
    folder = PlannedMount(MountSpec("/srv", "/data", False, None, "--ebs-mount"), None, 2 * GIB, GIB)

    assert VOLUME_ID in mount_text(PlannedMount(SPEC))
    assert mount_text(folder) == "/srv -> /data (a folder, read-write, 1.0 GiB free of 2.0 GiB; --ebs-mount)"


def test_an_attachment_says_where_why_and_whether_it_may_be_formatted() -> None:
    new = PlannedAttachment(a_volume(), "/mnt/datasets", "by its name", False, False, True)
    there = PlannedAttachment(
        a_volume(state=VolumeState.IN_USE), "/mnt/d", "where it was last", True, True, False
    )

    assert attachment_text(new) == (
        f'{VOLUME_ID} "datasets" (100 GiB gp3, available) gets attached, and mounted at /mnt/datasets (by its name);'
        " formatted if it is blank"
    )
    assert attachment_text(there) == (
        f'{VOLUME_ID} "datasets" (100 GiB gp3, in-use) is attached, gets mounted at /mnt/d (where it was last),'
        " read-only; never formatted"
    )
