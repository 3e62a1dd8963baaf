"""AWS's errors in our words: one table from error codes to our tree, each with a hint."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

from runctl.core.errors import (
    ASKED_TOO_OFTEN,
    CapacityError,
    ConfigError,
    Conflict,
    CredentialsError,
    NotFound,
    PermissionDenied,
    ProviderError,
    QuotaExceeded,
    RunctlError,
    Unreachable,
    Unsupported,
    UsageError,
    ZoneMismatch,
)
from runctl.providers.aws.calls.answers import proxy_for

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

AUTH = {
    "AuthFailure",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "InvalidToken",
    "MissingAuthenticationToken",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
PERMISSION = {
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "NotAuthorized",
    "OptInRequired",
    "UnauthorizedException",
    "UnauthorizedOperation",
}
CAPACITY = {
    "InsufficientCapacity",
    "InsufficientHostCapacity",
    "InsufficientInstanceCapacity",
    "InsufficientReservedInstanceCapacity",
    "InsufficientVolumeCapacity",
    "SpotMaxPriceTooLow",
    "UnfulfillableCapacity",
}
QUOTA = {
    "InstanceLimitExceeded",
    "LimitExceeded",
    "LimitExceededException",
    "MaxIOPSLimitExceeded",
    "MaxSpotInstanceCountExceeded",
    "ResourceLimitExceeded",
    "ServiceQuotaExceededException",
    "TooManyBuckets",
    "VcpuLimitExceeded",
    "VolumeLimitExceeded",
}
NOT_FOUND = {
    "InvalidAMIID.Malformed",
    "InvalidAMIID.Unavailable",
    "InvalidGroupId.Malformed",
    "InvalidInstanceID.Malformed",
    "InvalidInstanceType",
    "InvalidParameterValue.InstanceType",
    "InvalidVolumeID.Malformed",
    "NoSuchBucket",
    "NoSuchEntity",
    "NoSuchKey",
    "NoSuchUpload",
    "ParameterNotFound",
}
CONFLICT = {
    "AlreadyExists",
    "BucketAlreadyExists",
    "BucketAlreadyOwnedByYou",
    "DeleteConflict",
    "DependencyViolation",
    "EntityAlreadyExists",
    "IncorrectInstanceState",
    "IncorrectState",
    "ResourceContention",
    "ResourceInUse",
    "ScalingActivityInProgress",
    "VolumeInUse",
}
THROTTLED = {
    "EC2ThrottledException",
    "RequestLimitExceeded",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
UNAVAILABLE = {
    "InternalError",
    "InternalFailure",
    "InternalServerError",
    "RequestTimeout",
    "ServiceUnavailable",
    "Unavailable",
}
_ZONE = re.compile(r"\b[a-z]{2,}(?:-[a-z]+)+-\d[a-z]\b")
_ENCODED = re.compile(r"Encoded authorization failure message: (\S+)")
_VOLUME = re.compile(r"\bvol-[0-9a-f]+\b")
_READING = "runctl.providers.aws.calls.parse"
_AWS_KEY = re.compile(r"[A-Z][A-Za-z0-9]+")


class NoCapacityInZone(CapacityError):
    """AWS has no such machine now; knows the zones that the message named."""

    def __init__(self, message: str, *, zones: tuple[str, ...], hint: str, code: str | None = None) -> None:
        super().__init__(message, hint=hint, code=code)
        self.zones = zones
        """As AWS named them: first the one that failed, then those worth a try; empty when it named none."""


class NotOffered(Unsupported):
    """The type does not exist in that zone; knows the zones where it does."""

    code = "not-offered"

    def __init__(self, message: str, *, zones: tuple[str, ...], hint: str) -> None:
        super().__init__(message, hint=hint)
        self.zones = zones


def zones_named(message: str) -> tuple[str, ...]:
    """The availability zones that an error message names, in its order, each once."""
    return tuple(dict.fromkeys(_ZONE.findall(message)))


def classify(code: str, message: str, operation: str) -> RunctlError:
    """Our error for AWS's ``code`` and ``message`` of a refused ``operation``. Pure."""
    said = f"{message.rstrip('.')} ({code})"
    if code in EXPIRED:
        return CredentialsError(
            f"the AWS session has expired: {said}",
            hint="sign in again: aws sso login, or fetch new temporary keys",
            code="expired-credentials",
        )
    if code in AUTH:
        return CredentialsError(
            f"AWS does not accept the credentials: {said}",
            hint="check who you are with `aws sts get-caller-identity`, the keys with `aws configure`"
            " (--profile chooses another), and that this computer's clock is right",
        )
    if code == "AuthFailure.ServiceLinkedRoleCreationNotPermitted":
        return PermissionDenied(
            f"not allowed to create the service role that spot instances need: {said}",
            hint="have an administrator do it once: aws iam create-service-linked-role"
            " --aws-service-name spot.amazonaws.com",
        )
    if code in PERMISSION:
        return _permission(code, message, operation)
    if code in CAPACITY or code == "Unsupported":
        return _capacity(code, said, message)
    if code in QUOTA:
        return _quota(code, said, operation)
    if code == "InvalidVolume.ZoneMismatch":
        named = _VOLUME.search(message)
        return ZoneMismatch(
            named.group() if named else "(which AWS did not name)",
            "one zone",
            "another",
            hint=f"volumes cannot leave their zone; AWS said: {said}",
        )
    if code in NOT_FOUND or code.endswith((".NotFound", "NotFoundException")):
        return NotFound(said, hint="check the name and the region (--region)")
    return _otherwise(code, said, operation)


