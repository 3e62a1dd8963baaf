"""Inject faults into a running sandbox; `runctl.sandbox.faults` is the server's side."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from runctl.sandbox.connection import SandboxInfo, ask


class Faults:
    """Faults on request, in a running sandbox."""

    def __init__(self, info: SandboxInfo) -> None:
        self._endpoint = info.endpoint_url
        self._token = info.keys.control_token

    def kill_instance(self, instance: str, holds_seconds: float = 0.0) -> str:
        """Kill it without notice, as when its host fails. By id or by name; the id.

        EC2 leaves it its volumes for ``holds_seconds``, during which it is shutting down.
        """
        return str(self._ask("kill", instance_id=instance, holds_seconds=holds_seconds)["instance_id"])

    def interrupt(self, instance: str, seconds: float = 120) -> tuple[str, datetime]:
        """The spot notice now, the end ``seconds`` later, or when an earlier notice has said; the id, and the end.

        Raises `NotFound` for one that is not there, or not a spot instance that runs.
        """
        answer = self._ask("interrupt", instance_id=instance, seconds=seconds)
        return str(answer["instance_id"]), datetime.fromisoformat(answer["ends_at"])

    def interrupt_pool(
        self, seconds: float, *, zone: str | None = None, instance_type: str | None = None
    ) -> list[str]:
        """As `interrupt` for all spot instances there; their ids."""
        answer = self._ask("interrupt-pool", seconds=seconds, zone=zone, instance_type=instance_type)
        return [str(instance_id) for instance_id in answer["instance_ids"]]

    def rebalance(self, instance: str) -> str:
        """The rebalance recommendation; the id of the instance."""
        return str(self._ask("rebalance", instance_id=instance)["instance_id"])

    def current(self) -> dict[str, Any]:
        """The current faults, as ``runctl sandbox faults --output json`` shows it."""
        return self._ask("faults")

    def no_capacity(
        self, zone: str | None = None, instance_type: str | None = None, market: str | None = None
    ) -> None:
        """Refuse launches there with InsufficientInstanceCapacity, until `clear`."""
        self.capacity(0, zone=zone, instance_type=instance_type, market=market)

    def capacity(
        self,
        count: int | None,
        *,
        zone: str | None = None,
        instance_type: str | None = None,
        market: str | None = None,
    ) -> None:
        """There can be at most that many instances at once, of those that are named; ``None`` takes the limit away.

        ``market`` is ``spot`` or ``on-demand``. Instances that are there stay, also when they are more.
        """
        self._ask("capacity", count=count, zone=zone, instance_type=instance_type, market=market)

    def quota(self, kind: str, vcpus: int | None, *, market: str | None = None) -> None:
        """The account may run so many vCPUs of a kind (``standard``, ``g``, ``p``) at once; ``None``: as at first.

        Launches above it are refused with VcpuLimitExceeded or, as spot, MaxSpotInstanceCountExceeded.
        """
        self._ask("quota", kind=kind, vcpus=vcpus, market=market)

    def throttle(self, action: str, times: int) -> None:
        """The next calls of that action are refused."""
        self._ask("throttle", action=action, times=times)

    def deny(self, action: str) -> None:
        """The caller may not do that, such as ``ec2:RunInstances``."""
        self._ask("deny", action=action)

    def boot_delay(self, seconds: float) -> None:
        """How long instances are pending."""
        self._ask("boot-delay", seconds=seconds)

    def boot_never(self, never: bool = True) -> None:
        """Instances stay pending."""
        self._ask("boot-never", never=never)

    def ssm_offline(self, instance_id: str) -> None:
        """Its SSM agent no longer answers."""
        self._ask("ssm-offline", instance_id=instance_id)

    def volume_times(
        self,
        *,
        modifying: float | None = None,
        optimizing: float | None = None,
        snapshot: float | None = None,
        initializing: float | None = None,
    ) -> None:
        """How many seconds EBS takes over each, also where it has begun; what is not named stays as it is.

        With a large number it does not come to an end until `clear`.
        """
        self._ask(
            "volume-times",
            modifying=modifying,
            optimizing=optimizing,
            snapshot=snapshot,
            initializing=initializing,
        )

    def lazy_blocks(self, seconds: float = 0.02, *, background_mibps: float = 0) -> None:
        """Volumes that are made from snapshots from now on are as slow as on AWS: a block's first read takes so long.

        Blocks are 512 KiB; only those with data are slow. With a VolumeInitializationRate they also become fast by
        themselves at that rate, without one at ``background_mibps``. 0 seconds: no volume is lazy.
        """
        self._ask("lazy-blocks", seconds=seconds, background_mibps=background_mibps)

    def age_modifications(self, volume_id: str, hours: float) -> None:
        """What was modified of the volume was modified that much earlier: there is a limit per day."""
        self._ask("age-modifications", volume_id=volume_id, hours=hours)

    def ecr_token_seconds(self, seconds: float) -> None:
        """New passwords for ECR's registry expire that soon."""
        self._ask("ecr-token-seconds", seconds=seconds)

    def expire_images(self) -> None:
        """Carry out ECR's lifecycle policies now; AWS does it within a day."""
        self._ask("expire-images")

    def schedule_late(self, seconds: float) -> None:
        """Scheduled actions of Auto Scaling groups come that late; on AWS it may be two minutes."""
        self._ask("schedule-late", seconds=seconds)

    def store(self, *, away: bool = False, bytes_per_second: float = 0.0) -> None:
        """S3 answers nobody, or all that it moves is so much; with neither all is well again."""
        self._ask("store", away=away, bytes_per_second=bytes_per_second)

    def lyceum(self, **behaviour: object) -> None:
        """Change how Lyceum's API behaves; see `runctl.sandbox.lyceum.account.Behaviour`."""
        self._ask("lyceum", **behaviour)

    def lyceum_stock(self, profile: str, market: str, count: int) -> None:
        """Lyceum has at most that many VMs of a profile in a market."""
        self._ask("lyceum", stock={"profile": profile, "market": market, "count": count})

    def lyceum_reclaim(self, vm_id: str) -> None:
        """A spot VM is taken back, without notice."""
        self._ask("lyceum-reclaim", vm_id=vm_id)

    def runpod(self, **behaviour: object) -> None:
        """Change how RunPod's API behaves; see `runctl.sandbox.runpod.account.Behaviour`."""
        self._ask("runpod", **behaviour)

    def runpod_stock(self, gpu: str, count: int) -> None:
        """RunPod has at most that many pods with a GPU, which is named by its id."""
        self._ask("runpod", stock={"gpu": gpu, "count": count})

    def runpod_fail_host(self, pod_id: str) -> None:
        """The host of a pod fails, without notice."""
        self._ask("runpod-fail-host", pod_id=pod_id)

    def clear(self) -> None:
        """Clear all faults."""
        self._ask("clear")

    def _ask(self, verb: str, **parameters: object) -> dict[str, Any]:
        return ask(self._endpoint, self._token, verb, parameters)
