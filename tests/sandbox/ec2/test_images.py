"""Images made of instances."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from tests.sandbox.account import Account, Machine, code_of, until
from tests.sandbox.conftest import Launch

pytestmark = pytest.mark.namespaces


@pytest.fixture
def images(account: Account) -> Iterator[list[str]]:
    """Ids of images that are given up after the test."""
    ids: list[str] = []
    yield ids
    for image_id in ids:
        account.ec2.deregister_image(ImageId=image_id)


def image_of(account: Account, machine: Machine, images: list[str], name: str) -> str:
    created = account.ec2.create_image(InstanceId=machine.id, Name=name, NoReboot=True)["ImageId"]
    images.append(created)
    return str(created)


def test_an_instance_of_an_image_has_what_the_first_one_had_and_is_another_one(
    account: Account, launch: Launch, images: list[str]
) -> None:
    count = "#!/bin/sh\necho booted >> /var/log/boots\n"
    first = launch(UserData=count)
    first.run("echo mine > ~/kept; until [ -e /var/lib/cloud/instance/boot-finished ]; do sleep 0.1; done")
    first.root("useradd --create-home worker; rm /usr/bin/tac; echo one > /opt/layer; mkdir /opt/emptied")

    image = image_of(account, first, images, "first")
    # Later changes are not the image's.
    first.root("echo two > /opt/layer")
    (described,) = account.ec2.describe_images(ImageIds=[image])["Images"]
    assert (described["State"], described["RootDeviceName"]) == ("available", "/dev/xvda")
    second = launch(ImageId=image, UserData=count)

    assert second.run("cat ~/kept /opt/layer; ls -d /opt/emptied; stat -c %U ~/kept; id -un worker") == (
        "mine\none\n/opt/emptied\nec2-user\nworker\n"
    )
    assert second.ssh("test -e /usr/bin/tac || test -e /root/.cache").returncode == 1
    keys = {each.run("cat /etc/ssh/ssh_host_ed25519_key.pub") for each in (first, second)}
    assert len(keys) == 2
    assert second.run("hostname") == f"ip-{second.address.replace('.', '-')}\n"
    # A new instance, and so a first boot.
    until(lambda: second.run("cat /var/log/boots") == "booted\n" * 2, "its user data to run")

    second.root("echo three > /opt/layer")
    third = launch(ImageId=image_of(account, second, images, "second"))
    assert third.run("cat ~/kept /opt/layer") == "mine\nthree\n"
    assert account.describe(first.id)["State"]["Name"] == "running"


def test_an_image_is_refused_under_a_name_that_is_taken_or_of_an_instance_that_is_gone(
    account: Account, launch: Launch, images: list[str]
) -> None:
    machine = launch()
    image_of(account, machine, images, "taken")
    with pytest.raises(ClientError) as refused:
        account.ec2.create_image(InstanceId=machine.id, Name="taken", NoReboot=True)
    assert code_of(refused.value) == "InvalidAMIName.Duplicate"
    account.ec2.terminate_instances(InstanceIds=[machine.id])
    account.wait_state(machine.id, "terminated")
    with pytest.raises(ClientError) as refused:
        account.ec2.create_image(InstanceId=machine.id, Name="gone")
    assert code_of(refused.value) == "IncorrectState"
