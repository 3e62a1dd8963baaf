"""What every part of the AWS provider works with."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

from runctl._dataclasses import dataclass
from runctl.core.clock import Clock
from runctl.core.config import Config
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.prices.book import PriceBook
from runctl.providers.aws.settings import AwsConfig

if TYPE_CHECKING:
    from runctl.core.machine_models import Market
    from runctl.providers.aws.ec2.images import InstanceType

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
    types_sold: dict[tuple[Market, str, bool], list[InstanceType]] = field(
        default_factory=dict, repr=False, compare=False
    )
    """What `choose_types` has found that the region sells: many pages, and another plan may be made every minute."""

    @property
    def settings(self) -> AwsConfig:
        """What the configuration's ``[aws]`` says."""
        return self.config.section(AwsConfig)

    @property
    def instance_type(self) -> str:
        """What a machine is where nobody says: as configured, else `DEFAULT_INSTANCE_TYPE`."""
        return self.settings.instance_type or DEFAULT_INSTANCE_TYPE
