"""Machines from the best of several pools: CreateFleet of the type instant, and the launch template that it needs.

Sources: CreateFleet, CreateFleetError and FleetLaunchTemplateOverridesRequest in the EC2 API reference. The template is
made for the call and deleted after it: an instant fleet does not need it any longer. The fleet itself is never deleted,
as that would end its instance; it holds nothing and costs nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from runctl._dataclasses import dataclass
from runctl.core import tags as tag
from runctl.core.errors import CapacityError, QuotaExceeded, RunctlError, Unsupported
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Market
from runctl.core.progress import Progress
from runctl.core.text import counted
from runctl.core.waiting import attempts
from runctl.providers.aws.calls.errors import NoCapacityInZone, classify, error_code, zones_named
from runctl.providers.aws.calls.idempotence import call_once
from runctl.providers.aws.calls.parse import tag_list
from runctl.providers.aws.context import AwsContext
from runctl.providers.capacity import Offer, Pool, Refusal, RefusalListener, RefusalReason, pools_text
from runctl.providers.first_boot import compressed
from runctl.providers.instance_plans import CreatePlan

TEMPLATE_PREFIX = "runctl-fleet-"
LEFT_BEHIND_AFTER = timedelta(hours=1)
"""A template lives for the seconds of one call; an older one was left by a command that was killed."""
PROFILE_TIMEOUT = timedelta(seconds=90)
"""How long a new instance profile may take until EC2 knows it."""
NO_ADDRESS = frozenset({"InsufficientFreeAddressesInSubnet", "InvalidSubnetID.NotFound"})
"""Refusals that another zone's subnet may not have."""


@dataclass(frozen=True)
class Outcome:
    """What CreateFleet answered."""

    instance_ids: tuple[InstanceId, ...]
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True)
class Batch:
    """How many machines one call is to launch."""

    least: int = 1
    """With fewer none is launched."""
    most: int = 1
    placement: str | None = None
    """The placement group of all of them."""


ONE = Batch()


def is_fleet(market: Market, offers: Sequence[Offer]) -> bool:
    """Whether the pools are asked by one fleet. Pure.

    For one type on demand EC2 chooses the zone by itself.
    """
    types = {offer.pool.instance_type for offer in offers}
    return len(offers) > 1 and (market is Market.SPOT or len(types) > 1)


def template_arguments(
    plan: CreatePlan, launch: Mapping[str, Any], tags: Mapping[str, str], placement: str | None = None
) -> dict[str, Any]:
    """What CreateLaunchTemplate is called with for a launch that RunInstances would be called with. Pure.

    Without the market, which is the fleet's to say, and without what differs from pool to pool.
    """
    left = {"MinCount", "MaxCount", "ClientToken", "InstanceType", "InstanceMarketOptions"}
    left |= {"SubnetId", "Placement", "TagSpecifications"}
    data = {name: value for name, value in launch.items() if name not in left}
    data["UserData"] = base64.b64encode(compressed(data["UserData"])).decode()
    if placement is not None:
        data["Placement"] = {"GroupName": placement}
    return {
        "LaunchTemplateName": TEMPLATE_PREFIX + plan.client_token,
        "LaunchTemplateData": data,
        "TagSpecifications": [{"ResourceType": "launch-template", "Tags": tag_list(tags)}],
    }


