"""Images made of instances: the next machine has on its root disk what the first one had there."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, cast

from moto.ec2.exceptions import EC2ClientError

from runctl.sandbox.amis import Ami, MadeImage, ami
from runctl.sandbox.api.gate import parameter
from runctl.sandbox.ec2.world_backend import WorldBackend, log
from runctl.sandbox.machines.hardware import image_disk
from runctl.sandbox.machines.own_root import OPAQUE


class Images(WorldBackend):
    """CreateImage and CopyImage. What an image holds is kept until the sandbox ends, as its machines see it through
    their roots."""

    _names_in_the_making: ClassVar[set[str]] = set()

    def create_image(
        self, instance_id: str, name: str, description: str, tag_specifications: list[dict[str, Any]]
    ) -> Any:
        """The image is there at once, and its instance is rebooted if the request does not rule that out."""
        instance = self.get_instance(instance_id)
        machine = self.world.machine(instance_id)
        if self.world.network is None:
            raise EC2ClientError(
                "UnsupportedOperation",
                "Images cannot be made of instances in this sandbox, whose machines are folders.",
            )
        if instance._state.name not in {"running", "stopped"} or machine is None:
            raise EC2ClientError(
                "IncorrectState",
                f"The instance '{instance_id}' is not in a state from which an image can be made.",
            )
        base, before = self.base_of(instance.image_id), self.world.made_images.get(instance.image_id)
        with self._reserved(name), self._new_folder() as folder:
            with contextlib.suppress(ProcessLookupError):
                machine.run(["sync"])
            for layer in (before.folder if before else None, machine.upper):
                if layer is not None:
                    copy_layer(layer, folder)
            write_disk(folder, image_disk(folder))
            image = cast(Any, super().create_image(instance_id, name, description, tag_specifications))
            self._settle(image, MadeImage(base, folder))
        if instance._state.name == "running" and parameter("NoReboot") != "true":
            self.reboot_instances([instance_id])
        return image

    def copy_image(self, source_image_id: str, *arguments: Any, **more: Any) -> Any:
        """The copy has what the image has, and is there at once."""
        image = cast(Any, super().copy_image(source_image_id, *arguments, **more))
        made, base = self.world.made_images.get(source_image_id), ami(source_image_id)
        if made is not None:
            self._settle(image, made)
        elif base is not None:
            self._settle(image, MadeImage(base, None))
        return image

    def base_of(self, image_id: str) -> Ami:
        """The image in which Docker, the login user and the root device were settled."""
        made = self.world.made_images.get(image_id)
        found = made.base if made else ami(image_id)
        if found is None:
            raise EC2ClientError(
                "UnsupportedOperation",
                f"The image '{image_id}' was registered, and the sandbox launches only its own images and those that"
                " were made of instances.",
            )
        return found

    def _settle(self, image: Any, made: MadeImage) -> None:
        image.root_device_name, image.root_device_type = made.base.root_device, "ebs"
        self.world.made_images[image.id] = made

    @contextlib.contextmanager
    def _reserved(self, name: str) -> Iterator[None]:
        """No other image gets that name meanwhile. Raises where one has it."""
        with self.world.lock:
            if name in self._names_in_the_making or any(image.name == name for image in self.amis.values()):
                raise EC2ClientError(
                    "InvalidAMIName.Duplicate", f"AMI name {name} is already in use by an AMI"
                )
            self._names_in_the_making.add(name)
        try:
            yield
        finally:
            with self.world.lock:
                self._names_in_the_making.discard(name)

    @contextlib.contextmanager
    def _new_folder(self) -> Iterator[Path]:
        """For what an image holds. Where that cannot be put together nothing is left of it, and the call fails."""
        folder = self.world.layout.images / uuid.uuid4().hex
        try:
            yield folder
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            image_disk(folder).unlink(missing_ok=True)
            if isinstance(error, (OSError, subprocess.SubprocessError)):
                log.exception("no image was made")
                raise EC2ClientError("InternalError", f"The image could not be made: {error}") from error
            raise


def copy_layer(source: Path, target: Path) -> None:
    """``target`` has what ``source`` has on top of what it had, with the overlay's own marks. A file that is being
    written to is as it is then. Raises `OSError` and ``subprocess.CalledProcessError``."""
    target.mkdir(parents=True, exist_ok=True)
    _make_way(source, target)
    shutil.copystat(source, target)
    command = ["cp", "--archive", "--sparse=auto", "--reflink=auto", f"{source}/.", f"{target}/"]
    subprocess.run(command, check=True, capture_output=True)


def _make_way(source: Path, target: Path) -> None:
    """``target`` has nothing that ``source`` hides, and nothing that ``cp`` would refuse to replace, or write through.

    A folder hides what is not one, and the reverse; so does a folder that was made anew. What is no folder is hidden by
    any other: a link, for one, led to a file of this computer.
    """
    todo = [(source, target)]
    while todo:
        above, below = todo.pop()
        for entry in os.scandir(above):
            path, hidden = Path(entry.path), below / entry.name
            if not os.path.lexists(hidden):
                continue
            if not stat.S_ISDIR(hidden.lstat().st_mode):
                hidden.unlink()
            elif not entry.is_dir(follow_symlinks=False) or _is_opaque(path):
                shutil.rmtree(hidden)
            else:
                todo.append((path, hidden))


def _is_opaque(folder: Path) -> bool:
    try:
        return os.getxattr(folder, OPAQUE) == b"y"
    except OSError as error:
        if error.errno in {errno.ENODATA, errno.ENOTSUP}:
            return False
        raise


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
