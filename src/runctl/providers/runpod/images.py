"""The images that pods are made of: RunPod pulls them, and from a private registry by a login that it keeps."""

from __future__ import annotations

import secrets
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import msgspec

from runctl.core.errors import NotFound, RunctlError
from runctl.core.files import make_private_folder, write_atomically
from runctl.core.ids import InstanceId
from runctl.core.journal import Change, Effect
from runctl.core.progress import SILENT, Progress
from runctl.providers.abilities.image_registry import RegistryLogin
from runctl.providers.abilities.machine_images import MachineImages
from runctl.providers.runpod.catalogue import slug
from runctl.providers.runpod.context import RunPodContext


class KeptLogin(msgspec.Struct, frozen=True):
    """A login of this computer's that RunPod keeps. The password is not here."""

    login_id: str
    digest: str
    """Of user and password: whether another one would be the same."""


class RunPodImages(MachineImages):
    """See `MachineImages`. Logins cost nothing, and only their names can be read at RunPod."""

    def __init__(self, context: RunPodContext) -> None:
        self._context = context

    def keep_login(self, login: RegistryLogin, progress: Progress = SILENT) -> None:
        """Added to the account's; the one before it for the same registry goes unless a pod was made by it."""
        digest = sha256(f"{login.username}\0{login.password}".encode()).hexdigest()
        before, api = self._known(login.host), self._context.api
        is_there = before is not None and before.login_id in {each.id for each in api.registries()}
        if before is not None and is_there and before.digest == digest:
            return
        progress.step(f"having RunPod keep the login to {login.host}")
        change = Change(
            "registry login",
            (),
            Effect.CREATED,
            f"RunPod keeps a login to {login.host}",
            check="console.runpod.io, Settings",
        )
        with self._context.journal.calling(change):
            name = f"runctl-{slug(self._context.owner)}-{slug(login.host)}-{secrets.token_hex(3)}"
            created = api.add_registry(name, login.username, login.password)
        file = self._file(login.host)
        make_private_folder(file.parent)
        write_atomically(file, msgspec.json.encode(KeptLogin(created.id, digest)).decode(), mode=0o600)
        if before is not None and is_there and before.login_id not in {pod.registry for pod in api.pods()}:
            with suppress(RunctlError):
                api.delete_registry(before.login_id)

    def image_of(self, instance_id: InstanceId) -> str:
        """RunPod knows it."""
        return self._context.api.pod(instance_id).image or self._context.settings.image

    def login_for(self, image: str) -> str | None:
        """The id of the login by which RunPod is to pull that image; ``None``: none. Raises `NotFound` for the
        configured one that RunPod does not keep."""
        name, host = self._context.settings.registry, image.partition("/")[0]
        kept = self._known(host)
        if name is None and kept is None:
            return None
        known = self._context.api.registries()
        if name is None:
            return next((each.id for each in known if kept is not None and each.id == kept.login_id), None)
        found = next((each.id for each in known if name in {each.id, each.name}), None)
        if found is None:
            names = ", ".join(each.name for each in known) or "none"
            raise NotFound(
                f"RunPod keeps no login to a registry by the name of {name!r}",
                hint=f"add it at console.runpod.io, Settings; there are: {names}",
                code="registry-not-found",
            )
        return found

    def _known(self, host: str) -> KeptLogin | None:
        try:
            return msgspec.json.decode(self._file(host).read_bytes(), type=KeptLogin)
        except (OSError, msgspec.DecodeError):
            return None

    def _file(self, host: str) -> Path:
        account = sha256(self._context.api.account.key.encode()).hexdigest()[:16]
        return self._context.state_directory / "logins" / account / f"{slug(host)}.json"