def fleet_arguments(
    plan: CreatePlan,
    offers: Sequence[Offer],
    template: str,
    launch: Mapping[str, Any],
    token: str,
    batch: Batch = ONE,
) -> dict[str, Any]:
    """What CreateFleet is called with. Pure.

    Type, market and strategy have defaults that buy again for ever, on demand and where it is cheapest today: all
    three are set. No price is bid. Several machines are of one type and in one zone, and fewer than the least are none.
    """
    capacity = {"TotalTargetCapacity": batch.most, "DefaultTargetCapacityType": plan.market.value}
    together: dict[str, Any] = {}
    if batch.most > 1:
        together = {
            "SingleInstanceType": True,
            "SingleAvailabilityZone": True,
            "MinTargetCapacity": batch.least,
        }
    options: dict[str, Any] = {"OnDemandOptions": {"AllocationStrategy": "lowest-price", **together}}
    if plan.market is Market.SPOT:
        options = {
            "SpotOptions": {
                "AllocationStrategy": "price-capacity-optimized",
                "InstanceInterruptionBehavior": "terminate",
                **together,
            }
        }
    # CreateFleet tags no spot request; a template that did would keep on-demand machines from launching.
    specifications = [item for item in launch["TagSpecifications"] if "spot" not in item["ResourceType"]]
    fleet = next(item["Tags"] for item in specifications if item["ResourceType"] == "volume")
    return {
        "Type": "instant",
        "ClientToken": token,
        "TargetCapacitySpecification": capacity,
        **options,
        "LaunchTemplateConfigs": [
            {
                "LaunchTemplateSpecification": {"LaunchTemplateId": template, "Version": "1"},
                "Overrides": [
                    {"InstanceType": offer.pool.instance_type, "SubnetId": offer.subnet} for offer in offers
                ],
            }
        ],
        "TagSpecifications": [*specifications, {"ResourceType": "fleet", "Tags": fleet}],
    }


def outcome_of(answer: Mapping[str, Any], offers: Sequence[Offer], market: Market) -> Outcome:
    """CreateFleet's answer: errors may come beside an instance, and no error at all without one. Pure."""
    pools = {(offer.pool.instance_type, offer.subnet): offer.pool for offer in offers}
    refusals = []
    for item in answer.get("Errors") or ():
        override = item.get("LaunchTemplateAndOverrides", {}).get("Overrides", {})
        kind = str(override.get("InstanceType", ""))
        pool = pools.get((kind, override.get("SubnetId"))) or Pool(
            kind, override.get("AvailabilityZone", "?")
        )
        refusals.append(refusal_of(pool, market, item.get("ErrorCode", ""), item.get("ErrorMessage", "")))
    launched = [found for group in answer.get("Instances") or () for found in group.get("InstanceIds", ())]
    return Outcome(tuple(map(InstanceId, launched)), tuple(refusals))


def refusal_of(pool: Pool, market: Market, code: str, message: str) -> Refusal:
    """What a pool's error calls for. Pure."""
    error = classify(code, message, "CreateFleet")
    if isinstance(error, QuotaExceeded):
        reason = RefusalReason.QUOTA
    elif code == "SpotMaxPriceTooLow":
        reason = RefusalReason.PRICE
    elif isinstance(error, CapacityError):
        reason = RefusalReason.NO_CAPACITY
    elif isinstance(error, Unsupported) or code in NO_ADDRESS:
        reason = RefusalReason.NOT_OFFERED
    else:
        reason = RefusalReason.WRONG
    return Refusal(pool, market, reason, code, message)


def nothing_available(
    market: Market, offers: Sequence[Offer], refusals: Sequence[Refusal], count: int = 1
) -> RunctlError:
    """The one error for pools that all gave nothing, with what each of them answered. Pure.

    Where any pool may have capacity later it is a `CapacityError`; where the quota alone is in the way
    `QuotaExceeded`; where the request itself is wrong, the error that EC2's code stands for.
    """
    reasons = {refusal.reason for refusal in refusals}
    what = f"no {market.value} machine was available"
    if count > 1:
        what = f"{count} {market.value} machines were not available in one zone, and none was kept"
    if len(offers) > 1:
        what += f" from {len(offers)} pools" if count == 1 else f"; {len(offers)} pools were asked"
    message = f"{what}: {_by_answer(offers, refusals)}"
    if not refusals or reasons & {RefusalReason.NO_CAPACITY, RefusalReason.PRICE}:
        tried = tuple(dict.fromkeys(offer.pool.zone for offer in offers))
        return NoCapacityInZone(message, zones=tried, hint=_capacity_hint(market, reasons))
    if RefusalReason.QUOTA in reasons:
        quota = next(refusal for refusal in refusals if refusal.reason is RefusalReason.QUOTA)
        return QuotaExceeded(message, hint=classify(quota.code, quota.message, "CreateFleet").hint)
    if reasons == {RefusalReason.NOT_OFFERED}:
        return Unsupported(message, hint="name other instance types, or allow other zones or another subnet")
    wrong = next(refusal for refusal in refusals if refusal.reason is RefusalReason.WRONG)
    error = classify(wrong.code, wrong.message, "CreateFleet")
    error.reword(message)
    return error


