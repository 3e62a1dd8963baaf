"""What the parts of the Lyceum provider share: the account, the clock, and which VMs were ended from here."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.core.clock import Clock
from runctl.core.errors import CredentialsError, RunctlError
from runctl.core.ids import InstanceId
from runctl.core.journal import Journal
from runctl.core.machine_models import Instance
from runctl.core.progress import Progress
from runctl.providers.lyceum.api import LyceumApi, User, Variant, Vm
from runctl.providers.lyceum.machines import PROVIDER, door_of, instance_of
from runctl.providers.lyceum.settings import LyceumConfig, this_account
from runctl.providers.notes import Notes
from runctl.providers.rest import leads_to_sandbox
from runctl.providers.ssh_machines import SshAccess


@dataclass(frozen=True)
class LyceumContext:
    """One caller's Lyceum."""

    settings: LyceumConfig
    clock: Clock
    state_directory: Path
    """Keys, known hosts and what was ended; the user's alone."""
    journal: Journal

    @cached_property
    def api(self) -> LyceumApi:
        """The API, as whoever the environment says. Raises `CredentialsError`."""
        return LyceumApi(this_account(self.settings, self.clock.now()))

    @cached_property
    def access(self) -> SshAccess:
        """How VMs let us in."""
        return SshAccess(
            provider=PROVIDER,
            login_user=self.settings.login_user,
            state_directory=self.state_directory,
            identity_file=self.settings.identity_file,
            strict_host_key=self.settings.strict_host_key,
            door=lambda vm_id: door_of(self.api.vm(vm_id).ip_address),
            instance=lambda vm_id: self.instance(self.api.vm(vm_id)),
            journal=self.journal,
            clock=self.clock,
        )

    @cached_property
    def user(self) -> User:
        """Whose key it is. Asked once."""
        return self.api.user()

    @property
    def owner(self) -> str:
        """Who creates what is created here."""
        return self.user.email or self.user.user_id or "unknown"

    @property
    def in_sandbox(self) -> bool:
        """Whether the API is runctl's sandbox, where nothing costs money; it can be told without a key, too."""
        try:
            address: str | None = self.api.account.base_url
        except CredentialsError:
            address = self.settings.base_url
        return leads_to_sandbox(address)

    def variants(self) -> tuple[Variant, ...]:
        """What is offered; empty where that cannot be read now. Prices are not worth an error."""
        try:
            return self.api.variants()
        except RunctlError:
            return ()

    def instance(self, vm: Vm, variants: tuple[Variant, ...] = (), *, ended_by_us: bool = False) -> Instance:
        """The VM as runctl shows it; ``ended_by_us`` need not be noted then."""
        return instance_of(
            vm,
            variants,
            login_user=self.settings.login_user,
            ended_by_us=ended_by_us or self._ended.has(vm.vm_id),
        )

    def note_ended(self, instance_id: InstanceId, progress: Progress) -> None:
        """It is ended from here: it was not taken back."""
        self._ended.write(
            instance_id,
            progress=progress,
            otherwise=f"runctl will take {instance_id} for one that was taken back",
        )

    def forget_ended(self, instance_id: InstanceId) -> None:
        """It was not ended after all."""
        self._ended.forget(instance_id)

    def note_volume(self, volume_id: str, progress: Progress) -> None:
        """It is a machine's of ours: Lyceum keeps no word of that when the machine has ended."""
        self._volumes.write(
            volume_id,
            progress=progress,
            otherwise=f"runctl will not know volume {volume_id} for its own when its machine has ended; note its id",
        )

    def known_volumes(self) -> frozenset[str]:
        """Those that were noted."""
        return frozenset(self._volumes.all())

    def forget_volume(self, volume_id: str) -> None:
        """It does not exist any more."""
        self._volumes.forget(volume_id)

    @property
    def _volumes(self) -> Notes:
        return Notes(self.state_directory / "volumes")

    @property
    def _ended(self) -> Notes:
        return Notes(self.state_directory / "ended")
