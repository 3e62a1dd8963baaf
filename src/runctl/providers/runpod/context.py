"""What the parts of the RunPod provider share: the account, the clock, and the pods that were ended from here."""

from __future__ import annotations

import getpass
from contextlib import suppress
from dataclasses import field
from datetime import timedelta
from functools import cached_property
from pathlib import Path

import msgspec

from runctl._dataclasses import dataclass
from runctl.core.clock import Clock
from runctl.core.errors import CredentialsError, NotFound
from runctl.core.ids import InstanceId
from runctl.core.journal import Journal
from runctl.core.machine_models import Instance
from runctl.core.progress import Progress
from runctl.providers.notes import Notes
from runctl.providers.rest import leads_to_sandbox
from runctl.providers.runpod.api import Pod, RunPodApi
from runctl.providers.runpod.machines import LOGIN_USER, PROVIDER, door_of, ended, instance_of
from runctl.providers.runpod.settings import RunPodConfig, this_account
from runctl.providers.ssh_machines import SshAccess

SHOWN_FOR = timedelta(days=1)
"""A pod that has ended is shown for so long, from what is remembered of it here."""
KEPT_FOR = timedelta(days=100)
"""So long it is remembered that it was ours: the bill has it still."""


@dataclass(frozen=True)
class RunPodContext:
    """One caller's RunPod."""

    settings: RunPodConfig
    clock: Clock
    state_directory: Path
    """Keys, known hosts and what was ended; the user's alone."""
    journal: Journal
    _ended_now: dict[InstanceId, Instance] = field(default_factory=dict)
    """By this command: known also where it cannot be noted."""

    @cached_property
    def api(self) -> RunPodApi:
        """The API, as whoever the environment says. Raises `CredentialsError`."""
        return RunPodApi(this_account(self.settings))

    @cached_property
    def access(self) -> SshAccess:
        """How pods let us in."""
        return SshAccess(
            provider=PROVIDER,
            login_user=LOGIN_USER,
            state_directory=self.state_directory,
            identity_file=self.settings.identity_file,
            strict_host_key=self.settings.strict_host_key,
            door=lambda pod_id: door_of(self.api.pod(pod_id)),
            instance=self.instance,
            journal=self.journal,
            clock=self.clock,
        )

    @property
    def owner(self) -> str:
        """Who creates what is created here; the API does not tell whose a key is."""
        return getpass.getuser()

    @property
    def in_sandbox(self) -> bool:
        """Whether the API is runctl's sandbox, where nothing costs money; it can be told without a key, too."""
        try:
            address: str | None = self.api.account.base_url
        except CredentialsError:
            address = self.settings.base_url
        return leads_to_sandbox(address)

    def instance(self, instance_id: InstanceId) -> Instance:
        """As it is now, or as it was when it was ended from here. Raises `NotFound`."""
        try:
            return instance_of(self.api.pod(instance_id))
        except NotFound:
            known = self.remembered().get(instance_id)
            if known is None:
                raise
            return known

    def remember_ended(self, pod: Pod, progress: Progress) -> Instance:
        """It is ended from here, and can be shown for a while."""
        instance = ended(instance_of(pod))
        self._ended_now[instance.id] = instance
        self._ended.write(
            f"{pod.id}.json",
            msgspec.json.encode(instance).decode(),
            progress=progress,
            otherwise=f"runctl will not show {pod.id} any more once it has ended",
        )
        return instance

    def forget_ended(self, pod_id: InstanceId) -> None:
        """It was not ended after all."""
        self._ended_now.pop(pod_id, None)
        self._ended.forget(f"{pod_id}.json")

    def remembered(self) -> dict[InstanceId, Instance]:
        """The pods that were ended from here within `SHOWN_FOR`, by id."""
        found = dict(self._ended_now)
        now = self.clock.now()
        for name, ended_at in self._ended.all().items():
            if ended_at < now - KEPT_FOR:
                self._ended.forget(name)
            if ended_at < now - SHOWN_FOR:
                continue
            # Another version of runctl may have written it.
            with suppress(msgspec.DecodeError):
                instance = msgspec.json.decode(self._ended.read(name), type=Instance)
                found[instance.id] = instance
        return found

    def ended_ids(self) -> frozenset[str]:
        """The pods that were ended from here within `KEPT_FOR`."""
        return frozenset(name.removesuffix(".json") for name in self._ended.all())

    @property
    def _ended(self) -> Notes:
        return Notes(self.state_directory / "ended")
