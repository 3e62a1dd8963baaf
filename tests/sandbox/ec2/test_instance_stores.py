"""Instance-store disks, and how disks of either kind look from within their machine."""

from __future__ import annotations

import pytest

from runctl.sandbox.ec2.instance_stores import stores_of
from tests.sandbox.account import Account, Machine, until
from tests.sandbox.conftest import Launch, MakeVolume

pytestmark = pytest.mark.namespaces

STORE = "Amazon EC2 NVMe Instance Storage"


def disks(machine: Machine) -> dict[str, tuple[str, str]]:
    """Model and serial by name, as lsblk shows them."""
    lines = machine.run("lsblk --pairs --nodeps --noheadings -o NAME,MODEL,SERIAL").splitlines()
    found = {}
    for line in lines:
        _, name, _, model, _, serial, _ = line.split('"')
        found[name] = (model, serial)
    return found


def test_disks_say_what_they_are(launch: Launch, make_volume: MakeVolume, account: Account) -> None:
    volume, machine = make_volume(), launch(InstanceType="g4dn.xlarge")
    machine.attach(volume)

    seen = disks(machine)
    account.ec2.detach_volume(VolumeId=volume)
    account.wait_volume(volume, "available")

    assert seen["nvme1n1"][0] == STORE
    assert seen["nvme1n1"][1].startswith("AWS")
    assert seen["nvme2n1"] == ("Amazon Elastic Block Store", volume.replace("-", ""))
    assert set(seen) == {"nvme1n1", "nvme2n1"}
    assert set(disks(machine)) == {"nvme1n1"}
    link = f"/dev/disk/by-id/nvme-{STORE.replace(' ', '_')}_{seen['nvme1n1'][1]}"
    assert machine.run(f"readlink -f {link}").strip() == "/dev/nvme1n1"


def test_an_instance_store_outlives_a_reboot_and_not_a_stop(account: Account, launch: Launch) -> None:
    machine = launch(InstanceType="i3.large")
    blank = machine.root("blkid -p /dev/nvme1n1 || true")
    mount = "mkdir -p /mnt/fast; mount /dev/nvme1n1 /mnt/fast"
    machine.root(f"mkfs.xfs -q /dev/nvme1n1; {mount}; echo quick > /mnt/fast/file")

    account.ec2.reboot_instances(InstanceIds=[machine.id])
    account.wait_state(machine.id, "pending")
    account.wait_state(machine.id, "running")
    after_reboot = machine.root(f"{mount}; cat /mnt/fast/file")
    account.ec2.stop_instances(InstanceIds=[machine.id])
    account.wait_state(machine.id, "stopped")
    account.ec2.start_instances(InstanceIds=[machine.id])
    second = Machine(account, account.wait_state(machine.id, "running"), "ec2-user")

    assert blank == ""
    assert after_reboot.strip() == "quick"
    assert second.root("blkid -p /dev/nvme1n1 || true") == ""
    account.ec2.terminate_instances(InstanceIds=[machine.id])
    account.wait_state(machine.id, "terminated")
    assert list((account.info.home / "volumes").glob(f"{machine.id}*")) == []


def test_what_grows_is_seen_to_have_grown(account: Account, launch: Launch, make_volume: MakeVolume) -> None:
    volume, machine = make_volume(), launch()
    machine.attach(volume)
    account.ec2.modify_volume(VolumeId=volume, Size=3)
    until(lambda: account.volume(volume)["Size"] == 3, "the volume to have grown")

    assert machine.run("lsblk --nodeps --noheadings --bytes -o SIZE").split() == [str(3 << 30)]


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [("t3.micro", []), ("g4dn.xlarge", [8]), ("p4d.24xlarge", [8] * 8), ("m1.small", []), ("c5d.large", [8])],
)
def test_a_type_has_the_disks_that_it_comes_with(kind: str, sizes: list[int]) -> None:
    assert stores_of(kind) == sizes
