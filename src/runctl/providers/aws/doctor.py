"""What works with AWS, what is missing, and the exact fix."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

from runctl.core.errors import NotFound, PermissionDenied, RunctlError
from runctl.costs.rates import Rate
from runctl.providers.aws.account.checks import bucket_check, clock_check, profile_check, quota_check
from runctl.providers.aws.calls.errors import error_code, our_errors
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ec2 import images, network
from runctl.providers.aws.iam.machine_role import ProfileState, profile_state
from runctl.providers.aws.iam.roles import DEFAULT_PROFILE
from runctl.providers.interface import Check, DoctorStatus
from runctl.transport.ssh_programs import missing_program

PLUGIN_GUIDE = (
    "https://docs.aws.amazon.com/systems-manager/latest/userguide/"
    "session-manager-working-with-install-plugin.html"
)

ALLOW = "runctl aws iam-policy prints what to allow: have an administrator attach it"
REPEAT = "try again in a minute; https://health.aws.amazon.com shows known problems"


def doctor(context: AwsContext) -> tuple[Check, ...]:
    """See `Provider.doctor`. What needs an account is skipped when nobody can say who we are."""
    checks = list(_programs())
    region = _guarded("aws: region", lambda: Check("aws: region", DoctorStatus.OK, context.session.region))
    checks.append(region)
    if region.status is not DoctorStatus.OK:
        return (
            *checks,
            Check("aws: account", DoctorStatus.SKIPPED, "nothing can be checked without a region"),
        )
    account = _guarded("aws: credentials", lambda: _credentials(context))
    checks.append(account)
    if account.status is not DoctorStatus.OK:
        return (
            *checks,
            Check("aws: permissions", DoctorStatus.SKIPPED, "nothing can be checked without credentials"),
        )
    named: list[tuple[str, Callable[[], Check]]] = [
        ("aws: network", lambda: _network(context)),
        ("aws: launching", lambda: _launching(context)),
        ("aws: volumes", lambda: _volumes(context)),
        ("aws: systems manager", lambda: _systems_manager(context)),
        ("aws: clock", lambda: clock_check(context)),
        ("aws: quotas", lambda: quota_check(context)),
        ("aws: instance profile", lambda: _profile(context)),
        ("aws: bucket", lambda: bucket_check(context)),
        ("aws: prices", lambda: _prices(context)),
    ]
    return (*checks, *(_guarded(name, check) for name, check in named))


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        with our_errors():
            return check()
    except PermissionDenied as error:
        fix = f"{error.hint}; {ALLOW}" if error.hint else ALLOW
        return Check(name, DoctorStatus.FAILED, error.message, fix)
    except RunctlError as error:
        return Check(name, DoctorStatus.FAILED, error.message, error.hint or REPEAT)
    except Exception as error:  # noqa: BLE001 (a doctor reports what it meets)
        return Check(name, DoctorStatus.FAILED, f"{type(error).__name__}: {error}", REPEAT)


def _programs() -> Iterator[Check]:
    missing = missing_program(None)
    yield Check(
        "aws: ssh",
        DoctorStatus.WARNING if missing else DoctorStatus.OK,
        f"{missing} is not installed: machines are reached through Systems Manager only"
        if missing
        else shutil.which("ssh") or "",
        "install OpenSSH's client (apt-get install openssh-client)" if missing else "",
    )
    plugin = shutil.which("session-manager-plugin")
    yield Check(
        "aws: session manager plug-in",
        DoctorStatus.OK if plugin else DoctorStatus.WARNING,
        plugin or "not installed: `aws ssh` needs an open port 22; everything else works",
        "" if plugin else f"install it: {PLUGIN_GUIDE}",
    )


def _credentials(context: AwsContext) -> Check:
    identity = context.session.identity
    where = f" at {context.session.endpoint}" if context.session.endpoint else ""
    return Check("aws: credentials", DoctorStatus.OK, f"{identity.arn}{where}")


def _network(context: AwsContext) -> Check:
    configured = context.settings.subnet
    if configured:
        found = network.subnet(context.session, configured)
        return Check("aws: network", DoctorStatus.OK, f"{found.id} in {found.zone}, {found.vpc}")
    subnets = network.default_subnets(context.session)
    if not subnets:
        return Check(
            "aws: network",
            DoctorStatus.FAILED,
            f"{context.session.region} has no default VPC",
            fix="aws ec2 create-default-vpc, or runctl config set aws.subnet subnet-…",
        )
    zones = ", ".join(subnet.zone for subnet in subnets)
    return Check("aws: network", DoctorStatus.OK, f"default VPC {subnets[0].vpc} with subnets in {zones}")


def _launching(context: AwsContext) -> Check:
    aws, session = context.settings, context.session
    type_name = context.instance_type
    image = images.find_image(session, images.describe_instance_types(session, [type_name])[0], aws.ami_id)
    arguments: dict[str, Any] = {"ImageId": image.id, "InstanceType": type_name, "MinCount": 1, "MaxCount": 1}
    if aws.subnet:
        arguments["SubnetId"] = aws.subnet
    return _dry_run(
        "aws: launching",
        f"may launch {type_name}",
        lambda: session.ec2.run_instances(**arguments, DryRun=True),
    )


def _volumes(context: AwsContext) -> Check:
    subnets = network.default_subnets(context.session)
    zone = subnets[0].zone if subnets else f"{context.session.region}a"
    return _dry_run(
        "aws: volumes",
        "may create volumes",
        lambda: context.session.ec2.create_volume(
            AvailabilityZone=zone, Size=1, VolumeType="gp3", DryRun=True
        ),
    )


def _dry_run(name: str, allowed: str, call: Callable[[], Any]) -> Check:
    try:
        call()
    except Exception as error:
        if error_code(error) != "DryRunOperation":
            raise
    return Check(name, DoctorStatus.OK, allowed)


def _systems_manager(context: AwsContext) -> Check:
    answer = context.session.ssm.describe_instance_information(MaxResults=5)
    seen = len(answer["InstanceInformationList"])
    return Check(
        "aws: systems manager", DoctorStatus.OK, f"available; {'some' if seen else 'no'} machines online"
    )


def _profile(context: AwsContext) -> Check:
    name = context.settings.instance_profile or DEFAULT_PROFILE
    state = profile_state(context.session, name)
    if not context.settings.instance_profile and state is not ProfileState.UNKNOWN:
        return profile_check(context)
    if state is ProfileState.READY:
        return Check("aws: instance profile", DoctorStatus.OK, name)
    if state is ProfileState.UNKNOWN:
        return Check(
            "aws: instance profile",
            DoctorStatus.WARNING,
            f"cannot check {name}: no permission for iam:GetInstanceProfile",
            fix="have an administrator create a profile with AmazonSSMManagedInstanceCore, then"
            " runctl config set aws.instance_profile NAME",
        )
    raise NotFound(
        f"instance profile {name!r} does not exist", hint="aws iam list-instance-profiles shows them"
    )


def _age(context: AwsContext, price: Rate) -> str:
    days = max(0, (context.clock.now() - price.as_of).days)
    return "of today" if days == 0 else f"{days} days old"


def _prices(context: AwsContext) -> Check:
    type_name = context.instance_type
    on_demand, spot = context.prices.on_demand(type_name), context.prices.spot(type_name, None)
    known = [
        f"{kind} {price.source}, {_age(context, price)}"
        for kind, price in (("on-demand:", on_demand), ("spot:", spot))
        if price
    ]
    current = all(price is not None and price.current for price in (on_demand, spot))
    return Check(
        "aws: prices",
        DoctorStatus.OK if current else DoctorStatus.WARNING,
        "; ".join(known) or f"no price is known for {type_name}",
        "" if current else "allow pricing:GetProducts and ec2:DescribeSpotPriceHistory for current prices",
    )
