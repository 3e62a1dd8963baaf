"""What the tests of groups share."""

from __future__ import annotations

import pytest

from runctl.providers.aws.calls.session import AwsSession


@pytest.fixture
def bucket(session: AwsSession) -> None:
    session.s3.create_bucket(Bucket="mine")
