"""Machines that are stopped, started, ended and lost at any moment: whatever came first, nothing is left of them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from runctl.core.errors import NotFound
from runctl.sandbox.fault_client import Faults
from runctl.sandbox.layout import Layout
from tests.sandbox.account import ZONE, Account, code_of, until
from tests.sandbox.traces import traces

pytestmark = pytest.mark.namespaces

MACHINES = 4
ACTIONS = 4
LONGEST_PAUSE_SECONDS = 0.5
"""A boot takes as long."""
USER_DATA = (
    "",
    "#!/bin/sh\nshutdown -h now\n",
    "#!/bin/sh\nshutdown -r now\n",
    "#!/bin/sh\ntrap '' TERM\nsleep 9\n",
)
DISK = {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "VolumeType": "gp3", "DeleteOnTermination": True}}


def actions(account: Account, faults: Faults, instance_id: str, volume_id: str) -> list[Callable[[], object]]:
    ids = {"InstanceIds": [instance_id]}
    return [
        lambda: account.ec2.stop_instances(**ids),
        lambda: account.ec2.start_instances(**ids),
        lambda: account.ec2.reboot_instances(**ids),
        lambda: account.ec2.terminate_instances(**ids),
        lambda: account.ec2.attach_volume(VolumeId=volume_id, Device="/dev/sdg", InstanceId=instance_id),
        lambda: faults.kill_instance(instance_id),
        lambda: faults.interrupt(instance_id, 0),
    ]


def live(account: Account, faults: Faults, seed: str) -> tuple[str, str]:
    """One machine's life from its launch to its end, and the volume that it may have got on the way."""
    chosen = random.Random(seed)
    volume = account.ec2.create_volume(Size=1, AvailabilityZone=ZONE, VolumeType="gp3")["VolumeId"]
    instance = account.ec2.run_instances(
        ImageId=account.image,
        InstanceType="m5d.large",
        MinCount=1,
        MaxCount=1,
        UserData=chosen.choice(USER_DATA),
        BlockDeviceMappings=[DISK],
        InstanceInitiatedShutdownBehavior=chosen.choice(["stop", "terminate"]),
        Placement={"AvailabilityZone": ZONE},
        **chosen.choice([{}, {"InstanceMarketOptions": {"MarketType": "spot"}}]),
    )["Instances"][0]["InstanceId"]
    for action in chosen.choices(actions(account, faults, instance, volume), k=ACTIONS):
        time.sleep(chosen.uniform(0, LONGEST_PAUSE_SECONDS))
        try:
            action()
        except ClientError as error:
            assert code_of(error) in {
                "IncorrectInstanceState",
                "IncorrectState",
                "UnsupportedOperation",
                "VolumeInUse",
            }
        except NotFound as error:
            assert instance in str(error)
    account.ec2.terminate_instances(InstanceIds=[instance])
    return instance, volume


def things(account: Account) -> set[str]:
    """What the sandbox has on this computer. The bridge stays, in whatever state it is for having machines or none."""
    bridge = Layout(account.info.home).bridge
    return {line for line in traces(account.info.home) if f" {bridge}:" not in line}


@pytest.mark.parametrize("seed", [1, 3, 7])
def test_whatever_happens_while_machines_boot_and_end_nothing_is_left_of_them(
    account: Account, faults: Faults, seed: int
) -> None:
    before = things(account)

    with ThreadPoolExecutor(MACHINES) as pool:
        lives = list(pool.map(lambda n: live(account, faults, f"{seed}/{n}"), range(MACHINES)))

    for instance_id, volume_id in lives:
        account.wait_state(instance_id, "terminated")
        account.wait_volume(volume_id, "available")
        account.ec2.delete_volume(VolumeId=volume_id)
    until(lambda: things(account) <= before, lambda: f"{things(account) - before} to be gone")
    assert {account.state(instance_id) for instance_id, _ in lives} == {"terminated"}
    assert not any((account.info.home / "machines" / instance_id).exists() for instance_id, _ in lives)
