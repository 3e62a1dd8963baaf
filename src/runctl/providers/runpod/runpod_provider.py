"""The RunPod provider: an object for each ability, and pods that are found and waited for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Set
from datetime import datetime, timedelta
from hashlib import sha256
from importlib import resources
from pathlib import PurePosixPath

from runctl.core import tags as tag
from runctl.core.errors import (
    Conflict,
    CredentialsError,
    MachineError,
    RunctlError,
    Unsupported,
    UsageError,
)
from runctl.core.files import cache_folder
from runctl.core.ids import InstanceId
from runctl.core.journal import Journal
from runctl.core.machine_models import Instance, InstanceState, Market
from runctl.core.progress import SILENT, Progress
from runctl.costs.rates import Per, Rate
from runctl.providers.abilities import lazy_ability
from runctl.providers.abilities.prices import Prices, included
from runctl.providers.first_boot import user_data
from runctl.providers.interface import Check, DoctorStatus, Provider, Scope, StopAndStart
from runctl.providers.labels import listed
from runctl.providers.preparing import LEAST_SECONDS, limits_of, prepare
from runctl.providers.registry import command
from runctl.providers.runpod.catalogue import SOURCE, parse_kind, sold
from runctl.providers.runpod.context import RunPodContext
from runctl.providers.runpod.images import RunPodImages
from runctl.providers.runpod.machines import LOGIN_USER, PROVIDER, instance_of, lost_its_gpus, pod_tags
from runctl.providers.runpod.money import RunPodBill, funds_check, funds_of
from runctl.providers.runpod.offers import RunPodOffers
from runctl.providers.runpod.renting import RunPodRenting
from runctl.providers.runpod.volumes import RunPodResizing, RunPodVolumes, price_of
from runctl.providers.ssh_machines import SshMachines
from runctl.transport.interface import Transport

_COMMAND_TIMEOUT = timedelta(seconds=45)
_NEW_POD_SECONDS = 30.0
"""A pod that RunPod does not know so soon after its creation may still appear."""


END_POD = "/usr/local/lib/runctl/end_pod.py"
SHUTDOWNS = ("/usr/local/sbin/shutdown", "/usr/local/bin/shutdown")
"""Not all of what comes in by SSH looks in the first."""
_SHUTDOWN = f"""\
#!/bin/sh
exec "$(command -v python3)" -IS {END_POD} "$@"
"""
_PRE_START = """\
#!/bin/sh
# RunPod's own images run this before anything else: what guards the pod starts again with it.
for each in /var/lib/cloud/scripts/per-boot/*; do [ ! -x "$each" ] || "$each"; done
"""


def _end_pod() -> bytes:
    return resources.files("runctl.providers.runpod").joinpath("end_pod.py").read_bytes()


class RunPodStopAndStart(StopAndStart):
    """Pods that are stopped, and started on the same host."""

    keeps_disks = False

    def __init__(self, context: RunPodContext, machines: SshMachines) -> None:
        self._context = context
        self._machines = machines

    def stop(self, instance_id: InstanceId, progress: Progress = SILENT) -> Instance:
        """It is stopped; its own disk is empty at the next start."""
        self._check_ours(instance_id)
        del progress
        self._machines.forget(instance_id)
        return self._act(instance_id, "stop", {InstanceState.STOPPED})

    def start(self, instance_id: InstanceId, progress: Progress = SILENT) -> Instance:
        """It is starting on the host that it was on; where that has no free GPUs, it stays stopped.

        Raises `Conflict` (code ``expired``) where its time to live has passed: it would end itself at once.
        """
        del progress
        self._check_time(instance_id, self._check_ours(instance_id))
        # Its disk, with its host key, was lost when it stopped.
        self._machines.forget_key(instance_id)
        return self._act(instance_id, "start", {InstanceState.PENDING, InstanceState.RUNNING})

    def _act(self, instance_id: InstanceId, action: str, wanted: Set[InstanceState]) -> Instance:
        try:
            self._context.api.act(instance_id, action)
        except Conflict:
            # It was so before, or an answer was lost.
            instance = self._context.instance(instance_id)
            if instance.state not in wanted:
                raise
            return instance
        return self._context.instance(instance_id)

    def _check_time(self, instance_id: InstanceId, tags: Mapping[str, str]) -> None:
        left = limits_of(tags, self._context.clock.now()).ttl_seconds
        if left is not None and left <= LEAST_SECONDS:
            raise Conflict(
                f"the time to live of pod {instance_id} was over at {tags[tag.EXPIRES_AT]}: started, it would end"
                " itself within a minute",
                hint=f"{command(PROVIDER, 'create')} makes another one, with the same network volume if need be;"
                f" {command(PROVIDER, 'terminate', instance_id)} ends this one",
                code="expired",
            )

    def _check_ours(self, instance_id: InstanceId) -> dict[str, str]:
        tags = pod_tags(self._context.api.pod(instance_id))
        if not tags:
            raise Conflict(
                f"pod {instance_id} was not created by runctl", hint="use RunPod's console", code="not-ours"
            )
        return tags


class RunPodPrices(Prices):
    """By RunPod's own list."""

    def __init__(self, context: RunPodContext) -> None:
        self._context = context

    def instance(
        self,
        instance_type: str,
        region: str | None,
        market: Market,
        zone: str | None = None,
        at: datetime | None = None,
    ) -> Rate | None:
        """As it is listed now, in the configured cloud; data centres make no difference."""
        del region, zone, at
        if market is not Market.ON_DEMAND:
            return None
        try:
            kind = parse_kind(instance_type, self._context.api.gpus())
        except RunctlError:
            return None
        known = sold(kind.gpu, self._context.settings.cloud)
        if known is None:
            return None
        return Rate(known[0] * kind.count, Per.HOUR, self._context.clock.now(), SOURCE)

    def volume(
        self,
        volume_type: str,
        size_gib: int,
        iops: int | None,
        throughput: int | None,
        region: str | None,
    ) -> Rate | None:
        """A month of a network volume."""
        del iops, throughput, region
        return price_of(volume_type, size_gib, self._context.clock.now())

    def public_ip(self, region: str | None) -> Rate:
        """Nothing of its own."""
        del region
        return included(self._context.clock.now())


class RunPodProvider(Provider):
    """Pods of one RunPod account."""

    name = "runpod"
    limits = Unsupported(
        "the limits of a pod are settled when it is created: --ttl, --budget, --idle-timeout"
    )
    object_storage = Unsupported("RunPod has no object store that runctl knows")
    account = Unsupported("a key is all that RunPod needs")
    groups = Unsupported("RunPod does not replace a pod that is gone")
    containers = Unsupported(
        "a RunPod pod is a container itself: there is no Docker inside, and what runs in it runs in the pod's image",
        hint="runctl runpod launch makes a pod of the project's image; --no-docker: the project is set up in this pod",
    )
    inventory = Unsupported("RunPod has no tags; runctl finds its pods by their label: runctl runpod list")
    snapshots = Unsupported("RunPod's volumes have no snapshots")
    clones = Unsupported("RunPod's volumes cannot be copied")
    filling = Unsupported("RunPod's network volumes are filled by a pod that has them: runctl cp, or a run")
    spot_market = Unsupported("RunPod has no spot pods any more")
    registry = Unsupported("RunPod has no image registry", hint='name one: [docker] registry = "HOST/PATH"')

    def __init__(self, context: RunPodContext) -> None:
        self._context = context
        self._machines = SshMachines(context.access)

    @property
    def journal(self) -> Journal:
        """Of this caller."""
        return self._context.journal

    @lazy_ability
    def renting(self) -> RunPodRenting:
        """Pods that are created and ended."""
        return RunPodRenting(self._context, self.volumes, self.machine_images)

    @lazy_ability
    def machine_images(self) -> RunPodImages:
        """A pod is a container of its image."""
        return RunPodImages(self._context)

    @lazy_ability
    def volumes(self) -> RunPodVolumes:
        """Network volumes, chosen when a pod is made."""
        return RunPodVolumes(self._context)

    @lazy_ability
    def resizing(self) -> RunPodResizing:
        """Network volumes grow."""
        return RunPodResizing(self._context, self.volumes)

    @lazy_ability
    def stop_and_start(self) -> RunPodStopAndStart:
        """On the same host."""
        return RunPodStopAndStart(self._context, self._machines)

    @lazy_ability
    def catalogue(self) -> RunPodOffers:
        """What is rented now."""
        return RunPodOffers(self._context, cache_folder() / "prices")

    @lazy_ability
    def bill(self) -> RunPodBill:
        """What was billed for pods and network volumes."""
        return RunPodBill(self._context)

    @lazy_ability
    def prices(self) -> RunPodPrices:
        """By RunPod's own list."""
        return RunPodPrices(self._context)

    def instance(self, instance_id: InstanceId) -> Instance:
        """As it is now."""
        return self._context.instance(instance_id)

    def instances(self, *, everyone: bool = False, include_ended: bool = False) -> tuple[Instance, ...]:
        """All pods of the account, newest first; those that have ended as they are remembered here."""
        found = {InstanceId(pod.id): instance_of(pod) for pod in self._context.api.pods()}
        if include_ended:
            found = {**self._context.remembered(), **found}
        return listed(found.values(), everyone=everyone, include_ended=include_ended)

    def wait_ready(
        self, instance_id: InstanceId, *, timeout: timedelta, progress: Progress = SILENT
    ) -> Instance:
        """It runs, lets us in, has its GPUs and Python."""
        done = self._machines.wait_ready(
            instance_id,
            lambda: self._alive(instance_id),
            ["sh", "-c", "command -v python3"],
            timeout,
            progress,
            appears_within=_NEW_POD_SECONDS,
        )
        # Not sooner: a pod that has just started may not have counted them yet.
        self._check_gpus(instance_id)
        if done.exit_code != 0:
            raise MachineError(
                f"the image of {instance_id} has no python3, which the agent needs",
                hint=f"use an image with Python: --pod-image, [runpod] image; undo: runctl runpod terminate"
                f" {instance_id}",
            )
        ready = self._alive(instance_id)
        if tag.is_ours(ready.tags):
            self._prepare(ready, self.transport(ready, progress=progress), progress)
        return ready

    def _prepare(self, instance: Instance, transport: Transport, progress: Progress) -> None:
        """What ends machines finds a ``shutdown`` in the pod, and knows its limits; once, and after each start."""

        def script() -> str:
            name = self._context.settings.end_key
            key = os.environ.get(name) if name is not None else None
            if name is not None and not key:
                raise UsageError(f"runpod.end_key names {name}, which is not set", hint=f"export {name}=KEY")
            if key:
                # The pod's own program: it brings a client for HTTP that nothing here needs.
                from runctl.providers.runpod.end_pod import KEY_FILE

                transport.put(f"{key}\n".encode(), PurePosixPath(KEY_FILE), mode=0o600)
            limits = limits_of(instance.tags, self._context.clock.now())
            return user_data(login_user=LOGIN_USER, limits=limits, docker=False)

        if transport.run(["test", "-e", END_POD], timeout=_COMMAND_TIMEOUT).exit_code != 0:
            transport.put(_end_pod(), PurePosixPath(END_POD), mode=0o755)
            for path in SHUTDOWNS:
                transport.put(_SHUTDOWN.encode(), PurePosixPath(path), mode=0o755)
            transport.put(_PRE_START.encode(), PurePosixPath("/pre_start.sh"), mode=0o755)
        prepare(instance, transport, script, progress)

    def transport(self, instance: Instance, choice: str = "auto", progress: Progress = SILENT) -> Transport:
        """SSH to the mapped port, over a connection that commands share."""
        return self._machines.transport(instance, choice, progress)

    def scope(self) -> Scope:
        """The account, as far as it can be told without a call; never the key itself."""
        key = self._context.api.account.key
        return Scope(
            account=sha256(key.encode()).hexdigest()[:16],
            user=self._context.owner,
            home="sandbox" if self._context.in_sandbox else self.name,
            defaults={
                "instance_type": self._context.settings.instance_type,
                "cloud": self._context.settings.cloud,
            },
        )

    def costs_money(self) -> bool:
        """Not at the sandbox's address."""
        return not self._context.in_sandbox

    def platform(self, instance_type: str) -> str | None:
        """All pods have the same processors."""
        del instance_type
        return "linux/amd64"

    def doctor(self) -> tuple[Check, ...]:
        """Whether there is a key, whether RunPod takes it, and how long the balance lasts."""
        try:
            account = self._context.api.account
        except CredentialsError as error:
            return (Check("runpod: key", DoctorStatus.SKIPPED, error.message, fix=error.hint),)
        try:
            self._context.api.check_key()
        except RunctlError as error:
            return (Check("runpod: key", DoctorStatus.FAILED, error.message, fix=error.hint or "try again"),)
        good = Check("runpod: key", DoctorStatus.OK, f"good, by {account.source}")
        return (good, funds_check(funds_of(self._context)))

    def _alive(self, instance_id: InstanceId) -> Instance:
        instance = self.instance(instance_id)
        if instance.state.is_over or instance.state is InstanceState.STOPPED:
            reason = f" ({instance.state_reason})" if instance.state_reason else ""
            stopped = instance.state is InstanceState.STOPPED
            raise Conflict(
                f"{instance_id} is {instance.state.value}{reason}",
                hint=f"runctl runpod {'start ' + instance_id if stopped else 'create'}",
                code="not-running",
            )
        return instance

    def _check_gpus(self, instance_id: InstanceId) -> None:
        if lost_its_gpus(self._context.api.pod(instance_id)):
            raise Conflict(
                f"{instance_id} was started without its GPUs: somebody else has them now",
                hint=f"it is billed all the same: runctl runpod terminate {instance_id}, then create another",
                code="no-gpus",
            )
