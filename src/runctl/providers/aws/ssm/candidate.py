"""Whether a machine can be reached over Systems Manager."""

from __future__ import annotations

from runctl.providers.aws.settings import AwsTransport
from runctl.transport.choice import Candidate

_REASON = "the machine's SSM agent is online"


def ssm_candidate(ping: str | None, problem: str = "") -> Candidate:
    """SSM with what is known of it. Pure.

    ``ping`` is the ``PingStatus`` of DescribeInstanceInformation (``Online``, ``ConnectionLost``, ``Inactive``), or
    ``None`` where the machine's SSM agent has not registered; ``problem`` is why SSM could not be asked.
    """
    if problem:
        return Candidate(AwsTransport.SSM, _REASON, problem)
    if ping is None:
        return Candidate(
            AwsTransport.SSM,
            _REASON,
            "the machine's SSM agent has not registered",
            hint="a new machine needs a minute; after that: does it have an instance profile with"
            " AmazonSSMManagedInstanceCore and a way to the internet?",
        )
    if ping != "Online":
        return Candidate(AwsTransport.SSM, _REASON, f"the machine's SSM agent is not online ({ping})")
    return Candidate(AwsTransport.SSM, _REASON)