def _otherwise(code: str, said: str, operation: str) -> RunctlError:
    if code == "IdempotentParameterMismatch":
        return Conflict(
            f"this plan was carried out before, with other settings: {said}",
            hint="make a new plan; `runctl aws list` shows what the first one created",
        )
    if code == "OperationNotPermitted":
        return Conflict(
            said, hint="it may be protected from termination in the AWS console", code="protected"
        )
    if code in CONFLICT or code.endswith((".Duplicate", ".InUse")):
        return Conflict(said, hint="check its state, wait until it is free, and try again")
    if code in THROTTLED:
        return ProviderError(
            f"AWS is throttling this account, even after several retries: {said}",
            hint="wait a minute and try again; other tools in the account may be calling AWS too often",
            code=ASKED_TOO_OFTEN,
        )
    if code in UNAVAILABLE:
        return Unreachable(
            f"AWS could not answer {operation}: {said}",
            hint="try again in a minute; https://health.aws.amazon.com shows known problems",
        )
    return ProviderError(f"AWS refused {operation}: {said}")


def _permission(code: str, message: str, operation: str) -> RunctlError:
    encoded = _ENCODED.search(message)
    shown = _ENCODED.sub("", message).strip().rstrip(".")
    action = (
        f"ask for permission to {operation} (runctl aws iam-policy), or choose another profile (--profile)"
    )
    if code == "OptInRequired":
        action = "sign up for the service, or for the AMI's product, in the AWS console"
    if encoded:
        decode = f"aws sts decode-authorization-message --encoded-message {encoded.group(1)}"
        action += f"; what exactly is missing: {decode}"
    return PermissionDenied(f"not allowed to {operation}: {shown} ({code})", hint=action)


def _capacity(code: str, said: str, message: str) -> RunctlError:
    zones = zones_named(message)
    if code == "Unsupported":
        if not zones:
            return Unsupported(said, hint="choose another instance type, image or zone")
        elsewhere = f"--zone {zones[1]}" if len(zones) > 1 else "another zone or instance type"
        return NotOffered(said, zones=zones, hint=f"try {elsewhere}")
    hint = "try again later, another instance type, or on demand instead of spot"
    if len(zones) > 1:
        hint = f"try --zone {zones[1]}, or {hint}"
    elif zones:
        hint = f"try another zone than {zones[0]}, or {hint}"
    return NoCapacityInZone(said, zones=zones, hint=hint)


def _quota(code: str, said: str, operation: str) -> RunctlError:
    spot = " (All … Spot Instance Requests)" if "Spot" in code else ""
    service = "ec2" if operation.startswith(("RunInstances", "CreateFleet")) else "ebs"
    return QuotaExceeded(
        said,
        hint=f"end what you do not need, or ask for more{spot}: https://console.aws.amazon.com/servicequotas/home/"
        f"services/{service}/quotas",
    )


