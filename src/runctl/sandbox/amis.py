"""The images that the sandbox's machines are made from, and what is known of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ami:
    """An image."""

    id: str
    name: str
    architecture: str
    login_user: str
    root_device: str
    parameter: str | None
    """The public SSM parameter that names it."""
    docker: bool = True
    owner: str = "amazon"


@dataclass(frozen=True)
class MadeImage:
    """An image that was made of an instance, or copied."""

    base: Ami
    """What it was made from, in the end one of `AMIS`."""
    folder: Path | None
    """What its machines have on their root disks beyond this computer's root; ``None`` where they have nothing."""


_AMAZON_LINUX = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{}"
_DEEP_LEARNING = "/aws/service/deeplearning/ami/{}/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id"

AMIS = (
    Ami(
        "ami-0a12023000000001",
        "al2023-ami-2023.8.20260501.0-kernel-6.1-x86_64",
        "x86_64",
        "ec2-user",
        "/dev/xvda",
        _AMAZON_LINUX.format("x86_64"),
    ),
    Ami(
        "ami-0a12023000000002",
        "al2023-ami-2023.8.20260501.0-kernel-6.1-arm64",
        "arm64",
        "ec2-user",
        "/dev/xvda",
        _AMAZON_LINUX.format("arm64"),
    ),
    Ami(
        "ami-0d1a000000000001",
        "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04) 20260501",
        "x86_64",
        "ubuntu",
        "/dev/sda1",
        _DEEP_LEARNING.format("x86_64"),
    ),
    Ami(
        "ami-0d1a000000000002",
        "Deep Learning ARM64 Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04) 20260501",
        "arm64",
        "ubuntu",
        "/dev/sda1",
        _DEEP_LEARNING.format("arm64"),
    ),
    Ami(
        "ami-0b00000000000001",
        "sandbox-without-docker-x86_64",
        "x86_64",
        "ec2-user",
        "/dev/xvda",
        None,
        docker=False,
        owner="self",
    ),
)


def ami(image_id: str) -> Ami | None:
    """The image of that id."""
    return next((image for image in AMIS if image.id == image_id), None)


def write_for_moto(path: Path) -> None:
    """The file that ``MOTO_AMIS_PATH`` names; it must exist before moto is imported."""
    path.write_text(
        json.dumps(
            [
                {
                    "ami_id": image.id,
                    "state": "available",
                    "public": True,
                    "owner_id": "137112412989",
                    "image_location": f"{image.owner}/{image.name}",
                    "sriov": "simple",
                    "root_device_type": "ebs",
                    "root_device_name": image.root_device,
                    "description": image.name,
                    "image_type": "machine",
                    "platform": None,
                    "architecture": image.architecture,
                    "name": image.name,
                    "virtualization_type": "hvm",
                    "hypervisor": "xen",
                }
                for image in AMIS
            ]
        )
    )
