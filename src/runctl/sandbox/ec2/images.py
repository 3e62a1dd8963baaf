"""Images made of instances: the next machine has on its root disk what the first one had there."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, cast

from moto.ec2.exceptions import EC2ClientError

from runctl.sandbox.amis import Ami, MadeImage, ami
from runctl.sandbox.api.gate import parameter
from runctl.sandbox.ec2.world_backend import WorldBackend
from runctl.sandbox.machines.hardware import image_disk


class Images(WorldBackend):
    """CreateImage. What an image holds is kept until the sandbox ends, as its machines see it through their roots."""

    def create_image(
        self, instance_id: str, name: str, description: str, tag_specifications: list[dict[str, Any]]
    ) -> Any:
        """The image is there at once, and its instance is rebooted if the request does not rule that out."""
        instance = self.get_instance(instance_id)
        machine = self.world.machine(instance_id)
        if instance._state.name not in {"running", "stopped"} or machine is None:
            raise EC2ClientError(
                "IncorrectState",
                f"The instance '{instance_id}' is not in a state from which an image can be made.",
            )
        if any(image.name == name for image in self.amis.values()):
            raise EC2ClientError("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by an AMI")
        base = self.base_of(instance.image_id)
        image = cast(Any, super().create_image(instance_id, name, description, tag_specifications))
        image.root_device_name, image.root_device_type = base.root_device, "ebs"
        folder = self.world.layout.images / image.id
        with contextlib.suppress(ProcessLookupError):
            machine.run(["sync"])
        before = self.world.made_images.get(instance.image_id)
        for layer in (before.folder if before else None, machine.upper):
            if layer is not None:
                copy_layer(layer, folder)
        write_disk(folder, image_disk(folder))
        self.world.made_images[image.id] = MadeImage(base, folder)
        if instance._state.name == "running" and parameter("NoReboot") != "true":
            self.reboot_instances([instance_id])
        return image

    def base_of(self, image_id: str) -> Ami:
        """The image in which Docker, the login user and the root device were settled."""
        made = self.world.made_images.get(image_id)
        found = made.base if made else ami(image_id)
        if found is None:
            raise EC2ClientError("InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist")
        return found


def copy_layer(source: Path, target: Path) -> None:
    """``target`` has what ``source`` has on top of what it had, with the overlay's own marks. A file that is being
    written to is as it is then. Raises ``subprocess.CalledProcessError``."""
    target.mkdir(parents=True, exist_ok=True)
    shutil.copystat(source, target)
    command = ["cp", "--archive", "--sparse=auto", "--reflink=auto", f"{source}/.", f"{target}/"]
    subprocess.run(command, check=True, capture_output=True)


def write_disk(folder: Path, disk: Path) -> None:
    """``disk`` is a file system with what is in ``folder``. Raises ``subprocess.CalledProcessError``.

    A layer of an overlay cannot lie below another one, and the last layer is this computer's root.
    """
    files = sum(len(names) + len(folders) for _, folders, names in os.walk(folder))
    used = subprocess.run(
        ["du", "--summarize", "--block-size=1", folder], check=True, capture_output=True, text=True
    )
    part = disk.with_suffix(".part")
    with part.open("wb") as file:
        # Twice over for small files' blocks and the file system's own; what is not used takes no space.
        file.truncate(2 * int(used.stdout.split()[0]) + (64 << 20) + 512 * files)
    make = ["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", "-N", str(2 * files + 1024)]
    subprocess.run([*make, "-d", str(folder), str(part)], check=True, capture_output=True)
    part.rename(disk)