def error_code(error: Exception) -> str:
    """The code of botocore's ``ClientError``, such as ``InvalidInstanceID.NotFound``; empty for other exceptions."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def error_message(error: Exception) -> str:
    """AWS's own words in botocore's ``ClientError``; the text of other exceptions."""
    response = getattr(error, "response", None)
    said = response.get("Error", {}).get("Message") if isinstance(response, dict) else None
    return str(said or error)


def refused_by_aws(error: RunctlError) -> bool:
    """Whether it was AWS that refused, and not a machine."""
    return type(error.__cause__).__module__.startswith("botocore")


def from_botocore(error: Exception, endpoint: str | None) -> RunctlError | None:
    """Our error for one of botocore's; ``None`` for what is not an AWS failure (a bug, most likely)."""
    from botocore import exceptions as botocore

    if isinstance(error, botocore.ClientError):
        message = str(error.response.get("Error", {}).get("Message", "")) or str(error)
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        code = {"403": "AccessDenied", "404": "NoSuchKey", "503": "ServiceUnavailable"}.get(
            error_code(error), error_code(error)
        )
        return classify(code or f"HTTP {status}", message, error.operation_name)
    if isinstance(error, botocore.ProfileNotFound):
        return ConfigError(f"{error}", hint="`aws configure list-profiles` shows them; choose with --profile")
    if isinstance(error, botocore.NoRegionError):
        return no_region()
    if isinstance(
        error,
        botocore.NoCredentialsError
        | botocore.PartialCredentialsError
        | botocore.CredentialRetrievalError
        | botocore.NoAuthTokenError
        | botocore.TokenRetrievalError
        | botocore.SSOError
        | botocore.UnauthorizedSSOTokenError,
    ):
        return CredentialsError(
            f"no AWS credentials: {str(error).rstrip('.')}",
            hint="`aws configure` or `aws sso login`, or set AWS_PROFILE; without an AWS account:"
            ' `runctl sandbox start`, then `eval "$(runctl sandbox env)"`',
        )
    if isinstance(error, botocore.HTTPClientError | botocore.ConnectionError):
        url = endpoint or str(error.kwargs.get("endpoint_url") or "")
        if url:
            return not_answering(url, str(error), stand_in=endpoint is not None)
        return Unreachable(f"AWS does not answer: {error}", hint="check the network, and the region's name")
    if isinstance(error, botocore.ParamValidationError):
        return UsageError(f"this call breaks AWS's rules: {error}")
    if isinstance(error, botocore.BotoCoreError) or type(error).__module__.startswith(
        ("botocore.", "s3transfer.")
    ):
        return ProviderError(f"{error}")
    if _is_of_a_parser(error) or _is_missing_from_an_answer(error):
        return UnexpectedAnswer(endpoint, error)
    return None


class UnexpectedAnswer(ProviderError):
    """What answered in AWS's name left out what AWS always says, or said it in another form."""

    code = "unexpected-answer"

    def __init__(self, endpoint: str | None, error: Exception) -> None:
        missing = (
            f"nothing called {error}" if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"
        )
        super().__init__(
            f"{endpoint or 'AWS'} answered in a form that cannot be understood: {missing}",
            hint="check for a proxy in between, and that AWS_ENDPOINT_URL names an AWS endpoint",
        )


def _is_of_a_parser(error: Exception) -> bool:
    """Whether botocore's code raised it, or ours that reads answers: what they were given was not AWS's."""
    trace, modules = error.__traceback__, []
    while trace is not None:
        modules.append(str(trace.tb_frame.f_globals.get("__name__", "")))
        trace = trace.tb_next
    return bool(modules) and (modules[-1].startswith("botocore.") or _READING in modules)


def _is_missing_from_an_answer(error: Exception) -> bool:
    """Whether a key of an answer's was not there: AWS's names begin with capitals, and none of ours do."""
    return isinstance(error, KeyError) and bool(error.args) and bool(_AWS_KEY.fullmatch(str(error.args[0])))


def no_region() -> ConfigError:
    """The error for a region that nothing names."""
    return ConfigError(
        "no AWS region is set",
        hint="--region us-east-1, or `runctl config set aws.region us-east-1`, or AWS_REGION",
    )


def not_answering(endpoint: str, reason: str, *, stand_in: bool = True) -> Unreachable:
    """The error for an address at which nobody answers: AWS's own, or that of a ``stand_in``, such as the sandbox."""
    proxy = proxy_for(endpoint)
    if proxy is not None:
        return Unreachable(
            f"{endpoint} does not answer through the proxy {proxy}: {reason}",
            hint=f"check the proxy (HTTP_PROXY, HTTPS_PROXY); NO_PROXY={urlsplit(endpoint).hostname} bypasses it",
        )
    return Unreachable(
        f"{endpoint} does not answer: {reason}",
        hint='is the sandbox running? `runctl sandbox start`, then `eval "$(runctl sandbox env)"`; to use AWS:'
        ' `eval "$(runctl sandbox env --unset)"`'
        if stand_in
        else "check the network, and the region's name (--region)",
    )


@contextmanager
def our_errors(endpoint: str | None = None) -> Iterator[None]:
    """What botocore raises inside comes out as one of our errors."""
    try:
        yield
    except RunctlError:
        raise
    except Exception as error:
        ours = from_botocore(error, endpoint)
        if ours is None:
            raise
        raise ours from error


def raising_our_errors(kind: type[T]) -> type[T]:
    """A class with ``_context``, whose public methods raise our errors only."""
    for name, method in vars(kind).copy().items():
        if inspect.isfunction(method) and not name.startswith("_"):
            setattr(kind, name, _translated(method))
    return kind


def _translated(method: Callable[P, R]) -> Callable[P, R]:
    @functools.wraps(method)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        owner: Any = args[0]
        with our_errors(owner._context.session.endpoint):
            return method(*args, **kwargs)

    return wrapper
