"""What RunInstances makes: machines as cloud images make them, and AWS's refusals."""

from __future__ import annotations

import base64
import gzip
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.sandbox.account import AMAZON_LINUX, DEEP_LEARNING, Account, code_of, until
from tests.sandbox.conftest import Launch

pytestmark = pytest.mark.namespaces

Run = Callable[..., dict[str, Any]]


def test_an_instance_is_pending_and_then_runs(account: Account, run_instances: Run) -> None:
    instance = run_instances()

    assert instance["State"]["Name"] == "pending"
    described = account.wait_state(instance["InstanceId"], "running")
    assert described["PrivateIpAddress"]
    assert described["Placement"]["AvailabilityZone"] == "us-east-1a"


def test_its_login_user_is_root_by_sudo_without_a_password(launch: Launch) -> None:
    machine = launch()

    assert machine.run("id -un").strip() == "ec2-user"
    assert machine.run("echo $HOME; pwd").split() == ["/home/ec2-user"] * 2
    assert machine.run("sudo -n id -u").strip() == "0"


def test_the_deep_learning_image_has_ubuntu_as_its_user(account: Account, launch: Launch) -> None:
    image = account.ssm.get_parameter(Name=DEEP_LEARNING)["Parameter"]["Value"]

    machine = launch(user="ubuntu", ImageId=image)

    assert machine.run("id -un; sudo -n id -u").split() == ["ubuntu", "0"]


def test_it_is_named_after_its_address(account: Account, launch: Launch) -> None:
    machine = launch()

    private = account.describe(machine.id)["PrivateIpAddress"]
    assert machine.run("hostname").strip() == "ip-" + private.replace(".", "-")


def test_it_sees_its_own_processes_only(launch: Launch) -> None:
    machine = launch()

    listed = machine.run("ps -eo pid,args")

    assert Path(__file__).name not in listed
    assert f"--home {machine.account.info.home}" not in listed
    assert machine.run("cat /proc/1/comm").strip()
    assert len(listed.splitlines()) < 30


