"""An account that runctl has not been used in."""

from __future__ import annotations

import pytest

from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.iam.roles import DEFAULT_PROFILE


@pytest.fixture(autouse=True)
def without_role(session: AwsSession) -> None:
    """The other tests' account has the role of an older runctl."""
    iam = session.iam
    iam.remove_role_from_instance_profile(InstanceProfileName=DEFAULT_PROFILE, RoleName=DEFAULT_PROFILE)
    iam.delete_instance_profile(InstanceProfileName=DEFAULT_PROFILE)
    iam.delete_role(RoleName=DEFAULT_PROFILE)
