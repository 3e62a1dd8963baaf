"""Launches: what AWS refuses is refused, and what it starts gets a machine."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.responses.instances import InstanceResponse
from moto.iam.exceptions import NotFoundException as IamNotFound

from runctl.core.config import SANDBOX_VARIABLE
from runctl.sandbox.api.gate import parameter
from runctl.sandbox.capacity import Pool, has_room
from runctl.sandbox.ec2.images import Images
from runctl.sandbox.ec2.lifecycle import UP, Lifecycle, SandboxInstance
from runctl.sandbox.ec2.spot_requests import note_fulfilled
from runctl.sandbox.machines.hardware import Hardware
from runctl.sandbox.machines.user_data import unpacked
from runctl.sandbox.prices.spot_prices import spot_price
from runctl.sandbox.quotas import check as check_quota
from runctl.sandbox.world import World

TLS_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE")
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


class Launch(Images, Lifecycle):
    """RunInstances with machines."""

    def run_instances(
        self, image_id: str, count: int, user_data: Any, security_group_names: list[str], **kwargs: Any
    ) -> Any:
        """Launch: what AWS refuses is refused, then every instance gets a machine that boots beside the call."""
        self._check_launch(image_id, count, kwargs)
        content = _decoded(user_data)
        tags = dict(kwargs.get("tags") or {})
        groups = kwargs.get("security_group_ids") or security_group_names
        if not groups and not kwargs.get("nics"):
            kwargs["security_group_ids"] = [self._default_group(kwargs).id]
        reservation = super().run_instances(image_id, count, user_data, security_group_names, **kwargs)
        for instance in reservation.instances[1:]:
            # moto gives the profile to the first one only.
            self._give_profile(instance.id)
        for instance in reservation.instances:
            cast(SandboxInstance, instance).placement_group = parameter("Placement.GroupName")
            self._complete_root(instance, tags.get("volume", {}))
            if kwargs.get("instance_market_options"):
                cast(SandboxInstance, instance).spot_instance_request_id = note_fulfilled(
                    instance,
                    parameter("InstanceMarketOptions.SpotOptions.SpotInstanceType") or "one-time",
                    parameter("InstanceMarketOptions.SpotOptions.MaxPrice") or "",
                    tags.get("spot-instances-request", {}),
                )
            instance._state.name, instance._state.code = "pending", 0
            self._make_machine(instance, content)
        return reservation

    def _give_profile(self, instance_id: str) -> None:
        name, arn = parameter("IamInstanceProfile.Name"), parameter("IamInstanceProfile.Arn")
        if name or arn:
            self.associate_iam_instance_profile(
                instance_id=instance_id, iam_instance_profile_name=name, iam_instance_profile_arn=arn
            )

    def _check_launch(self, image_id: str, count: int, kwargs: dict[str, Any]) -> None:
        if image_id not in self.amis:
            raise EC2ClientError("InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist")
        self.base_of(image_id)
        kind = kwargs["instance_type"]
        try:
            known = self.describe_instance_types([kind], {})
        except EC2ClientError:
            known = []
        if not known:
            raise EC2ClientError("InvalidParameterValue", f"Invalid value '{kind}' for InstanceType.")
        key = kwargs.get("key_name")
        if key and key not in self.key_pairs:
            raise EC2ClientError("InvalidKeyPair.NotFound", f"The key pair '{key}' does not exist")
        zone = kwargs.get("placement")
        subnet = kwargs.get("subnet_id") or next(
            (n["SubnetId"] for n in kwargs["nics"] if "SubnetId" in n), None
        )
        if subnet:
            zone = self.get_subnet(subnet).availability_zone
        zone = zone or f"{self.region_name}a"
        group = parameter("Placement.GroupName")
        if group:
            self.check_placement(group, kind, zone)
        market = "spot" if kwargs.get("instance_market_options") else "on-demand"
        running = [
            Pool(
                other.availability_zone,
                other.instance_type,
                "spot" if other.lifecycle == "spot" else "on-demand",
            )
            for other in self.all_instances()
            if other._state.name in UP
        ]
        check_quota(
            kind,
            market,
            count,
            [(str(pool.instance_type), str(pool.market)) for pool in running],
            self._vcpus,
            self.world.faults.quotas,
        )
        if market == "spot":
            _check_spot_price(kind, self.region_name, zone)
        wanted = Pool(zone, kind, market)
        if not has_room(wanted, count, self.world.faults.capacity, running):
            raise EC2ClientError(
                "InsufficientInstanceCapacity",
                f"We currently do not have sufficient {kind} capacity in the Availability Zone you requested"
                f" ({zone}). Our system will be working on provisioning additional capacity.",
            )

    def _vcpus(self, kind: str) -> int:
        (described,) = self.describe_instance_types([kind], {})
        return int(described["VCpuInfo"]["DefaultVCpus"])

    def _complete_root(self, instance: Any, tags: dict[str, str]) -> None:
        """Whatever other disks were asked for, there is a root volume, and it goes with the instance."""
        root = instance.root_device_name
        if root not in instance.block_device_mapping:
            before = set(self.volumes)
            instance.setup_defaults()
            for volume_id in set(self.volumes) - before:
                self.volumes[volume_id].add_tags(tags)

    def _default_group(self, kwargs: dict[str, Any]) -> Any:
        subnet = kwargs.get("subnet_id")
        vpc = self.get_subnet(subnet).vpc_id if subnet else cast(Any, self.get_default_vpc()).id
        return self.get_security_group_from_name("default", vpc)

    def _make_machine(self, instance: Any, user_data: bytes | None) -> None:
        image, made = self.base_of(instance.image_id), self.world.made_images.get(instance.image_id)
        key = self.key_pairs.get(instance.key_name) if instance.key_name else None
        hardware = Hardware(
            instance_id=instance.id,
            login_user=image.login_user,
            docker=self.world.docker and image.docker,
            authorized_key=key.public_key if key else None,
            user_data=user_data,
            environment=machine_environment(self.world),
            systemd=self.world.systemd,
            image=made.folder if made is not None else None,
        )
        machine = self.world.new_machine(hardware)
        instance.sandbox_address = machine.address
        self.world.meter.instance(instance, self.region_name)
        if not self.world.faults.never_boots:
            self._in_background(self._boot, instance)


def _check_spot_price(kind: str, region: str, zone: str) -> None:
    """A bid below the market's price is refused; without one the on-demand price is bid."""
    most = parameter("InstanceMarketOptions.SpotOptions.MaxPrice")
    price = spot_price(kind, region, zone, datetime.now(UTC))
    if most and price is not None and Decimal(most) < price:
        raise EC2ClientError(
            "SpotMaxPriceTooLow",
            f"Your Spot request price of {most} is lower than the minimum required Spot request fulfillment price of"
            f" {price}.",
        )


def machine_environment(world: World) -> dict[str, str]:
    """Of every login and command: where this AWS is, and which certificates this computer's network needs."""
    trusted = {name: str(CA_BUNDLE) for name in TLS_VARIABLES} if CA_BUNDLE.exists() else {}
    address = world.endpoint_in_machines
    return {"AWS_ENDPOINT_URL": address, SANDBOX_VARIABLE: address, **trusted}


_moto_run_instances = InstanceResponse.run_instances


def run_instances(self: Any) -> Any:
    """moto refuses an unknown instance profile in IAM's words; EC2 has its own."""
    try:
        return _moto_run_instances(self)
    except IamNotFound as error:
        name = self._get_param("IamInstanceProfile.Name") or self._get_param("IamInstanceProfile.Arn")
        raise EC2ClientError(
            "InvalidParameterValue",
            f"Value ({name}) for parameter iamInstanceProfile is invalid. Invalid IAM Instance Profile name",
        ) from error


def _decoded(user_data: Any) -> bytes | None:
    """User-data as it was before the API's base64, and before the user's gzip."""
    if not user_data:
        return None
    try:
        return unpacked(base64.b64decode(str(user_data)))
    except ValueError:
        raise EC2ClientError("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.") from None
