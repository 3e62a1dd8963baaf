from __future__ import annotations

from dataclasses import replace

import pytest

from runctl.core.errors import UsageError, ZoneMismatch
from runctl.core.ids import VolumeId
from runctl.core.machine_models import Volume, VolumeState
from runctl.machines.node_volumes import NodeVolume, Sharing, decide_sharing, without_shared
from runctl.machines.nodes import Engine, NodesWanted, parse_nodes
from runctl.providers.instance_plans import InstanceRequest, VolumeMount

VOLUME = Volume(
    id=VolumeId("vol-0000000000000000a"),
    name="datasets",
    state=VolumeState.AVAILABLE,
    size_gib=100,
    type="gp3",
    iops=3000,
    throughput=125,
    zone="eu-west-1b",
    encrypted=True,
    attached_to=None,
    device=None,
    mount_point="/mnt/datasets",
    persistent=True,
    price_per_month=None,
)
MULTI = replace(VOLUME, id=VolumeId("vol-0000000000000000b"), type="io2", multi_attach=True)


@pytest.mark.parametrize(
    ("text", "engine", "wanted"),
    [
        ("4", "torchrun", NodesWanted(4, 4, Engine.TORCHRUN)),
        ("2:8", "ray", NodesWanted(2, 8, Engine.RAY)),
        ("1:2", "none", NodesWanted(1, 2, Engine.NONE)),
        ("1", "torchrun", NodesWanted(1, 1, Engine.TORCHRUN)),
        ("1", None, None),
    ],
)
def test_a_number_of_machines_is_read(text: str, engine: str | None, wanted: NodesWanted | None) -> None:
    assert parse_nodes(text, engine) == wanted
    if wanted is not None:
        assert wanted.text == text


@pytest.mark.parametrize(
    ("text", "engine", "said"),
    [
        ("two", "none", "write a number"),
        ("2:", "none", "write a number"),
        ("4:2", "none", "the smaller number first"),
        ("0", "none", "from 1"),
        ("65", "none", "from 1 to 64"),
        ("2", None, "needs an --engine"),
    ],
)
def test_what_is_not_a_number_of_machines_is_refused(text: str, engine: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_nodes(text, engine)


@pytest.mark.parametrize(
    ("volume", "machines", "read_only", "sharing"),
    [
        (VOLUME, 1, False, Sharing.ALONE),
        (VOLUME, 2, True, Sharing.COPIED),
        (MULTI, 16, True, Sharing.SHARED),
        (MULTI, 17, True, Sharing.COPIED),
        (MULTI, 2, False, Sharing.COPIED),
    ],
)
def test_a_volume_is_had_by_all_only_where_it_can_be_and_nobody_writes(
    volume: Volume, machines: int, read_only: bool, sharing: Sharing
) -> None:
    found, reason = decide_sharing(volume, machines, read_only=read_only)

    assert found is sharing
    assert reason


def test_what_all_have_decides_the_zone_and_is_not_attached_by_the_launch() -> None:
    request = InstanceRequest(volumes=(VolumeMount("datasets"), VolumeMount("shared", None, read_only=True)))
    planned = (
        NodeVolume(VOLUME, "/mnt/datasets", Sharing.COPIED, ""),
        NodeVolume(MULTI, "/mnt/shared", Sharing.SHARED, ""),
    )

    each = without_shared(request, planned)

    assert each.volumes == (VolumeMount(VOLUME.id, "/mnt/datasets"),)
    assert each.zone == "eu-west-1b"
    with pytest.raises(ZoneMismatch, match="eu-west-1b"):
        without_shared(replace(request, zone="eu-west-1a"), planned)
