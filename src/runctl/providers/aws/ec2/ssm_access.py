"""The way to a machine over Systems Manager."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runctl.core.errors import PermissionDenied
from runctl.core.machine_models import Instance
from runctl.core.progress import Progress
from runctl.providers.aws.calls.errors import our_errors
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ec2.access import Offer, asks_ec2, login_user
from runctl.providers.aws.ssm.candidate import ssm_candidate
from runctl.transport.choice import Candidate

if TYPE_CHECKING:
    from runctl.providers.aws.ssm.transport import SsmTransport


class SsmAccess:
    """See `Access`."""

    def __init__(self, context: AwsContext) -> None:
        self._context = context

    def offer(self, instance: Instance, *, insisted: bool) -> Offer:  # noqa: ARG002 (nothing is spared here)
        """See `Access.offer`."""
        return Offer(self._candidate(instance), lambda progress: self._open(instance, progress))

    def _candidate(self, instance: Instance) -> Candidate:
        try:
            with our_errors(self._context.session.endpoint):
                answer = self._context.session.ssm.describe_instance_information(
                    Filters=[{"Key": "InstanceIds", "Values": [instance.id]}]
                )
        except PermissionDenied as error:
            return ssm_candidate(None, problem=error.message)
        found = answer["InstanceInformationList"]
        return ssm_candidate(found[0]["PingStatus"] if found else None)

    def _open(self, instance: Instance, progress: Progress) -> SsmTransport:
        from runctl.providers.aws.ssm.transport import SsmTransport
        from runctl.providers.aws.staging import S3Staging

        session = self._context.session
        return SsmTransport(
            session.ssm,
            instance.id,
            user=login_user(instance),
            staging=S3Staging(session, self._context.settings.staging_bucket, progress),
            progress=progress,
            still_there=asks_ec2(self._context, instance),
        )