def _capacity_hint(market: Market, reasons: set[RefusalReason]) -> str:
    hints = ["try again later, or allow more types and zones: --instance-type may be repeated"]
    if market is Market.SPOT:
        hints.append(
            "--spot-fallback on-demand:after=20m rents on demand after twenty minutes without capacity"
        )
    if RefusalReason.QUOTA in reasons:
        hints.append("where it says quota, waiting does not help: ask for more, or name other types")
    if RefusalReason.WRONG in reasons:
        hints.append("what EC2 calls wrong is refused each time: leave those types out")
    return "; ".join(hints)


def _by_answer(offers: Sequence[Offer], refusals: Sequence[Refusal]) -> str:
    groups: dict[tuple[RefusalReason, str], list[Refusal]] = {}
    for refusal in refusals:
        groups.setdefault((refusal.reason, refusal.code), []).append(refusal)
    parts = []
    for (reason, code), found in groups.items():
        said = f" (EC2: {found[0].message.rstrip('.')})" if reason is not RefusalReason.NO_CAPACITY else ""
        parts.append(f"{_REASONS[reason]} [{code}] for {pools_text(item.pool for item in found)}{said}")
    answered = {refusal.pool for refusal in refusals}
    silent = [offer.pool for offer in offers if offer.pool not in answered]
    if silent:
        parts.append(f"EC2 gave no reason for {pools_text(silent)}")
    return "; ".join(parts)


_REASONS = {
    RefusalReason.NO_CAPACITY: "no capacity",
    RefusalReason.PRICE: "too low a price",
    RefusalReason.QUOTA: "the quota is reached",
    RefusalReason.NOT_OFFERED: "cannot be placed there",
    RefusalReason.WRONG: "refused",
}


def launch_from_pools(
    context: AwsContext,
    plan: CreatePlan,
    launch: Mapping[str, Any],
    find_result: Callable[[], tuple[InstanceId, ...]],
    progress: Progress,
    refused: RefusalListener,
    batch: Batch = ONE,
) -> tuple[InstanceId, ...]:
    """The machines exist, from the best pool that has them; pools to be asked last have a fleet of their own.

    Where a pool gave fewer than the least, they are ended. Raises what `nothing_available` has, and what
    CreateLaunchTemplate and CreateFleet raise.
    """
    refusals: list[Refusal] = []
    asked = counted(batch.most, f"{plan.market.value} machine")
    with _template(context, plan, launch, batch.placement) as template:
        for last in (False, True):
            offers = [offer for offer in plan.offers if offer.last is last]
            if not offers:
                continue
            progress.step(f"asking {counted(len(offers), 'pool')} for {asked}")
            outcome = _ask(context, plan, offers, (template, launch), find_result, progress, batch)
            for refusal in outcome.refusals:
                progress.detail(f"{refusal.pool}: {refusal.code}: {refusal.message}")
                refused(refusal)
            if len(outcome.instance_ids) >= batch.least:
                return outcome.instance_ids
            if outcome.instance_ids:
                progress.note(
                    f"{len(outcome.instance_ids)} of {batch.least} machines are not enough: ending them"
                )
                context.session.ec2.terminate_instances(InstanceIds=list(outcome.instance_ids))
            refusals += outcome.refusals
    raise nothing_available(plan.market, plan.offers, refusals, batch.least)


