"""How a disk appears to its machine: an NVMe device with the model and serial that AWS's have, in /dev, /sys and by id.

The kernel knows a loop device. `prepare`, in the machine's first process, puts overlays over the block device folders
of its sysfs, where the host's disks can be left out and the machine's own have their names. Where the kernel does not
let it, a disk has its node and its links only. Standard library only: the first process runs this too.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if not __package__:
    import own_paths  # type: ignore[import-not-found]  # beside this file
else:
    from runctl.sandbox.machines import own_paths

EBS, INSTANCE_STORE = "Amazon Elastic Block Store", "Amazon EC2 NVMe Instance Storage"
_FOLDERS = ("class/block", "block", "dev/block", "devices/virtual/block")
_STATE = "run/runctl-sandbox/sys"

_SHOW = """
node=$1 loop=$2 model=$3 serial=$4 by_id=$5 name=$6
rm -f "/dev/$node"
mknod -m 660 "/dev/$node" b "$7" "$8" && ln -sfn "../../$node" "$by_id" && ln -sfn "../../$node" "$by_id-ns-1" || exit 1
if [ -n "$name" ]; then ln -sfn "/dev/$node" "$name" || exit 1; fi
[ -d /run/runctl-sandbox/sys ] || exit 0
face=/run/runctl-sandbox/sys/faces/$node place=/sys/devices/virtual/block/$node
mkdir -p "$face/device" "$place"
printf '%s\\n' "$model" > "$face/device/model"
printf '%s\\n' "$serial" > "$face/device/serial"
printf '%s\\n' "$loop $7:$8" > "$face.loop"
mount -t overlay overlay -o "lowerdir=$face:/sys/devices/virtual/block/$loop" "$place" || exit 0
ln -sfn "../../devices/virtual/block/$node" "/sys/class/block/$node"
ln -sfn "../devices/virtual/block/$node" "/sys/block/$node"
ln -sfn "../../devices/virtual/block/$node" "/sys/dev/block/$7:$8"
"""
_HIDE = """
node=$1 by_id=$2 name=$3
rm -f "/dev/$node" "$by_id" "$by_id-ns-1"
if [ -n "$name" ]; then rm -f "$name"; fi
face=/run/runctl-sandbox/sys/faces/$node
[ -e "$face.loop" ] || exit 0
read -r loop number < "$face.loop"
umount --lazy "/sys/devices/virtual/block/$node"
rm -rf "/sys/class/block/$node" "/sys/block/$node" "$face" "$face.loop"
rmdir "/sys/devices/virtual/block/$node"
ln -sfn "../../devices/virtual/block/$loop" "/sys/dev/block/$number"
"""

Run = Callable[[list[str]], "subprocess.CompletedProcess[bytes]"]


@dataclass(frozen=True)
class Face:
    """A disk's identity: model and serial."""

    model: str
    serial: str

    @property
    def by_id(self) -> str:
        """The link that udev makes."""
        return f"/dev/disk/by-id/nvme-{self.model.replace(' ', '_')}_{self.serial}"


def of_volume(volume_id: str) -> Face:
    """An EBS volume's serial is its id without the hyphen."""
    return Face(EBS, volume_id.replace("-", ""))


def of_instance_store(name: str) -> Face:
    """An instance-store disk's serial begins with ``AWS``; it says nothing to anybody else."""
    return Face(INSTANCE_STORE, "AWS" + hashlib.sha256(name.encode()).hexdigest()[:17].upper())


def show(run: Run, face: Face, node: str, loop: str, name: str) -> None:
    """The loop device is ``/dev/<node>`` in the machine, and whatever it asks says so. Raises `OSError`."""
    info = os.stat(loop)  # noqa: PTH116 - the numbers of the device itself
    numbers = [str(os.major(info.st_rdev)), str(os.minor(info.st_rdev))]
    arguments = [node, Path(loop).name, face.model, face.serial, face.by_id, name, *numbers]
    done = run(["sh", "-c", _SHOW, "sh", *arguments])
    if done.returncode:
        raise OSError(f"cannot show {face.serial} to the machine: {done.stderr.decode(errors='replace')}")


def hide(run: Run, face: Face, node: str, name: str) -> None:
    """Remove the disk from the machine."""
    run(["sh", "-c", _HIDE, "sh", node, face.by_id, name])


def prepare(root: Path, mount: Callable[..., Any]) -> None:
    """The machine's sysfs can have names of its own, and shows no disk of the host."""
    state = own_paths.resolve(root, _STATE)
    done: list[Path] = []
    try:
        for folder in _FOLDERS:
            layers = [state / folder.replace("/", "-") / layer for layer in ("upper", "work")]
            for layer in layers:
                layer.mkdir(parents=True)
            shown = own_paths.resolve(root, f"sys/{folder}")
            mount(
                *("-t", "overlay", "-o", f"lowerdir={shown},upperdir={layers[0]},workdir={layers[1]}"),
                *("overlay", str(shown)),
            )
            done.append(shown)
        (state / "faces").mkdir()
        for folder in _FOLDERS[:2]:
            for entry in own_paths.resolve(root, f"sys/{folder}").iterdir():
                entry.unlink()
    except (OSError, subprocess.CalledProcessError):
        for shown in reversed(done):
            subprocess.run(["umount", "--lazy", str(shown)], check=False)
        subprocess.run(["rm", "-rf", str(state)], check=False)
