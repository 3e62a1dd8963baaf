"""Which AMI a machine boots, and who logs in to it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runctl._dataclasses import dataclass
from runctl.core import tags as tag
from runctl.core.errors import NotFound, ProviderError, Unsupported, UsageError
from runctl.core.names import did_you_mean
from runctl.providers.aws.calls.errors import error_code, our_errors
from runctl.providers.aws.calls.parse import tags_of
from runctl.providers.aws.prices.shipped import snapshot_types

if TYPE_CHECKING:
    from runctl.providers.aws.calls.session import AwsSession

AMAZON_LINUX = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{arch}"
DEEP_LEARNING = "/aws/service/deeplearning/ami/{arch}/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id"
NEURON = "/aws/service/neuron/dlami/multi-framework/ubuntu-22.04/latest/image_id"
ROOT_DEFAULT_GIB = 30
ROOT_DEFAULT_ACCELERATED_GIB = 100
"""Deep-learning images and their containers are large."""

_OLD_NVIDIA = {"p2", "p3", "p3dn", "g2", "g3", "g3s"}
"""GPUs before Turing: NVIDIA's open kernel driver, which the deep-learning images bring, does not know them."""
_LOGIN_USERS = (
    (re.compile(r"ubuntu", re.IGNORECASE), "ubuntu"),
    (re.compile(r"debian", re.IGNORECASE), "admin"),
    (re.compile(r"centos", re.IGNORECASE), "centos"),
    (re.compile(r"rocky", re.IGNORECASE), "rocky"),
    (re.compile(r"fedora", re.IGNORECASE), "fedora"),
)


@dataclass(frozen=True)
class InstanceType:
    """What matters of ``DescribeInstanceTypes``."""

    name: str
    architecture: str
    """``x86_64`` or ``arm64``."""
    accelerator: str | None
    """``nvidia``, ``neuron``, or another maker's name in lower case; ``None`` without one."""
    spot: bool
    """Whether it is sold on the spot market at all."""
    vcpus: int = 0
    memory_mib: int = 0
    gpu_name: str | None = None
    gpu_count: int = 0
    gpu_memory_mib: int = 0
    """Of each GPU."""
    shares_gpu: bool = False
    """Its GPU is a part of one."""
    burstable: bool = False
    """Its CPUs are fast on credit only."""
    cluster_placement: bool = False
    """Several can be put close to each other, by a cluster placement group."""


@dataclass(frozen=True)
class Image:
    """An AMI, ready to be launched."""

    id: str
    name: str
    reason: str
    login_user: str
    root_device: str
    root_size_gib: int
    """The least that its snapshot needs."""


def instance_type_of(described: Mapping[str, Any]) -> InstanceType:
    """An item of ``DescribeInstanceTypes``. Pure."""
    architectures = described.get("ProcessorInfo", {}).get("SupportedArchitectures", [])
    accelerator = None
    if described.get("NeuronInfo") or described.get("InferenceAcceleratorInfo"):
        accelerator = "neuron"
    gpus = described.get("GpuInfo", {}).get("Gpus", ())
    for gpu in gpus:
        accelerator = str(gpu.get("Manufacturer", "unknown")).lower()
    return InstanceType(
        name=described["InstanceType"],
        architecture="arm64" if "arm64" in architectures else "x86_64",
        accelerator=accelerator,
        spot="spot" in described.get("SupportedUsageClasses", ["spot"]),
        vcpus=described.get("VCpuInfo", {}).get("DefaultVCpus", 0),
        memory_mib=described.get("MemoryInfo", {}).get("SizeInMiB", 0),
        gpu_name=gpus[0].get("Name") if gpus else None,
        gpu_count=sum(gpu.get("Count", 0) for gpu in gpus),
        gpu_memory_mib=gpus[0].get("MemoryInfo", {}).get("SizeInMiB", 0) if gpus else 0,
        shares_gpu=any(gpu.get("GpuPartitionSize", 1) < 1 for gpu in gpus),
        burstable=bool(described.get("BurstablePerformanceSupported")),
        cluster_placement="cluster" in described.get("PlacementGroupInfo", {}).get("SupportedStrategies", ()),
    )


def has_old_gpu(instance_type: InstanceType) -> bool:
    """Whether the current deep-learning images do not know its GPUs. Pure."""
    return instance_type.name.partition(".")[0] in _OLD_NVIDIA


def image_family(instance_type: InstanceType) -> str:
    """Types of the same family boot the same image. Pure."""
    drivers = {"nvidia": "NVIDIA", "neuron": "Neuron"}.get(instance_type.accelerator or "", "no accelerator")
    return f"{instance_type.architecture}, {drivers}"


