"""What ``doctor`` looks at in an account besides whether it may be used: its clock, quotas, role and bucket."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

from runctl.core.clock import SystemClock
from runctl.core.machine_models import Market
from runctl.core.progress import SILENT
from runctl.providers.abilities.account import SetupPart, SetupState
from runctl.providers.aws.account.bucket import RunsBucket
from runctl.providers.aws.account.profile import MachineProfile
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ec2.images import describe_instance_types
from runctl.providers.aws.ec2.quotas import limit_of, quota_of, used_of
from runctl.providers.aws.staging import S3Staging
from runctl.providers.interface import Check, DoctorStatus

SKEW_NOTICED, SKEW_REFUSED = timedelta(seconds=30), timedelta(minutes=5)
"""AWS refuses requests that are signed more than five minutes off ("Elements of an AWS API request signature")."""
SETUP = "runctl aws setup"


def clock_check(context: AwsContext) -> Check:
    """How far this computer's clock is from AWS's."""
    answer = context.session.sts.get_caller_identity()
    said = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    if not said:
        return Check("aws: clock", DoctorStatus.SKIPPED, "AWS has not said what time it is")
    return compare_clocks(SystemClock().now(), parsedate_to_datetime(said), sys.platform)


def compare_clocks(here: datetime, there: datetime, platform: str) -> Check:
    """Pure."""
    skew = here - there
    seconds = abs(skew.total_seconds())
    if seconds <= SKEW_NOTICED.total_seconds():
        return Check("aws: clock", DoctorStatus.OK, f"{seconds:.0f} s from AWS's")
    status = DoctorStatus.WARNING if seconds < SKEW_REFUSED.total_seconds() else DoctorStatus.FAILED
    fix = "sudo sntp -sS time.apple.com" if platform == "darwin" else "sudo timedatectl set-ntp true"
    which = "ahead of" if skew > timedelta(0) else "behind"
    return Check(
        "aws: clock",
        status,
        f"this computer's clock is {seconds:.0f} s {which} AWS's, which refuses requests from 300 s on",
        fix,
    )


def quota_check(context: AwsContext) -> Check:
    """Whether the account may have one more machine of the configured type, in each market."""
    session, name = context.session, context.instance_type
    vcpus = describe_instance_types(session, [name])[0].vcpus
    used = used_of(session)
    told, short = [], []
    for market in (Market.ON_DEMAND, Market.SPOT):
        quota = quota_of(name, market)
        limit = None if quota is None else limit_of(session, quota, SILENT)
        if quota is None or limit is None:
            continue
        free = max(limit - used.get(quota, 0), 0)
        told.append(f"{market.value}: {free} of {limit} vCPUs free")
        if vcpus > free:
            short.append((quota, limit + vcpus))
    if not told:
        return Check(
            "aws: quotas",
            DoctorStatus.SKIPPED,
            f"the quotas of {name} cannot be looked up; EC2 enforces them in any case",
            "allow servicequotas:GetServiceQuota: runctl aws iam-policy",
        )
    if not short:
        return Check("aws: quotas", DoctorStatus.OK, f"{name} needs {vcpus}; {', '.join(told)}")
    quota, wanted = short[0]
    return Check(
        "aws: quotas",
        DoctorStatus.FAILED if len(short) == len(told) else DoctorStatus.WARNING,
        f"{name} needs {vcpus} vCPUs; {', '.join(told)}",
        "aws service-quotas request-service-quota-increase --service-code ec2"
        f" --quota-code {quota.code} --desired-value {wanted} --region {session.region}",
    )


def profile_check(context: AwsContext) -> Check:
    """runctl's own role and profile, which the first launch makes."""
    return _of_part(MachineProfile(context).inspect(), "aws: instance profile", "the first launch creates it")


def bucket_check(context: AwsContext) -> Check:
    """The bucket that is configured for passing files on, or runctl's own for runs."""
    configured = context.settings.staging_bucket
    if configured:
        name = S3Staging(context.session, configured).bucket()
        return Check("aws: bucket", DoctorStatus.OK, name)
    return _of_part(RunsBucket(context).inspect(), "aws: bucket", f"not there; {SETUP} creates it")


def _of_part(part: SetupPart, name: str, missing: str) -> Check:
    match part.state:
        case SetupState.READY:
            return Check(name, DoctorStatus.OK, part.name)
        case SetupState.MISSING:
            return Check(name, DoctorStatus.OK, f"{part.name}: {missing}")
        case SetupState.NOT_OURS:
            return Check(
                name,
                DoctorStatus.WARNING,
                f"{part.name}: {part.detail}",
                "rename it, or delete it if you may",
            )
        case _:
            return Check(name, DoctorStatus.WARNING, f"{part.name}: {part.detail}", SETUP)
