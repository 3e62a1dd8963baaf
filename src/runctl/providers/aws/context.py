"""What every part of the AWS provider works with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runctl.core.clock import Clock
from runctl.core.config import Config
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.pricing import PriceBook
from runctl.providers.aws.settings import AwsConfig

DEFAULT_INSTANCE_TYPE = "m7i.large"


@dataclass(frozen=True)
class AwsContext:
    """One account and region, as configured."""

    config: Config
    session: AwsSession
    clock: Clock
    prices: PriceBook
    state_directory: Path
    """For keys and known hosts, on this computer."""
    cache_directory: Path

    @property
    def settings(self) -> AwsConfig:
        """What the configuration's ``[aws]`` says."""
        return self.config.section(AwsConfig)

    @property
    def instance_type(self) -> str:
        """What a machine is where nobody says: as configured, else `DEFAULT_INSTANCE_TYPE`."""
        return self.settings.instance_type or DEFAULT_INSTANCE_TYPE
