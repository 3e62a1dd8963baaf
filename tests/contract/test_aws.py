"""The AWS provider keeps the contract, as far as an API without machines can show."""

from __future__ import annotations

from typing import Any

import pytest

from runctl.core import tags as tag
from runctl.core.ids import InstanceId, VolumeId
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.interface import Provider
from runctl.testing.contract import RentingContract
from runctl.testing.volume_contract import VolumeContract


class TestAwsInstances(RentingContract):
    @pytest.fixture
    def provider(self, provider: AwsProvider) -> Provider:
        return provider

    @pytest.fixture
    def foreign_instance(self, session: AwsSession) -> InstanceId:
        images: Any = session.ec2.describe_images(Owners=["amazon"])["Images"]
        created = session.ec2.run_instances(
            ImageId=images[0]["ImageId"], InstanceType="t3.micro", MinCount=1, MaxCount=1
        )
        return InstanceId(created["Instances"][0]["InstanceId"])


class TestAwsVolumes(VolumeContract):
    @pytest.fixture
    def provider(self, provider: AwsProvider, session: AwsSession) -> Provider:
        self._session = session
        return provider

    def unprotect(self, volume_id: VolumeId) -> None:
        self._session.ec2.delete_tags(Resources=[volume_id], Tags=[{"Key": tag.PERSISTENT}])
