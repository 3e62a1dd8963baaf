"""Which requests may be sent to AWS a second time: one policy for every call of runctl's.

botocore's own retries do not ask what a second request would do. A request whose answer was lost may have been
carried out; sending it again is harmless for some operations and makes a second thing of others.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from enum import Enum
from typing import Any, TypeVar

from runctl.core.clock import Clock
from runctl.core.errors import OutcomeUnknown
from runctl.core.waiting import attempts
from runctl.providers.aws.calls.errors import THROTTLED

T = TypeVar("T")

MOST_UNANSWERED = 2
"""How many requests of one call may wait for an answer in vain: each waits as long as the read time-out."""
FIND_TIMEOUT = timedelta(seconds=6)
"""For AWS to list what a request has made: that lags behind what it has done."""

_READING = ("BatchGet", "Describe", "Get", "Head", "List")

REPEATABLE = frozenset(
    {
        # The same state is asked for again.
        ("ec2", "CancelSpotInstanceRequests"),
        ("ec2", "CreateTags"),
        ("ec2", "DeleteFleets"),
        ("ec2", "DeleteKeyPair"),
        ("ec2", "DeleteTags"),
        ("ec2", "ModifyInstanceAttribute"),
        ("ec2", "StartInstances"),
        ("ec2", "StopInstances"),
        ("ec2", "TerminateInstances"),
        ("ecr", "BatchDeleteImage"),
        ("ecr", "PutLifecyclePolicy"),
        ("iam", "AttachRolePolicy"),
        ("iam", "PutRolePolicy"),
        ("s3", "AbortMultipartUpload"),
        ("s3", "CompleteMultipartUpload"),
        ("s3", "DeleteObject"),
        ("s3", "DeleteObjects"),
        ("s3", "PutBucketEncryption"),
        ("s3", "PutBucketLifecycleConfiguration"),
        ("s3", "PutBucketTagging"),
        ("s3", "PutObject"),
        ("s3", "PutPublicAccessBlock"),
        ("s3", "UploadPart"),
        ("ssm", "CancelCommand"),
        # What is left of the first one cannot be used and goes by itself.
        ("ec2-instance-connect", "SendSSHPublicKey"),
        ("s3", "CreateMultipartUpload"),
        ("sts", "AssumeRole"),
        # The second answer says that it is there or gone already, and the callers take that for success.
        ("ec2", "AuthorizeSecurityGroupIngress"),
        ("ec2", "CreatePlacementGroup"),
        ("ec2", "CreateSecurityGroup"),
        ("ec2", "DeletePlacementGroup"),
        ("ec2", "DeleteSecurityGroup"),
        ("ecr", "CreateRepository"),
        ("ecr", "DeleteRepository"),
        ("iam", "AddRoleToInstanceProfile"),
        ("iam", "CreateInstanceProfile"),
        ("iam", "CreateRole"),
        ("iam", "CreateServiceLinkedRole"),
        ("iam", "DeleteInstanceProfile"),
        ("iam", "DeleteRole"),
        ("iam", "DeleteRolePolicy"),
        ("iam", "DetachRolePolicy"),
        ("iam", "RemoveRoleFromInstanceProfile"),
        ("s3", "CreateBucket"),
        ("s3", "DeleteBucket"),
        ("ec2", "DeleteLaunchTemplate"),
        ("ec2", "DeleteSnapshot"),
    }
)
"""Operations without a client token that change something and may all the same be sent again, by service."""

LOOKED_UP = frozenset(
    {
        ("ec2", "AttachVolume"),
        ("ec2", "CreateSnapshot"),
        ("ec2", "DeleteVolume"),
        ("ec2", "DetachVolume"),
        ("ec2", "ModifyVolume"),
        ("ssm", "SendCommand"),
        ("ssm", "StartSession"),
    }
)
"""Operations that are never sent again before somebody has looked (see `carried_out`)."""


class Failure(Enum):
    """What is known of a request that has no good answer."""

    NOT_SENT = "not-sent"
    """No connection was made: nothing can have happened."""
    THROTTLED = "throttled"
    """AWS refused the request: nothing has happened."""
    UNANSWERED = "unanswered"
    """It was sent and nothing came in time: it may have been carried out, or still be."""
    LOST = "lost"
    """It was sent, and the connection or AWS broke: it may have been carried out."""
    REFUSED = "refused"
    """AWS answered no."""


def failure_of(exception: Exception | None, status: int, code: str) -> Failure:
    """What an exception of botocore's, or an answer of HTTP ``status`` with AWS's ``code``, says. Pure."""
    from botocore import exceptions as botocore

    if exception is not None:
        if isinstance(exception, botocore.EndpointConnectionError | botocore.ConnectTimeoutError):
            return Failure.NOT_SENT
        if isinstance(exception, botocore.ProxyConnectionError) or "CERTIFICATE_VERIFY" in str(exception):
            return Failure.NOT_SENT
        if isinstance(exception, botocore.ReadTimeoutError):
            return Failure.UNANSWERED
        return Failure.LOST
    if code in THROTTLED or status == 429:
        return Failure.THROTTLED
    return Failure.LOST if status >= 500 else Failure.REFUSED


def is_repeatable(service: str, operation: str, *, has_token: bool) -> bool:
    """Whether sending the request twice is the same as sending it once. Pure.

    ``has_token``: it carries a client token, by which AWS knows it again.
    """
    return has_token or operation.startswith(_READING) or (service, operation) in REPEATABLE


def carried_out(
    call: Callable[[], T], find_result: Callable[[], T | None], clock: Clock, *, times: int = 3
) -> T:
    """The answer of ``call``, which must not happen twice.

    When its outcome is not known, ``find_result`` says what it has made, or ``None`` for nothing; then it is called
    again unless it may still be under way. Raises `OutcomeUnknown` when nothing is seen of a request that may still be
    carried out, and what ``call`` and ``find_result`` raise.
    """
    for left in reversed(range(times)):
        try:
            return call()
        except OutcomeUnknown as error:
            for _ in attempts(clock, FIND_TIMEOUT, first=1.0):
                found = find_result()
                if found is not None:
                    return found
            if error.may_still_happen or not left:
                raise
    raise AssertionError


def watch(client: Any) -> None:
    """The client retries by this policy: botocore decides on what may be repeated only.

    From then on a call whose outcome is not known raises `OutcomeUnknown` instead of one of botocore's errors, when
    it must not be repeated.
    """
    service = client.meta.service_model.service_id.hyphenize()
    client.meta.events.register_first(f"needs-retry.{service}", _stop_retries)


def _stop_retries(
    *,
    response: Any = None,
    operation: Any = None,
    attempts: int = 1,
    caught_exception: Exception | None = None,
    **_: Any,
) -> None:
    """Raise where botocore would send the request again and must not."""
    answer = response[1] if response is not None else {}
    status = int(response[0].status_code) if response is not None else 0
    error = answer.get("Error", {})
    if caught_exception is None and status < 500:
        return
    failure = failure_of(caught_exception, status, str(error.get("Code", "")))
    if failure not in {Failure.UNANSWERED, Failure.LOST}:
        return
    service, name = operation.service_model.service_name, operation.name
    # botocore fills tokens in where the caller gave none.
    if is_repeatable(service, name, has_token=bool(operation.idempotent_members)):
        if failure is Failure.UNANSWERED and attempts >= MOST_UNANSWERED and caught_exception is not None:
            raise caught_exception
        return
    if caught_exception is not None and not _is_of_the_network(caught_exception):
        return
    said = str(caught_exception or f"{error.get('Message') or 'no reason'} (HTTP {status})")
    raise OutcomeUnknown(
        f"the answer to {name} was lost, and it may have been carried out: {said.rstrip('.')}",
        hint="check what exists now (runctl aws list, runctl aws ebs list) before you try again",
        may_still_happen=failure is Failure.UNANSWERED,
    ) from caught_exception


def _is_of_the_network(error: Exception) -> bool:
    from botocore import exceptions as botocore

    return isinstance(error, botocore.HTTPClientError | botocore.ConnectionError)
