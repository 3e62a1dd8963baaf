"""Fleets of the type ``instant``: one call that launches from the best of several pools and names what failed.

Sources: the CreateFleet, DescribeFleets and DeleteFleets pages of the EC2 API reference, and the EC2 user guide's
"Allocation strategies". Each instance is launched by RunInstances with the template and the override put together, so
that whatever is true of a launch is true here, rights and refusals included.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError, MissingParameter
from moto.ec2.models.fleets import Fleet, FleetsBackend
from moto.ec2.responses.fleets import Fleets
from moto.ec2.utils import convert_tag_spec, random_fleet_id

from runctl.sandbox.ec2.fleet_pools import Pool, pools, refuse_duplicates
from runctl.sandbox.prices.price_list import price_rows
from runctl.sandbox.prices.spot_prices import spot_price
from runctl.sandbox.world import current

MARKETS = ("spot", "on-demand")
SPOT_STRATEGIES = (
    "price-capacity-optimized",
    "capacity-optimized",
    "capacity-optimized-prioritized",
    "lowest-price",
    "diversified",
)
ON_DEMAND_STRATEGIES = ("lowest-price", "prioritized")
TAGGED = frozenset({"fleet", "instance", "volume", "network-interface"})
_OPTIONS = {"spot": "SpotOptions", "on-demand": "OnDemandOptions"}
_TOGETHER = ("SingleInstanceType", "SingleAvailabilityZone")
_UNSUPPORTED = {"SpotOptions": ("MaintenanceStrategies",), "OnDemandOptions": ("CapacityReservationOptions",)}
"""What AWS can and this sandbox cannot: refused, not ignored."""


@dataclass
class Outcome:
    """What became of a fleet's launches."""

    launched: list[tuple[Pool, str, str]] = field(default_factory=list)
    """Pool, market and instance id."""
    errors: list[dict[str, Any]] = field(default_factory=list)


class InstantFleet(Fleet):
    """What DescribeFleets shows of one; its instances are launched elsewhere."""

    def __init__(self, backend: Any, request: Mapping[str, Any], outcome: Outcome) -> None:
        # moto's own would launch them.
        self.ec2_backend = backend
        self.id = random_fleet_id()
        self.fleet_type = "instant"
        self.state = "active"
        self.launch_template_configs = request["LaunchTemplateConfigs"]
        self.spot_options = request.get("SpotOptions", {})
        self.on_demand_options = request.get("OnDemandOptions", {})
        self.target_capacity_specification = request["TargetCapacitySpecification"]
        self.target_capacity = int(self.target_capacity_specification["TotalTargetCapacity"])
        self.excess_capacity_termination_policy = "termination"
        self.replace_unhealthy_instances = False
        self.terminate_instances_with_expiration = False
        self.valid_from = datetime.now(UTC)
        self.valid_until = None
        self.create_time = self.valid_from
        self.outcome = outcome
        self.spot_requests = []
        self.on_demand_instances = []
        self.add_tags(convert_tag_spec(request.get("TagSpecifications", [])).get("fleet", {}))
        self.tags = self.get_tags()

    @property
    def instances(self) -> list[dict[str, Any]]:
        """By pool and market, as CreateFleet and DescribeFleets show them."""
        groups: dict[tuple[int, str], dict[str, Any]] = {}
        for pool, market, instance_id in self.outcome.launched:
            group = groups.setdefault(
                (pool.rank, market),
                {
                    "LaunchTemplateAndOverrides": pool.answer,
                    "Lifecycle": market,
                    "InstanceIds": [],
                    "InstanceType": pool.instance_type,
                },
            )
            group["InstanceIds"].append(instance_id)
        return list(groups.values())

    @property
    def errors(self) -> list[dict[str, Any]]:
        """Errors of the pools that had no capacity."""
        return self.outcome.errors

    def terminate_instances(self) -> None:
        """End all instances that it launched."""
        found = [instance_id for _, _, instance_id in self.outcome.launched]
        known = [instance.id for instance in self.ec2_backend.all_instances() if instance.id in found]
        if known:
            self.ec2_backend.terminate_instances(known)


def install() -> None:
    """moto's CreateFleet and DeleteFleets are these from now on."""
    for owner, name, ours in (
        (Fleets, "create_fleet", _create_fleet),
        (FleetsBackend, "delete_fleets", _delete_fleets),
        (FleetsBackend, "describe_fleet_instances", _fleet_instances),
    ):
        setattr(owner, name, ours)