def parameter_for(instance_type: InstanceType) -> tuple[str, str]:
    """The public SSM parameter that names the newest fitting AMI, and why that one. Pure.

    Raises `Unsupported` where no such image fits and one must be named.
    """
    arch = instance_type.architecture
    if instance_type.accelerator == "nvidia":
        if has_old_gpu(instance_type):
            raise Unsupported(
                f"the current deep-learning images do not know the GPUs of {instance_type.name}",
                hint="name an AMI with an older NVIDIA driver: --ami-id, or choose g4dn or newer",
            )
        return DEEP_LEARNING.format(
            arch=arch
        ), f"newest Deep Learning Base AMI (Ubuntu 22.04, NVIDIA, {arch})"
    if instance_type.accelerator == "neuron":
        return NEURON, "newest Neuron Deep Learning AMI (Ubuntu 22.04)"
    return AMAZON_LINUX.format(arch=arch), f"newest Amazon Linux 2023 ({arch})"


def login_user_for(name: str, description: str, tags: Mapping[str, str]) -> str:
    """Who logs in: the AMI's own tag, else by what its name says, else Amazon Linux's ``ec2-user``. Pure."""
    if tags.get(tag.LOGIN_USER):
        return tags[tag.LOGIN_USER]
    for text in (name, description):
        for pattern, user in _LOGIN_USERS:
            if pattern.search(text):
                return user
    return "ec2-user"


def describe_instance_types(session: AwsSession, names: Sequence[str]) -> tuple[InstanceType, ...]:
    """In the order of ``names``. Raises `NotFound` for a type that the region does not have."""
    try:
        answer = session.ec2.describe_instance_types(InstanceTypes=list(names))  # type: ignore[arg-type]
    except Exception as error:
        if error_code(error) not in {"InvalidInstanceType", "InvalidParameterValue"}:
            raise
        unknown = [name for name in names if name in str(error)] or list(names)
        raise _no_such_type(session, unknown[0]) from error
    found: dict[str, InstanceType] = {
        str(item["InstanceType"]): instance_type_of(item) for item in answer["InstanceTypes"]
    }
    for name in names:
        if name not in found:
            raise _no_such_type(session, name)
    return tuple(found[name] for name in dict.fromkeys(names))


def _no_such_type(session: AwsSession, name: str) -> NotFound:
    hint = did_you_mean(name, snapshot_types()) or "https://aws.amazon.com/ec2/instance-types lists them"
    return NotFound(f"{session.region} has no instance type {name!r}", hint=hint)


def find_image(session: AwsSession, instance_type: InstanceType, image_id: str | None) -> Image:
    """The AMI asked for, or the newest that fits. Raises `NotFound`, `UsageError`, `Unsupported`, `ProviderError`."""
    if image_id is not None:
        return _describe(session, instance_type, image_id, "asked for")
    parameter, reason = parameter_for(instance_type)
    try:
        found = session.ssm.get_parameter(Name=parameter)["Parameter"]["Value"]
    except Exception as error:
        if error_code(error) != "ParameterNotFound":
            raise
        raise NotFound(
            f"{session.region} has no image for {instance_type.name} under {parameter}",
            hint="name one: --ami-id ami-…",
        ) from error
    return _describe(session, instance_type, found, reason)


def root_device(session: AwsSession, image_id: str) -> str:
    """The device name that the image boots from. Raises `NotFound`."""
    return str(_described(session, image_id)["RootDeviceName"])


def _described(session: AwsSession, image_id: str) -> Mapping[str, Any]:
    with our_errors(session.endpoint):
        images = session.ec2.describe_images(ImageIds=[image_id])["Images"]
    if not images:
        raise NotFound(
            f"{session.region} has no image {image_id}", hint="AMI ids differ from region to region"
        )
    return images[0]


def _describe(session: AwsSession, instance_type: InstanceType, image_id: str, reason: str) -> Image:
    found = _described(session, image_id)
    name = found.get("Name", "")
    if found.get("State", "available") != "available":
        raise UsageError(f"the image {image_id} is {found.get('State')}, not available")
    if str(found.get("Platform", "")).lower() == "windows":
        raise Unsupported(f"the image {image_id} is Windows; runctl's agent needs Linux")
    architecture = found.get("Architecture", instance_type.architecture)
    if architecture != instance_type.architecture:
        raise UsageError(
            f"the image {image_id} is for {architecture}, {instance_type.name} is {instance_type.architecture}",
            hint="leave --ami-id out to have a fitting one chosen, or choose another instance type",
        )
    root_device = found.get("RootDeviceName")
    if not root_device or found.get("RootDeviceType", "ebs") != "ebs":
        raise ProviderError(f"the image {image_id} has no EBS root disk, which runctl needs")
    sizes = [
        mapping["Ebs"].get("VolumeSize", 1)
        for mapping in found.get("BlockDeviceMappings", ())
        if mapping.get("DeviceName") == root_device and "Ebs" in mapping
    ]
    return Image(
        id=image_id,
        name=name,
        reason=reason,
        login_user=login_user_for(name, found.get("Description", ""), tags_of(found.get("Tags"))),
        root_device=root_device,
        root_size_gib=max(sizes, default=1),
    )
