"""Amazon EC2 and EBS. Importing this imports no boto3."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runctl.core.config import Config
    from runctl.providers.interface import Provider


def provider(config: Config) -> Provider:
    """The provider for the configured profile and region. Makes no call."""
    from runctl.core.clock import SystemClock
    from runctl.core.places import cache_folder, data_folder
    from runctl.providers.aws.aws_provider import AwsProvider
    from runctl.providers.aws.calls.session import AwsSession
    from runctl.providers.aws.context import AwsContext
    from runctl.providers.aws.pricing import PriceBook

    session = AwsSession(region=config.aws.region, profile=config.aws.profile)
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