def _ask(
    context: AwsContext,
    plan: CreatePlan,
    offers: Sequence[Offer],
    what: tuple[str, Mapping[str, Any]],
    find_result: Callable[[], tuple[InstanceId, ...]],
    progress: Progress,
    batch: Batch,
) -> Outcome:
    """One fleet, and another one as long as EC2 does not know a new instance profile yet: each has its own token."""
    template, launch = what

    def found() -> Outcome | None:
        identifiers = find_result()
        return Outcome(identifiers, ()) if len(identifiers) >= batch.least else None

    suffix = "-last" if offers[0].last else ""
    for number, _ in enumerate(attempts(context.clock, PROFILE_TIMEOUT)):
        token = f"{plan.client_token}{suffix}{f'-{number}' if number else ''}"
        arguments = fleet_arguments(plan, offers, template, launch, token, batch)

        def call(arguments: dict[str, Any] = arguments) -> Outcome:
            return outcome_of(context.session.ec2.create_fleet(**arguments), offers, plan.market)

        outcome = call_once(call, found, context.clock)
        if outcome.instance_ids or not outcome.refusals:
            break
        if not all(is_about_profile(refusal.code, refusal.message) for refusal in outcome.refusals):
            break
        progress.update("EC2 does not know the new instance profile yet")
    return outcome


def is_about_profile(code: str, message: str) -> bool:
    """Whether EC2 says that it does not know an instance profile: it may be new. Pure."""
    return code == "InvalidParameterValue" and "nstance" in message and "rofile" in message


@contextmanager
def _template(
    context: AwsContext, plan: CreatePlan, launch: Mapping[str, Any], placement: str | None
) -> Iterator[str]:
    """A launch template for the time of the call. One that the same command left when it was killed is replaced."""
    ec2 = context.session.ec2
    tags = {
        key: value
        for key, value in plan.tags.items()
        if key not in {tag.MOUNTS, tag.READ_ONLY, tag.LOGIN_USER, tag.NAME}
    }
    arguments = template_arguments(plan, launch, tags, placement)
    name = arguments["LaunchTemplateName"]
    try:
        created = ec2.create_launch_template(**arguments)
    except Exception as error:
        if error_code(error) != "InvalidLaunchTemplateName.AlreadyExistsException":
            raise
        ec2.delete_launch_template(LaunchTemplateName=name)
        created = ec2.create_launch_template(**arguments)
    try:
        yield created["LaunchTemplate"]["LaunchTemplateId"]
    finally:
        delete_template(context, plan)
        _delete_old_templates(context)


def delete_template(context: AwsContext, plan: CreatePlan) -> None:
    """The plan's template is gone, if there was one. It costs nothing: a failure can wait."""
    with suppress(Exception):
        context.session.ec2.delete_launch_template(LaunchTemplateName=TEMPLATE_PREFIX + plan.client_token)


def _delete_old_templates(context: AwsContext) -> None:
    """What killed commands have left is gone."""
    ec2, oldest = context.session.ec2, context.clock.now() - LEFT_BEHIND_AFTER
    with suppress(Exception):
        pages = ec2.get_paginator("describe_launch_templates").paginate(
            Filters=[{"Name": f"tag:{tag.OWNED}", "Values": [tag.OWNED_VALUE]}]
        )
        for template in (item for page in pages for item in page["LaunchTemplates"]):
            other = template["LaunchTemplateName"]
            if other.startswith(TEMPLATE_PREFIX) and template["CreateTime"] < oldest:
                ec2.delete_launch_template(LaunchTemplateName=other)


def zones_to_try(message: str, offers: Sequence[Offer], tried: Collection[str]) -> list[Offer]:
    """The offers of zones that were not tried, those first that EC2's message names as having capacity. Pure."""
    named = zones_named(message)
    left = [offer for offer in offers if offer.pool.zone not in tried]
    return sorted(
        left, key=lambda each: named.index(each.pool.zone) if each.pool.zone in named else len(named)
    )
