"""SkyPilot as a program that knows nothing of the sandbox: installed, with a home of its own, and an image for it.

It finds the sandbox as any AWS tool does, by ``AWS_ENDPOINT_URL`` and keys. Two things that it fetches from the
internet are brought to it: its catalog of instance types, and on its machines uv and the environment of its runtime,
which the image has that it would take on AWS.
"""

from __future__ import annotations

import csv
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.package_environments import environment_with
from tests.sandbox.account import Account, Machine

VERSION = "0.14.1"
REQUIREMENTS = (f"skypilot[aws]=={VERSION}",)
USER = "ubuntu"
IMAGE = "ami-0d1a000000000001"
"""The sandbox's Ubuntu."""
KIND = "m6i.large"
RUNTIME = (
    *("setuptools<70", "click<8.3.0", "ray[default]==2.9.3", "pydantic-core==2.41.1"),
    f"skypilot[aws,remote]=={VERSION}",
)
"""What SkyPilot has in its own images for its own use."""
_COLUMNS = (
    *(
        "InstanceType",
        "AcceleratorName",
        "AcceleratorCount",
        "vCPUs",
        "MemoryGiB",
        "GpuInfo",
        "Price",
        "SpotPrice",
    ),
    *(
        "Region",
        "AvailabilityZone",
        "Arch",
        "LocalDiskType",
        "NVMeSupported",
        "LocalDiskSize",
        "LocalDiskCount",
    ),
    "MaximumEfaInterfaces",
)


@dataclass(frozen=True)
class SkyPilot:
    """Installed, with settings, keys and a server of its own below one folder."""

    home: Path
    account: Account
    port: int

    @property
    def environment(self) -> Mapping[str, str]:
        """Of the program and of the server that it starts."""
        # It refuses to start where a settings file is named that is not there, as tests name them.
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return {
            **kept,
            **self.account.info.environment(),
            "HOME": str(self.home),
            "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
            "SKYPILOT_API_SERVER_LOCAL_PORT": str(self.port),
            "AWS_EC2_METADATA_DISABLED": "true",
            "PATH": f"{program().parent}{os.pathsep}{os.environ['PATH']}",
        }

    def __call__(self, *argv: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """``sky …`` to its end."""
        return subprocess.run(
            [str(program()), *argv],
            env=self.environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self) -> None:
        """Its settings and its catalog are there, and its server answers."""
        self._write_catalog()
        done = self("api", "start")
        if done.returncode:
            raise RuntimeError(f"sky api start ended with {done.returncode}: {done.stdout}{done.stderr}")

    def stop(self) -> None:
        """Nothing of it runs any more."""
        self("api", "stop", timeout=120)
        for pid in self._left():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def log(self) -> str:
        """What its server has said last."""
        file = self.home / ".sky/api_server/server.log"
        return file.read_text(errors="replace")[-4000:] if file.exists() else ""

    def _left(self) -> list[int]:
        """Processes that have this home, and the environment that it was installed in."""
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                variables = (entry / "environ").read_bytes().split(b"\0")
                if f"HOME={self.home}".encode() in variables:
                    found.append(int(entry.name))
        return found

    def _write_catalog(self) -> None:
        """As its hosted catalog would have it, of the one type that is used here."""
        region = self.account.info.region
        folder = self.home / ".sky/catalogs/v8"
        zones = self.account.ec2.describe_availability_zones()["AvailabilityZones"]
        values = {
            "InstanceType": KIND,
            "vCPUs": "2.0",
            "MemoryGiB": "8.0",
            "Price": "0.096",
            "SpotPrice": "0.03",
        }
        rows = [
            {**values, "Region": region, "AvailabilityZone": zone["ZoneId"], "Arch": "x86_64"}
            for zone in zones
        ]
        _write_csv(folder / "aws/vms.csv", _COLUMNS, rows)
        images = ("Tag", "Region", "OS", "OSVersion", "ImageId", "CreationDate", "BaseImageId")
        _write_csv(folder / "aws/images.csv", images, [])
        codes = {"InstanceType": KIND, "OnDemandInstanceCode": "L-1216C47A", "SpotInstanceCode": "L-34B43A08"}
        _write_csv(folder / "aws/instance_quota_mapping.csv", tuple(codes), [codes])
        _write_csv(folder / "common/accelerators.csv", ("AcceleratorName", "Clouds"), [])
        _write_csv(folder / "common/metadata.csv", ("GPU", "Memory", "Manufacturer"), [])


def program() -> Path:
    """``sky``; installed when it is first asked for."""
    named = os.environ.get("RUNCTL_TEST_SKY")
    return Path(named) if named else environment_with(REQUIREMENTS) / "bin/sky"


def runtime_image(account: Account, uv: str) -> str:
    """An image with what SkyPilot's own have: uv, and the environment of its runtime."""
    machine = account.launch(user=USER, seconds=100, ImageId=IMAGE, InstanceType=KIND)
    _copy(machine, uv, "uv")
    machine.run(
        "mkdir -p ~/.local/bin && mv ~/uv ~/.local/bin/ && ~/.local/bin/uv venv --seed ~/skypilot-runtime",
        timeout=300,
    )
    install = f"~/.local/bin/uv pip install --index-strategy unsafe-best-match {shlex.join(RUNTIME)}"
    machine.run(f"VIRTUAL_ENV=~/skypilot-runtime UV_LINK_MODE=copy {install}", timeout=900)
    machine.run("rm -rf ~/.cache", timeout=300)
    image = account.ec2.create_image(InstanceId=machine.id, Name="skypilot-runtime", NoReboot=True)["ImageId"]
    account.ec2.terminate_instances(InstanceIds=[machine.id])
    account.wait_state(machine.id, "terminated", 60)
    return str(image)


def _copy(machine: Machine, source: str, target: str) -> None:
    with Path(source).open("rb") as content:
        options = [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "BatchMode=yes",
        ]
        argv = [word for option in options for word in ("-o", option)]
        command = ["ssh", *argv, "-i", str(machine.account.key_file), f"{machine.user}@{machine.address}"]
        subprocess.run(
            [*command, f"cat > {target} && chmod +x {target}"], stdin=content, check=True, timeout=120
        )


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
