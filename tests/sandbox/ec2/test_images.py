"""Images made of instances."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError
from moto.ec2.exceptions import EC2ClientError

from runctl.sandbox.ec2.images import Images, copy_layer
from runctl.sandbox.machines.own_root import OPAQUE
from tests.sandbox.account import Account, Machine, code_of, until
from tests.sandbox.conftest import Launch


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


@pytest.mark.namespaces
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


@pytest.mark.namespaces
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


@pytest.mark.namespaces
def test_a_copy_of_an_image_is_launched_as_the_image_is(
    account: Account, run_instances: Callable[..., dict[str, Any]], images: list[str]
) -> None:
    copied = {"SourceImageId": account.image, "SourceRegion": "us-east-1"}
    images.append(account.ec2.copy_image(Name="copy", **copied)["ImageId"])
    images.append(
        account.ec2.copy_image(Name="copy again", **{**copied, "SourceImageId": images[0]})["ImageId"]
    )

    instance = run_instances(ImageId=images[1])

    assert account.wait_state(instance["InstanceId"], "running")["RootDeviceName"] == "/dev/xvda"


@pytest.mark.namespaces
def test_an_image_without_a_machine_is_refused_before_there_is_an_instance(
    account: Account, images: list[str]
) -> None:
    images.append(account.ec2.register_image(Name="registered", RootDeviceName="/dev/xvda")["ImageId"])
    before = len(account.ec2.describe_instances()["Reservations"])

    with pytest.raises(ClientError) as refused:
        account.ec2.run_instances(ImageId=images[0], InstanceType="t3.micro", MinCount=1, MaxCount=1)

    assert code_of(refused.value) == "UnsupportedOperation"
    assert len(account.ec2.describe_instances()["Reservations"]) == before


def test_where_machines_are_folders_no_image_is_made() -> None:
    backend = SimpleNamespace(
        get_instance=lambda _: SimpleNamespace(_state=SimpleNamespace(name="running")),
        world=SimpleNamespace(network=None, machine=lambda _: object()),
    )

    with pytest.raises(EC2ClientError, match="folders") as refused:
        Images.create_image(cast(Images, backend), "i-1", "name", "", [])

    assert refused.value.code == "UnsupportedOperation"


def test_of_what_could_not_be_put_together_nothing_is_left(tmp_path: Path) -> None:
    backend = SimpleNamespace(world=SimpleNamespace(layout=SimpleNamespace(images=tmp_path)))

    with (
        pytest.raises(EC2ClientError, match="could not be made") as refused,
        cast(Any, Images)._new_folder(backend) as folder,
    ):
        folder.mkdir()
        (folder / "file").touch()
        folder.with_suffix(".disk").touch()
        raise subprocess.CalledProcessError(1, "cp")

    assert refused.value.code == "InternalError"
    assert list(tmp_path.iterdir()) == []


def is_hidden(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def names(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir())


def white_out(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))


def folder(path: Path, *files: str, opaque: bool = False) -> None:
    path.mkdir()
    for name in files:
        (path / name).write_text(f"of {path.parent.name}")
    if opaque:
        os.setxattr(path, OPAQUE, b"y")


@pytest.mark.root
@pytest.mark.linux
def test_a_layer_goes_over_another_as_an_overlay_shows_them(tmp_path: Path) -> None:
    first, second, both = (tmp_path / name for name in ("first", "second", "both"))
    computer = tmp_path / "computer"
    computer.write_text("untouched")
    first.mkdir()
    second.mkdir()
    folder(first / "merged", "only-first", "each")
    folder(second / "merged", "only-second", "each")
    # Deleted, and made anew.
    folder(first / "deleted", "file")
    white_out(second / "deleted")
    folder(first / "anew", "before")
    folder(second / "anew", "after", opaque=True)
    white_out(first / "back")
    (second / "back").write_text("of second")
    white_out(first / "folder-back")
    folder(second / "folder-back", "after", opaque=True)
    # What the first image hides of the computer stays hidden.
    folder(first / "own", "before", opaque=True)
    folder(second / "own", "after")
    # Another kind.
    folder(first / "folder-file", "before")
    (second / "folder-file").write_text("of second")
    (first / "file-folder").write_text("of first")
    folder(second / "file-folder", "after")
    for name, target in (("link-file", computer), ("link-folder", tmp_path), ("link-link", computer)):
        (first / name).symlink_to(target)
    (second / "link-file").write_text("of second")
    folder(second / "link-folder", "after")
    (second / "link-link").symlink_to("elsewhere")

    copy_layer(first, both)
    copy_layer(second, both)

    assert (both / "merged/each").read_text() == (both / "merged/only-second").read_text() == "of second"
    assert (both / "merged/only-first").read_text() == "of first"
    assert is_hidden(both / "deleted")
    for name, opaque in (
        ("anew", True),
        ("folder-back", True),
        ("file-folder", False),
        ("link-folder", False),
    ):
        assert (not (both / name).is_symlink(), names(both / name)) == (True, ["after"])
        assert (OPAQUE in os.listxattr(both / name)) is opaque
    assert names(both / "own") == ["after", "before"]
    assert os.getxattr(both / "own", OPAQUE) == b"y"
    for name in ("back", "folder-file", "link-file"):
        assert (not (both / name).is_symlink(), (both / name).read_text()) == (True, "of second")
    assert (both / "link-link").readlink() == Path("elsewhere")
    assert computer.read_text() == "untouched"
    # The layers themselves are as they were.
    assert (first / "deleted/file").exists()
