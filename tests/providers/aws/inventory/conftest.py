"""What the tests of the inventory share."""

from __future__ import annotations

import pytest

from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.inventory.inventory import AwsInventory


@pytest.fixture
def inventory(provider: AwsProvider) -> AwsInventory:
    return provider.inventory
