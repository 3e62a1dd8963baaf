"""The AWS sections of the configuration: ``[aws]`` and ``[ebs]``."""

from __future__ import annotations

from dataclasses import field
from decimal import Decimal
from enum import StrEnum

from runctl._dataclasses import dataclass
from runctl.core.config.values import TRUST, USD


class AwsTransport(StrEnum):
    """The ways to a machine, in the order in which they are tried: SSH streams."""

    SSH = "ssh"
    SSM = "ssm"


TRANSPORTS = tuple(way.value for way in AwsTransport)


@dataclass(frozen=True)
class AwsConfig:
    """``[aws]``: which account, and what its machines are like."""

    region: str | None = None
    profile: str | None = field(default=None, metadata=TRUST)
    """A profile of ``~/.aws/config``."""
    instance_type: str | None = field(default=None, metadata={"check": "instance-type"})
    spot: bool = False
    """Whether `create` buys on the spot market when neither ``--spot`` nor ``--on-demand`` is given."""
    ami_id: str | None = field(default=None, metadata=TRUST)
    key_name: str | None = field(default=None, metadata=TRUST)
    """An EC2 key pair; its private half is `identity_file`."""
    identity_file: str | None = field(default=None, metadata={"kind": "path", **TRUST})
    security_groups: tuple[str, ...] = field(default=(), metadata=TRUST)
    strict_host_key: bool = False
    """Whether a machine is refused whose SSH host key its console does not show yet."""
    instance_profile: str | None = field(default=None, metadata=TRUST)
    imds_hop_limit: int = field(default=1, metadata={"minimum": 1, **TRUST})
    """With 2, containers reach the metadata service, and can take the machine's role."""
    subnet: str | None = None
    zone: str | None = None
    staging_bucket: str | None = field(default=None, metadata=TRUST)
    """For what is too big for SSM; by default one is created when first needed."""
    transport: str = field(default="auto", metadata={"choices": ("auto", *TRANSPORTS)})
    root_volume_size: int | None = field(default=None, metadata={"minimum": 1})
    """GiB."""
    ttl: str | None = field(default=None, metadata={"kind": "duration", "check": "ttl"})
    """A machine ends itself after this long, such as ``12h``."""
    idle_timeout: str | None = field(default=None, metadata={"kind": "timeout", "check": "idle-timeout"})
    """A machine that was not rented for a run ends itself when nothing has used it for so long: ``1h`` unless said
    otherwise, or ``off``."""
    ask_above: Decimal | None = field(default=None, metadata={**USD, **TRUST})
    """USD an hour: a machine that costs more is only rented after a confirmation, even without a terminal to ask on."""


@dataclass(frozen=True)
class EbsConfig:
    """``[ebs]``: volumes in runs."""

    mount_points: tuple[str, ...] = field(default=(), metadata={"check": "mounts"})
    """``SOURCE:TARGET[:ro]``, as ``--ebs-mount`` takes it."""
