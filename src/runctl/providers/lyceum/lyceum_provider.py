"""The Lyceum provider: an object for each ability, and VMs that are found and waited for."""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

from runctl.core import tags as tag
from runctl.core.errors import (
    Conflict,
    CredentialsError,
    RunctlError,
    Unsupported,
)
from runctl.core.files import cache_folder
from runctl.core.ids import InstanceId
from runctl.core.journal import Journal
from runctl.core.machine_models import Instance, InstanceState
from runctl.core.progress import SILENT, Progress
from runctl.costs.billing import BillingRules
from runctl.providers.abilities import lazy_ability
from runctl.providers.first_boot import user_data
from runctl.providers.interface import (
    Check,
    DoctorStatus,
    Provider,
    Scope,
)
from runctl.providers.labels import listed
from runctl.providers.lyceum.context import LyceumContext
from runctl.providers.lyceum.machines import state_of, with_volumes
from runctl.providers.lyceum.offers import LyceumOffers
from runctl.providers.lyceum.prices import LyceumPrices
from runctl.providers.lyceum.renting import LyceumRenting
from runctl.providers.lyceum.volumes import LyceumVolumes
from runctl.providers.preparing import limits_of, prepare
from runctl.providers.ssh_machines import SshMachines
from runctl.transport.interface import Transport

if TYPE_CHECKING:
    from runctl.providers.lyceum.bill import LyceumBill
    from runctl.providers.lyceum.storage import LyceumBucket, LyceumStorage

_NEW_VM_SECONDS = 30.0
"""A VM that Lyceum does not know so soon after its creation may still appear."""