def test_it_does_not_see_the_files_of_this_computers_people(launch: Launch, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("mine")
    machine = launch()

    assert machine.ssh(f"sudo cat {secret}").returncode != 0
    assert machine.ssh(f"sudo ls {machine.account.info.home}").returncode != 0
    assert machine.ssh(f"sudo cat {Path(__file__)}").returncode != 0
    assert machine.run("sudo ls -A /root").split() == []
    assert machine.run("ls /home").split() == ["ec2-user"]


def test_what_it_writes_stays_on_its_own_disk(launch: Launch) -> None:
    machine = launch()

    machine.root("touch /usr/local/written-in-a-machine /etc/written-in-a-machine")

    assert not Path("/usr/local/written-in-a-machine").exists()
    assert not Path("/etc/written-in-a-machine").exists()


def test_two_machines_reach_each_other_by_address(account: Account, launch: Launch) -> None:
    item, other = launch(), launch()

    reached = item.run(f"exec 3<>/dev/tcp/{other.address}/22 && head -c 7 <&3")

    assert reached == "SSH-2.0"


def test_its_packets_fit_through_this_computers_way_out(launch: Launch) -> None:
    routes = subprocess.run(["ip", "route", "get", "203.0.113.1"], capture_output=True, text=True, check=True)
    text = routes.stdout.split()
    outward = int(Path("/sys/class/net", text[text.index("dev") + 1], "mtu").read_text())
    machine = launch()

    device = machine.run("ip route show default").split()[4]

    assert int(machine.run(f"cat /sys/class/net/{device}/mtu")) == outward


def test_it_resolves_names_as_this_computer_does(launch: Launch) -> None:
    machine = launch()

    servers = [line for line in machine.run("cat /etc/resolv.conf").splitlines() if "nameserver" in line]

    assert servers
    assert all("127." not in line for line in servers)


def test_its_tools_for_disks_and_python_are_there(launch: Launch) -> None:
    machine = launch()

    machine.run(
        "for tool in mount mkfs.ext4 blkid lsblk findmnt python3; do sudo which $tool || exit 1; done"
    )
    assert machine.run("readlink -f $(which python3)").startswith("/usr/")


def test_user_data_runs_as_root_at_the_first_boot_and_its_end_is_announced(launch: Launch) -> None:
    script = "#!/bin/sh\nid -u > /var/lib/first-boot\necho said-by-user-data\n"

    machine = launch(UserData=script)
    machine.run("cloud-init status --wait")

    assert machine.run("cat /var/lib/first-boot").strip() == "0"
    assert "said-by-user-data" in machine.run("sudo cat /var/log/cloud-init-output.log")
    assert machine.run("cloud-init status").strip() == "status: done"
    machine.run("test -e /var/lib/cloud/instance/boot-finished")


def test_user_data_may_be_packed_by_gzip(launch: Launch) -> None:
    machine = launch(UserData=gzip.compress(b"#!/bin/bash\ntouch /var/lib/unpacked\n"))

    machine.run("cloud-init status --wait && test -e /var/lib/unpacked")


def test_user_data_that_fails_is_told(launch: Launch) -> None:
    machine = launch(UserData="#!/bin/sh\nexit 7\n")

    done = machine.ssh("cloud-init status --wait")

    assert "error" in done.stdout
    assert done.returncode != 0


def test_user_data_with_bytes_that_are_no_text_arrives_whole(launch: Launch) -> None:
    machine = launch(UserData=b"#!/bin/sh\n# \xff\xfe\nprintf '\\377' > /var/lib/byte\n")

    machine.run("cloud-init status --wait")

    assert machine.run("od -An -tx1 /var/lib/byte").strip() == "ff"


def test_the_console_shows_the_host_key_that_answers(account: Account, launch: Launch) -> None:
    machine = launch()

    console = until(
        lambda: _console(account, machine.id, "-----END SSH HOST KEY KEYS-----"), "the console's host keys"
    )

    scanned = subprocess.run(
        ["ssh-keyscan", "-t", "ed25519", machine.address], capture_output=True, text=True, check=True
    ).stdout.split()[2]
    between = console.partition("-----BEGIN SSH HOST KEY KEYS-----")[2]
    assert scanned in between


def _console(account: Account, instance_id: str, wanted: str) -> str:
    output = account.ec2.get_console_output(InstanceId=instance_id).get("Output", "")
    return output if wanted in output else ""


def test_each_machine_has_host_keys_of_its_own(launch: Launch) -> None:
    item, other = launch(), launch()

    keys = {machine.run("cat /etc/ssh/ssh_host_ed25519_key.pub").split()[1] for machine in (item, other)}

    assert len(keys) == 2


def test_the_default_group_lets_nothing_in(account: Account, run_instances: Run) -> None:
    instance = run_instances()
    address = account.wait_state(instance["InstanceId"], "running")["PrivateIpAddress"]

    with pytest.raises(OSError):
        socket.create_connection((address, 22), timeout=1.5).close()


def test_a_rule_works_as_soon_as_it_is_authorized_and_no_longer_than_it_is(
    account: Account, launch: Launch
) -> None:
    group = account.ec2.create_security_group(GroupName=f"rules-{os.getpid()}", Description="tests")[
        "GroupId"
    ]
    rule = [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    machine = launch(SecurityGroupIds=[group])

    assert not _answers(machine.address)
    account.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=rule)
    assert _answers(machine.address)
    account.ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=rule)
    assert not _answers(machine.address)


def _answers(address: str) -> bool:
    try:
        socket.create_connection((address, 22), timeout=1.5).close()
    except OSError:
        return False
    return True


def test_a_rule_for_other_addresses_keeps_this_computer_out(account: Account, launch: Launch) -> None:
    group = account.ec2.create_security_group(GroupName=f"far-{os.getpid()}", Description="tests")["GroupId"]
    rule = [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "203.0.113.0/24"}]}]
    account.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=rule)

    machine = launch(SecurityGroupIds=[group])

    assert not _answers(machine.address)


def test_a_spot_instance_says_so_and_its_request_is_active(account: Account, run_instances: Run) -> None:
    instance = run_instances(InstanceMarketOptions={"MarketType": "spot"})

    described = account.wait_state(instance["InstanceId"], "running")

    assert described["InstanceLifecycle"] == "spot"
    request = account.ec2.describe_spot_instance_requests(
        SpotInstanceRequestIds=[described["SpotInstanceRequestId"]]
    )["SpotInstanceRequests"][0]
    assert request["State"] == "active"
    assert request["Status"]["Code"] == "fulfilled"
    assert request["InstanceId"] == instance["InstanceId"]


def test_an_on_demand_instance_has_no_lifecycle(account: Account, run_instances: Run) -> None:
    instance = run_instances()

    assert "InstanceLifecycle" not in account.describe(instance["InstanceId"])


