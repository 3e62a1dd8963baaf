"""Amazon EC2 and EBS, described for the command line. Importing this imports neither boto3 nor click."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from runctl.providers.aws.ebs.type_table import TYPES
from runctl.providers.aws.settings import TRANSPORTS, AwsConfig, EbsConfig
from runctl.providers.plugin import (
    ALL_VERBS,
    CreateOption,
    Defaults,
    HelpExamples,
    IdKind,
    Leaf,
    ProviderPlugin,
    VolumeGroup,
)

if TYPE_CHECKING:
    from runctl.core.config import Config
    from runctl.providers.aws.prices.shipped import SnapshotRow
    from runctl.providers.interface import Provider

CONFIG_TEMPLATE = """\
[aws]
# region = "us-east-1"
# instance_type = "g4dn.xlarge"
# spot = true
# ttl = "12h"                     # machines end themselves after this long
# idle_timeout = "1h"             # and when nothing has used them for this long; or "off"
# ask_above = 1.0                 # USD an hour: nothing dearer without a yes

[ebs]
# mount_points = ["/mnt/data:/data"]   # SOURCE:TARGET[:ro] for every run
"""
_HEX = "(?:[0-9a-f]{8}|[0-9a-f]{17})"


def make(config: Config) -> Provider:
    """The provider for the configured profile and region. Makes no call."""
    from runctl.core.clock import SystemClock
    from runctl.core.files import cache_folder, data_folder
    from runctl.providers.aws.aws_provider import AwsProvider
    from runctl.providers.aws.calls.session import AwsSession
    from runctl.providers.aws.context import AwsContext
    from runctl.providers.aws.prices.book import PriceBook

    aws = config.section(AwsConfig)
    session = AwsSession(region=aws.region, profile=aws.profile)
    clock = SystemClock()
    cache = cache_folder()
    return AwsProvider(
        AwsContext(
            config=config,
            session=session,
            clock=clock,
            prices=PriceBook(session, clock, cache / "prices"),
            state_directory=data_folder(),
            cache_directory=cache,
        )
    )


def defaults(config: Config) -> Defaults:
    """What ``[aws]`` and ``[ebs]`` say of things that every provider may have."""
    aws = config.section(AwsConfig)
    return Defaults(
        region=aws.region or os.environ.get("AWS_REGION"),
        instance_type=aws.instance_type,
        spot=aws.spot,
        transport=aws.transport,
        ask_above=aws.ask_above,
        ask_above_key="[aws] ask_above",
        mount_points=config.section(EbsConfig).mount_points,
    )


def instance_types() -> dict[str, str]:
    """Those that runctl ships a price of, with their CPUs, memory and GPUs."""
    from runctl.providers.aws.prices.shipped import snapshot

    return {row.instance_type: _machine(row) for row in snapshot().values()}


def _machine(row: SnapshotRow) -> str:
    gpus = f", {row.gpu_count} {row.gpu_name}" if row.gpu_name else ""
    return f"{row.vcpus} vCPUs, {row.memory_gib} GiB{gpus}"


plugin = ProviderPlugin(
    name="aws",
    help="Rent machines on AWS and train on them.",
    make=make,
    verbs=ALL_VERBS,
    sections={"aws": AwsConfig, "ebs": EbsConfig},
    config_template=CONFIG_TEMPLATE,
    defaults=defaults,
    global_options={
        "region": "aws.region",
        "profile": "aws.profile",
        "strict_host_key": "aws.strict_host_key",
    },
    ids=(
        # Of instances, ids of any length between the two are taken: moto and old accounts have them.
        IdKind("instance", "i-", "i-[0-9a-f]{8,17}", "i-0123456789abcdef0"),
        IdKind("volume", "vol-", f"vol-{_HEX}", "vol-0123456789abcdef0"),
        IdKind("snapshot", "snap-", f"snap-{_HEX}", "snap-0123456789abcdef0"),
        IdKind("machine image", "ami-", f"ami-{_HEX}", "ami-0123456789abcdef0"),
    ),
    transports=TRANSPORTS,
    create_options=(
        CreateOption(
            "--ami-id",
            "The image (default: a current one that suits the machine).",
            field="image",
            metavar="AMI",
        ),
        CreateOption("--subnet", "A subnet; the machine is in its zone.", field="subnet", metavar="ID"),
        CreateOption("--key-name", "An EC2 key pair.", field="key_name", section="Access", metavar="NAME"),
        CreateOption(
            "--security-group",
            "A security group; repeatable.",
            field="security_groups",
            section="Access",
            metavar="ID|NAME",
            repeatable=True,
        ),
        CreateOption(
            "--instance-profile",
            "What the machine itself may do in AWS.",
            field="instance_profile",
            section="Access",
            metavar="NAME",
        ),
        CreateOption(
            "--imds-hop-limit",
            "2 lets containers use the machine's role (default: the configuration's, or 1).",
            field="imds_hop_limit",
            section="Access",
            least=1,
            most=64,
        ),
    ),
    commands={
        "iam-policy": Leaf(
            "Print the least-privilege policy, as JSON.",
            "runctl.cli.settings.account:policy_command",
            "aws",
        ),
        "setup": Leaf(
            "Create what runctl needs in an account, once: shown first, tagged, and removed by --remove.",
            "runctl.cli.settings.account:setup_command",
            "aws",
            shows_calls=True,
        ),
        "extend": Leaf(
            "Change when an instance ends itself; limits that are not named stay as they are.",
            "runctl.cli.machines.limits:extend_command",
            "aws",
        ),
        "spot-prices": Leaf(
            "Show what spot machines cost in each zone, now and in the last days.",
            "runctl.cli.machines.spot:prices_command",
            "aws",
        ),
        "spot-advice": Leaf(
            "Show where spot capacity is likely, the best first.",
            "runctl.cli.machines.spot:advice_command",
            "aws",
        ),
    },
    volumes=VolumeGroup(
        "ebs",
        "Keep data on EBS volumes that outlive instances.",
        types=tuple(name for name, disk in TYPES.items() if disk.offered),
        shareable=tuple(name for name, disk in TYPES.items() if disk.multi_attach),
    ),
    registry="ecr",
    preview_option=("--show-aws", "Print the commands of the AWS CLI that do the same, and change nothing."),
    instance_types=instance_types,
    help_examples=HelpExamples(
        ("g5.xlarge", "g4dn.xlarge", "g6.xlarge"), "A10G:1", spot=True, unattended=True
    ),
    account_variables=("AWS_ENDPOINT_URL", "AWS_PROFILE"),
)