class LyceumProvider(Provider):
    """VMs of one Lyceum account."""

    name = "lyceum"
    stop_and_start = Unsupported("Lyceum's machines cannot be stopped: they are ended, or they are billed")
    limits = Unsupported(
        "the limits of a Lyceum machine are settled when it is created: --ttl, --budget, --idle-timeout"
    )
    # Nobody can stop one: it has shut itself down, and whether that ends its bill Lyceum does not say.
    billing = BillingRules(bills_stopped=True)
    account = Unsupported("a key is all that Lyceum needs")
    groups = Unsupported("Lyceum does not replace a machine that is gone")
    inventory = Unsupported(
        "Lyceum has no tags; runctl finds its machines by their label: runctl lyceum list"
    )
    snapshots = Unsupported("Lyceum's volumes have no snapshots")
    clones = Unsupported("Lyceum's volumes cannot be copied")
    resizing = Unsupported("Lyceum's volumes cannot be resized")
    filling = Unsupported("Lyceum's block volumes are filled by a machine that has them: runctl cp, or a run")
    spot_market = Unsupported("Lyceum does not say how likely spot machines are")
    registry = Unsupported("Lyceum has no image registry", hint='name one: [docker] registry = "HOST/PATH"')

    def __init__(self, context: LyceumContext) -> None:
        self._context = context
        self._machines = SshMachines(context.access)

    @property
    def journal(self) -> Journal:
        """Of this caller."""
        return self._context.journal

    @lazy_ability
    def renting(self) -> LyceumRenting:
        """VMs that are created and ended."""
        return LyceumRenting(self._context, self.volumes)

    @lazy_ability
    def volumes(self) -> LyceumVolumes:
        """Block volumes, made with a machine."""
        return LyceumVolumes(self._context)

    @lazy_ability
    def lent_bucket(self) -> LyceumBucket:
        """The account's bucket, by keys that end."""
        from runctl.providers.lyceum.storage import LyceumBucket

        return LyceumBucket(self._context)

    @lazy_ability
    def object_storage(self) -> LyceumStorage:
        """The account's bucket, from this computer."""
        from runctl.providers.lyceum.storage import LyceumStorage

        return LyceumStorage(self._context)

    @lazy_ability
    def bill(self) -> LyceumBill:
        """What was billed for machines."""
        from runctl.providers.lyceum.bill import LyceumBill

        return LyceumBill(self._context)

    @lazy_ability
    def catalogue(self) -> LyceumOffers:
        """What is sold now."""
        return LyceumOffers(self._context, cache_folder() / "prices")

    @lazy_ability
    def prices(self) -> LyceumPrices:
        """By Lyceum's own list."""
        return LyceumPrices(self._context)

    def instance(self, instance_id: InstanceId) -> Instance:
        """As it is now."""
        return self._context.instance(self._context.api.vm(instance_id), self._context.variants())

    def instances(self, *, everyone: bool = False, include_ended: bool = False) -> tuple[Instance, ...]:
        """All VMs of the organisation, newest first."""
        vms = self._context.api.vms()
        if any(state_of(vm) is not InstanceState.TERMINATED for vm in vms):
            vms = with_volumes(vms, self._context.api.volumes())
        variants = self._context.variants() if vms else ()
        found = [self._context.instance(vm, variants) for vm in vms]
        return listed(found, everyone=everyone, include_ended=include_ended)

    def wait_ready(
        self, instance_id: InstanceId, *, timeout: timedelta, progress: Progress = SILENT
    ) -> Instance:
        """It has an address, lets us in, and has what the agent needs."""
        self._machines.wait_ready(
            instance_id,
            lambda: self._alive(instance_id),
            ["true"],
            timeout,
            progress,
            appears_within=_NEW_VM_SECONDS,
        )
        ready = self._alive(instance_id)
        if tag.is_ours(ready.tags):
            self._prepare(ready, self.transport(ready, progress=progress), progress)
        return ready

    def transport(self, instance: Instance, choice: str = "auto", progress: Progress = SILENT) -> Transport:
        """SSH, over a connection that commands share."""
        return self._machines.transport(instance, choice, progress)

    def scope(self) -> Scope:
        """The account and its user; never the key itself."""
        account = self._context.api.account
        known = account.organisation or sha256(account.token.encode()).hexdigest()[:16]
        return Scope(
            account=known,
            user=self._context.owner,
            home=account.organisation or ("sandbox" if self._context.in_sandbox else self.name),
            defaults={"instance_type": self._context.settings.instance_type},
        )

    def costs_money(self) -> bool:
        """Not at the sandbox's address."""
        return not self._context.in_sandbox

    def platform(self, instance_type: str) -> str | None:
        """All of Lyceum's machines have the same processors."""
        del instance_type
        return "linux/amd64"

    def doctor(self) -> tuple[Check, ...]:
        """Whether there is a key, whose it is, and what is left of its balance."""
        try:
            account = self._context.api.account
        except CredentialsError as error:
            return (Check("lyceum: key", DoctorStatus.SKIPPED, error.message, fix=error.hint),)
        try:
            user = self._context.user
        except RunctlError as error:
            return (Check("lyceum: key", DoctorStatus.FAILED, error.message, fix=error.hint or "try again"),)
        checks = [Check("lyceum: key", DoctorStatus.OK, f"{self._context.owner}, by {account.source}")]
        if user.credit_balance is not None:
            poor = user.credit_balance <= 0
            checks.append(
                Check(
                    "lyceum: balance",
                    DoctorStatus.FAILED if poor else DoctorStatus.OK,
                    f"${user.credit_balance:.2f}",
                    fix="add credit at dashboard.lyceum.technology" if poor else "",
                )
            )
        return tuple(checks)

    def _alive(self, instance_id: InstanceId) -> Instance:
        instance = self.instance(instance_id)
        if instance.state.is_over:
            raise Conflict(
                f"{instance_id} has ended: {instance.state_reason}",
                hint="runctl lyceum create makes another",
                code="instance-ended",
            )
        return instance

    def _prepare(self, instance: Instance, transport: Transport, progress: Progress) -> None:
        """What AWS's machines do at their first boot is done here over SSH, once."""
        prepare(
            instance,
            transport,
            lambda: user_data(
                login_user=self._context.settings.login_user,
                limits=limits_of(instance.tags, self._context.clock.now()),
            ),
            progress,
        )
