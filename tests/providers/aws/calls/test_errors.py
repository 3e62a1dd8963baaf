"""Every error of AWS's that users meet becomes one of ours, with what to do next."""

from __future__ import annotations

import pytest

from runctl.core.errors import (
    CapacityError,
    Conflict,
    CredentialsError,
    NotFound,
    PermissionDenied,
    ProviderError,
    QuotaExceeded,
    RunctlError,
    Unreachable,
    Unsupported,
    ZoneMismatch,
)
from runctl.providers.aws.calls.errors import NoCapacityInZone, NotOffered, classify, our_errors, zones_named

CAPACITY = (
    "We currently do not have sufficient p4d.24xlarge capacity in the Availability Zone you requested (us-east-1a)."
    " You can currently get p4d.24xlarge capacity by not specifying an Availability Zone in your request or choosing"
    " us-east-1b, us-east-1d."
)


@pytest.mark.parametrize(
    ("code", "kind", "our_code", "exit_code"),
    [
        ("InsufficientInstanceCapacity", CapacityError, "no-capacity", 6),
        ("SpotMaxPriceTooLow", CapacityError, "no-capacity", 6),
        ("MaxSpotInstanceCountExceeded", QuotaExceeded, "quota", 6),
        ("VcpuLimitExceeded", QuotaExceeded, "quota", 6),
        ("VolumeLimitExceeded", QuotaExceeded, "quota", 6),
        ("UnauthorizedOperation", PermissionDenied, "permission", 4),
        ("AccessDeniedException", PermissionDenied, "permission", 4),
        ("AuthFailure.ServiceLinkedRoleCreationNotPermitted", PermissionDenied, "permission", 4),
        ("AuthFailure", CredentialsError, "credentials", 4),
        ("InvalidClientTokenId", CredentialsError, "credentials", 4),
        ("ExpiredToken", CredentialsError, "expired-credentials", 4),
        ("RequestExpired", CredentialsError, "expired-credentials", 4),
        ("InvalidInstanceID.NotFound", NotFound, "not-found", 5),
        ("InvalidKeyPair.NotFound", NotFound, "not-found", 5),
        ("InvalidAMIID.Malformed", NotFound, "not-found", 5),
        ("NoSuchEntity", NotFound, "not-found", 5),
        ("ParameterNotFound", NotFound, "not-found", 5),
        ("InvalidVolume.ZoneMismatch", ZoneMismatch, "zone-mismatch", 1),
        ("VolumeInUse", Conflict, "conflict", 1),
        ("IncorrectState", Conflict, "conflict", 1),
        ("IdempotentParameterMismatch", Conflict, "conflict", 1),
        ("OperationNotPermitted", Conflict, "protected", 1),
        ("Unsupported", Unsupported, "unsupported", 1),
        ("RequestLimitExceeded", ProviderError, "throttled", 1),
        ("InternalError", Unreachable, "unreachable", 7),
        ("SomethingNew", ProviderError, "provider", 1),
    ],
)
def test_a_code_has_its_class_and_exit_code(
    code: str, kind: type[RunctlError], our_code: str, exit_code: int
) -> None:
    error = classify(code, "what AWS said.", "RunInstances")

    assert type(error) is kind or isinstance(error, kind)
    assert (error.code, error.exit_code) == (our_code, exit_code)
    assert "what AWS said" in error.message + error.hint
    assert error.hint or type(error) is ProviderError


def test_the_zones_of_a_capacity_error_are_kept_and_the_next_one_is_proposed() -> None:
    error = classify("InsufficientInstanceCapacity", CAPACITY, "RunInstances")

    assert isinstance(error, NoCapacityInZone)
    assert error.zones == ("us-east-1a", "us-east-1b", "us-east-1d")
    assert "--zone us-east-1b" in error.hint


def test_a_type_that_a_zone_does_not_have_names_the_zones_that_have_it() -> None:
    message = (
        "Your requested instance type (p5.48xlarge) is not supported in your requested Availability Zone (eu-west-1b)."
        " Please retry your request by not specifying an Availability Zone or choosing eu-west-1a."
    )

    error = classify("Unsupported", message, "RunInstances")

    assert isinstance(error, NotOffered)
    assert error.zones == ("eu-west-1b", "eu-west-1a")


def test_zones_of_every_partition_are_read() -> None:
    text = "us-gov-west-1a cn-north-1b ap-southeast-2c and us-east-1 (no zone) and us-east-1a us-east-1a"

    assert zones_named(text) == ("us-gov-west-1a", "cn-north-1b", "ap-southeast-2c", "us-east-1a")


def test_an_encoded_refusal_comes_with_the_command_that_decodes_it() -> None:
    message = "You are not authorized. Encoded authorization failure message: AbC-123_x"

    error = classify("UnauthorizedOperation", message, "RunInstances")

    assert "RunInstances" in error.message
    assert "AbC-123_x" not in error.message
    assert "aws sts decode-authorization-message --encoded-message AbC-123_x" in error.hint


def test_what_is_no_failure_of_aws_is_not_dressed_up_as_one() -> None:
    with pytest.raises(ZeroDivisionError), our_errors():
        raise ZeroDivisionError


def test_an_error_of_ours_passes_through_unchanged() -> None:
    ours = NotFound("no such thing")

    with pytest.raises(NotFound) as caught, our_errors():
        raise ours

    assert caught.value is ours