def test_tags_of_the_launch_are_on_instance_and_volumes(account: Account, run_instances: Run) -> None:
    tags = [{"Key": "owner", "Value": "tester"}]
    instance = run_instances(
        TagSpecifications=[{"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume")]
    )

    described = account.describe(instance["InstanceId"])

    assert described["Tags"] == tags
    for mapping in described["BlockDeviceMappings"]:
        assert account.volume(mapping["Ebs"]["VolumeId"])["Tags"] == tags


def test_the_same_token_gives_the_same_instance(account: Account, run_instances: Run) -> None:
    item = run_instances(ClientToken="once")

    other = run_instances(ClientToken="once")

    assert other["InstanceId"] == item["InstanceId"]


def test_the_same_token_for_something_else_is_refused(account: Account, run_instances: Run) -> None:
    run_instances(ClientToken="twice")

    with pytest.raises(ClientError) as refused:
        run_instances(ClientToken="twice", InstanceType="t3.small")

    assert code_of(refused.value) == "IdempotentParameterMismatch"


def test_a_dry_run_launches_nothing(account: Account, run_instances: Run) -> None:
    before = len(account.ec2.describe_instances()["Reservations"])

    with pytest.raises(ClientError) as refused:
        run_instances(DryRun=True)

    assert code_of(refused.value) == "DryRunOperation"
    assert len(account.ec2.describe_instances()["Reservations"]) == before


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"ImageId": "ami-0123456789abcdef0"}, "InvalidAMIID.NotFound"),
        ({"InstanceType": "t3.gigantic"}, "InvalidParameterValue"),
        ({"SubnetId": "subnet-0123456789abcdef0"}, "InvalidSubnetID.NotFound"),
        ({"KeyName": "nobody"}, "InvalidKeyPair.NotFound"),
        ({"SecurityGroupIds": ["sg-0123456789abcdef0"]}, "InvalidGroup.NotFound"),
        ({"Placement": {"AvailabilityZone": "us-east-1z"}}, "InvalidParameterValue"),
        ({"IamInstanceProfile": {"Name": "nobody"}}, "InvalidParameterValue"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_what_does_not_exist_is_refused_in_aws_words(
    run_instances: Run, parameters: dict[str, Any], code: str
) -> None:
    with pytest.raises(ClientError) as refused:
        run_instances(**parameters)

    assert code_of(refused.value) == code


def test_a_refused_launch_leaves_no_instance_and_no_volume(account: Account, run_instances: Run) -> None:
    before = {volume["VolumeId"] for volume in account.ec2.describe_volumes()["Volumes"]}
    with pytest.raises(ClientError):
        run_instances(SecurityGroupIds=["sg-0123456789abcdef0"])

    assert {volume["VolumeId"] for volume in account.ec2.describe_volumes()["Volumes"]} == before


def test_an_image_says_what_it_is(account: Account) -> None:
    for parameter, architecture, word in (
        ("/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64", "arm64", "al2023"),
        (DEEP_LEARNING, "x86_64", "Ubuntu"),
    ):
        image_id = account.ssm.get_parameter(Name=parameter)["Parameter"]["Value"]
        (image,) = account.ec2.describe_images(ImageIds=[image_id])["Images"]

        assert image["Architecture"] == architecture
        assert word in image["Name"]
        assert image["RootDeviceName"].startswith("/dev/")


def test_user_data_can_be_read_back(account: Account, run_instances: Run) -> None:
    instance = run_instances(UserData="#!/bin/sh\ntrue\n")

    shown = account.ec2.describe_instance_attribute(InstanceId=instance["InstanceId"], Attribute="userData")

    assert base64.b64decode(shown["UserData"]["Value"]) == b"#!/bin/sh\ntrue\n"


def test_another_region_is_refused_with_the_one_that_has_machines(account: Account) -> None:
    """Not by the lack of an image there, which sends people to look for one."""
    elsewhere = {"region_name": "eu-central-1"}
    with pytest.raises(ClientError, match="this sandbox is in us-east-1 and has no machines in eu-central-1"):
        account.client("ssm", **elsewhere).get_parameter(Name=AMAZON_LINUX)
    with pytest.raises(ClientError, match="sandbox start --region eu-central-1"):
        account.client("ec2", **elsewhere).run_instances(ImageId=account.image, MinCount=1, MaxCount=1)
    assert account.client("ec2", **elsewhere).describe_instances()["Reservations"] == []
    with pytest.raises(ClientError, match="AWS has no region us-esat-1; this sandbox is in us-east-1"):
        account.client("ec2", region_name="us-esat-1").describe_instances()
