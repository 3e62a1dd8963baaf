"""The RunPod provider: an object for each ability, and pods that are found and waited for."""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256

from runctl.core import tags as tag
from runctl.core.errors import Conflict, CredentialsError, MachineError, RunctlError, Unsupported
from runctl.core.files import cache_folder
from runctl.core.ids import InstanceId
from runctl.core.journal import Journal
from runctl.core.machine_models import Instance, InstanceState
from runctl.core.progress import SILENT, Progress
from runctl.providers.abilities import lazy_ability
from runctl.providers.interface import Check, DoctorStatus, Provider, Scope
from runctl.providers.labels import listed
from runctl.providers.runpod.context import RunPodContext
from runctl.providers.runpod.images import RunPodImages
from runctl.providers.runpod.machines import instance_of, lost_its_gpus
from runctl.providers.runpod.money import RunPodBill, funds_check, funds_of
from runctl.providers.runpod.offers import RunPodOffers
from runctl.providers.runpod.pod_preparing import prepare_pod
from runctl.providers.runpod.prices import RunPodPrices
from runctl.providers.runpod.renting import RunPodRenting
from runctl.providers.runpod.stop_and_start import RunPodStopAndStart
from runctl.providers.runpod.volumes import RunPodResizing, RunPodVolumes
from runctl.providers.ssh_machines import SshMachines
from runctl.transport.interface import Transport

_NEW_POD_SECONDS = 30.0
"""A pod that RunPod does not know so soon after its creation may still appear."""


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
            prepare_pod(self._context, ready, self.transport(ready, progress=progress), progress)
        return ready

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
