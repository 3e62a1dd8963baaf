"""Spot requests that RunInstances makes by itself: to be described, and closed when their instance has ended."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from moto.ec2.models.spot_requests import SpotInstanceRequest
from moto.ec2.utils import random_spot_request_id

ENDINGS = {
    "Server.SpotInstanceTermination": "instance-terminated-no-capacity",
    "Client.UserInitiatedShutdown": "instance-terminated-by-user",
    "Client.InstanceInitiatedShutdown": "instance-terminated-by-user",
}
"""Status codes by the reason of the instance's end (EC2 user guide, "Spot request status codes")."""


class SandboxSpotRequest(SpotInstanceRequest):
    """A request that is fulfilled by an instance which is there already."""

    def __init__(self, instance: Any, kind: str, price: str, tags: dict[str, str]) -> None:
        self._fulfilled_by = instance
        self._updated = datetime.now(UTC)
        self._created = self._updated
        super().__init__(
            ec2_backend=instance.ec2_backend,
            spot_request_id=random_spot_request_id(),
            price=price,
            image_id=instance.image_id,
            spot_instance_type=kind,
            valid_from=None,
            valid_until=None,
            launch_group=None,
            availability_zone_group=None,
            key_name=instance.key_name,
            security_groups=[group.id for group in instance.security_groups],
            user_data=None,
            instance_type=instance.instance_type,
            placement=instance.availability_zone,
            kernel_id=None,
            ramdisk_id=None,
            monitoring_enabled=False,
            subnet_id=instance.subnet_id,
            tags={"spot-instances-request": tags},
            spot_fleet_id=None,
            instance_interruption_behaviour="terminate",
        )

    def launch_instance(self) -> Any:
        """The instance that is there."""
        return self._fulfilled_by

    def close(self, code: str) -> None:
        """Its instance has ended for that reason."""
        if self.state != "closed":
            self.state = "closed"
            self._status_code = ENDINGS.get(code, "instance-terminated-no-capacity")
            self._updated = datetime.now(UTC)

    @property
    def create_time(self) -> Any:
        """When it was made."""
        return self._created

    @property
    def status(self) -> dict[str, Any]:
        """As DescribeSpotInstanceRequests shows it."""
        return {"Code": self._status_code, "Message": self.status_message, "UpdateTime": self._updated}


def note_fulfilled(instance: Any, kind: str, price: str, tags: dict[str, str]) -> str:
    """The request that this spot instance fulfils is on record; its id."""
    request = SandboxSpotRequest(instance, kind, price, tags)
    instance.ec2_backend.spot_instance_requests[request.id] = request
    return request.id


def note_ended(instance: Any, code: str) -> None:
    """The instance's request, if it has one, is closed."""
    for request in instance.ec2_backend.spot_instance_requests.values():
        if isinstance(request, SandboxSpotRequest) and request.instance is instance:
            request.close(code)