def _create_fleet(self: Any) -> ActionResult:
    request: dict[str, Any] = {
        name: self._get_param(name)
        for name in (
            "Type",
            "TargetCapacitySpecification",
            "LaunchTemplateConfigs",
            "SpotOptions",
            "OnDemandOptions",
            "TagSpecifications",
        )
        if self._get_param(name)
    }
    backend = self.ec2_backend
    targets = check(request)
    found = list(pools(request, backend))
    refuse_duplicates(found)
    self.error_on_dryrun()
    outcome = Outcome()
    fleet = InstantFleet(backend, request, outcome)
    run = functools.partial(run_instances, _caller(self), request)
    for market, wanted in targets.items():
        ordered = in_order(found, market, _strategy(request, market), self.region)
        together, least = together_of(request, market)
        if together:
            _launch_together(ordered, market, (least, wanted), run, outcome)
        else:
            _launch(ordered, market, wanted, run, outcome)
    for _, _, instance_id in outcome.launched:
        backend.create_tags([instance_id], {"aws:ec2:fleet-id": fleet.id})
    backend.fleets[fleet.id] = fleet
    return ActionResult({"FleetId": fleet.id, "Errors": fleet.errors, "Instances": fleet.instances})


def check(request: Mapping[str, Any]) -> dict[str, int]:
    """How many instances are wanted of each market. Raises what EC2 answers to a request that is not right."""
    kind = request.get("Type", "maintain")
    if kind != "instant":
        raise EC2ClientError("UnsupportedOperation", f"This sandbox makes no fleets of the type {kind}.")
    for options, names in _UNSUPPORTED.items():
        for name in names:
            if name in request.get(options, {}):
                raise EC2ClientError("UnsupportedOperation", f"This sandbox knows no {options}.{name}.")
    for item in request.get("TagSpecifications", []):
        if item["ResourceType"] not in TAGGED:
            raise EC2ClientError(
                "InvalidParameterValue", f"'{item['ResourceType']}' is not a valid taggable resource type."
            )
    for market in MARKETS:
        together_of(request, market)
    if not request.get("LaunchTemplateConfigs"):
        raise MissingParameter("LaunchTemplateConfigs")
    capacity = request.get("TargetCapacitySpecification", {})
    if "TotalTargetCapacity" not in capacity:
        raise MissingParameter("TotalTargetCapacity")
    total = int(capacity["TotalTargetCapacity"])
    named = {
        "spot": int(capacity.get("SpotTargetCapacity") or 0),
        "on-demand": int(capacity.get("OnDemandTargetCapacity") or 0),
    }
    rest = total - sum(named.values())
    if total < 1 or rest < 0:
        raise EC2ClientError(
            "InvalidTargetCapacitySpecification", "The target capacities do not add up to the total."
        )
    default = capacity.get("DefaultTargetCapacityType") or "on-demand"
    if default not in MARKETS:
        raise EC2ClientError("InvalidParameterValue", f"Invalid DefaultTargetCapacityType {default!r}.")
    named[default] += rest
    return {market: count for market, count in named.items() if count}


def together_of(request: Mapping[str, Any], market: str) -> tuple[bool, int]:
    """Whether all instances come from one pool, and how many are the least. Raises what EC2 answers where it cannot be,
    and what this sandbox cannot."""
    options = request.get(_OPTIONS[market], {})
    single = [_is_true(options.get(name)) for name in _TOGETHER]
    least = int(options.get("MinTargetCapacity") or 0)
    if least and not any(single):
        raise EC2ClientError(
            "InvalidParameterCombination",
            "MinTargetCapacity needs SingleInstanceType or SingleAvailabilityZone.",
        )
    if any(single) and not all(single):
        raise EC2ClientError(
            "UnsupportedOperation", f"This sandbox knows {' and '.join(_TOGETHER)} only with each other."
        )
    return all(single), least


def _is_true(value: Any) -> bool:
    return str(value).lower() == "true"


def _strategy(request: Mapping[str, Any], market: str) -> str:
    known, options = (
        (SPOT_STRATEGIES, request.get("SpotOptions", {}))
        if market == "spot"
        else (ON_DEMAND_STRATEGIES, request.get("OnDemandOptions", {}))
    )
    asked = str(options.get("AllocationStrategy") or "lowest-price")
    strategy = {"lowestPrice": "lowest-price"}.get(asked, asked)
    if strategy not in known:
        raise EC2ClientError("InvalidParameterValue", f"Invalid AllocationStrategy {asked!r}.")
    return strategy


def in_order(pools: Sequence[Pool], market: str, strategy: str, region: str) -> list[Pool]:
    """The pools, in the order in which they are tried.

    A price that is not known comes last. All pools of the sandbox are equally deep, so that what a strategy says of
    capacity leaves the order to the price, or to the priorities where it heeds these.
    """

    def price(pool: Pool) -> Decimal:
        if market == "spot":
            found = spot_price(pool.instance_type, region, pool.zone, datetime.now(UTC))
        else:
            row = price_rows().get((pool.instance_type, region))
            found = row.on_demand if row else None
        return Decimal("Infinity") if found is None else found

    def priority(pool: Pool) -> float:
        return float(pool.override.get("Priority", "inf"))

    if "prioritized" in strategy:
        return sorted(pools, key=lambda pool: (priority(pool), pool.rank))
    return sorted(pools, key=lambda pool: (price(pool), pool.rank))


def _launch(
    pools: Sequence[Pool], market: str, wanted: int, run: Callable[..., list[str]], outcome: Outcome
) -> None:
    """As many as are wanted, each from the first pool that has one; a pool that fails is not tried again."""
    left = list(pools)
    while wanted and left:
        pool = left[0]
        try:
            outcome.launched.append((pool, market, run(pool, market)[0]))
            wanted -= 1
        except ClientError as error:
            left.pop(0)
            outcome.errors.append(_error(pool, market, error))


def _launch_together(
    pools: Sequence[Pool],
    market: str,
    target: tuple[int, int],
    run: Callable[..., list[str]],
    outcome: Outcome,
) -> None:
    """The least number or more, from the first pool that has so many; where none has, nothing is launched."""
    least, wanted = target
    for pool in pools:
        refused: ClientError | None = None
        for count in range(wanted, max(least, 1) - 1, -1):
            try:
                launched = run(pool, market, count)
            except ClientError as error:
                refused = refused or error
                continue
            outcome.launched += [(pool, market, instance_id) for instance_id in launched]
            return
        if refused is not None:
            outcome.errors.append(_error(pool, market, refused))


def _error(pool: Pool, market: str, error: ClientError) -> dict[str, Any]:
    return {
        "LaunchTemplateAndOverrides": pool.answer,
        "Lifecycle": market,
        "ErrorCode": error.response["Error"]["Code"],
        "ErrorMessage": error.response["Error"]["Message"],
    }


def run_instances(
    client: Any, request: Mapping[str, Any], pool: Pool, market: str, count: int = 1
) -> list[str]:
    """So many instances of the pool, or none, with the request's tags on top of the template's; their ids.

    Raises `ClientError`.
    """
    launch: dict[str, Any] = {**pool.launch, "MinCount": count, "MaxCount": count}
    if market == "spot":
        options: dict[str, Any] = {
            "SpotInstanceType": "one-time",
            "InstanceInterruptionBehavior": "terminate",
        }
        if pool.override.get("MaxPrice"):
            options["MaxPrice"] = str(pool.override["MaxPrice"])
        launch["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": options}
    else:
        launch.pop("InstanceMarketOptions", None)
    if launch.get("UserData"):
        # A template has it in base64; the client encodes what RunInstances is given.
        launch["UserData"] = base64.b64decode(str(launch["UserData"]))
    tags = [_tag_specification(item) for item in launch.pop("TagSpecifications", [])]
    asked = [item for item in request.get("TagSpecifications", []) if item["ResourceType"] != "fleet"]
    launch["TagSpecifications"] = _together([*tags, *asked])
    answer = client.run_instances(**launch)
    return [str(instance["InstanceId"]) for instance in answer["Instances"]]


def run_instance(client: Any, request: Mapping[str, Any], pool: Pool, market: str) -> str:
    """One instance; its id. Raises `ClientError`."""
    return run_instances(client, request, pool, market)[0]


def _tag_specification(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"ResourceType": item["ResourceType"], "Tags": item.get("Tags", [])}


def _together(specifications: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One for each kind of resource; of two values for a key the later one."""
    merged: dict[str, dict[str, str]] = {}
    for item in specifications:
        tags = {tag["Key"]: tag.get("Value", "") for tag in item["Tags"]}
        merged.setdefault(item["ResourceType"], {}).update(tags)
    return [
        {"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
        for kind, tags in merged.items()
    ]


def _caller(response: Any) -> Any:
    """A client with the caller's keys: a fleet launches what its caller may launch."""
    authorization = response.headers.get("Authorization", "")
    key = authorization.partition("Credential=")[2].partition("/")[0]
    return client_of(key, response.headers.get("X-Amz-Security-Token") or "", response.region)


@functools.lru_cache(maxsize=16)
def client_of(key: str, token: str, region: str) -> Any:
    """EC2 of this sandbox for whoever has these keys."""
    session = boto3.Session(
        aws_access_key_id=key,
        aws_secret_access_key="unchecked",  # noqa: S106 - this server looks at the key's id alone
        aws_session_token=token or None,
        region_name=region,
    )
    config = Config(retries={"total_max_attempts": 1}, proxies={}, parameter_validation=False)
    return session.client("ec2", endpoint_url=f"http://127.0.0.1:{current().port}", config=config)


def _delete_fleets(self: Any, fleet_ids: list[str], _terminate_instances: bool) -> list[Fleet]:
    """An instant fleet goes with its instances, whatever was asked: it cannot be deleted without them."""
    found: list[Fleet] = []
    for fleet_id in fleet_ids:
        if fleet_id not in self.fleets:
            raise EC2ClientError("InvalidFleetId.NotFound", f"The fleet ID '{fleet_id}' does not exist")
        fleet = self.fleets[fleet_id]
        fleet.state = "deleted_terminating"
        fleet.target_capacity = 0
        fleet.terminate_instances()
        found.append(fleet)
    return found


def _fleet_instances(self: Any, fleet_id: str) -> list[Any]:
    """None: DescribeFleetInstances says nothing of instant fleets; DescribeFleets does."""
    if fleet_id not in self.fleets:
        raise EC2ClientError("InvalidFleetId.NotFound", f"The fleet ID '{fleet_id}' does not exist")
    return []
