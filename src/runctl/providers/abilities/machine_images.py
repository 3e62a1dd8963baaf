"""What a provider must do so that a machine can be a container of the project's image."""

from __future__ import annotations

from abc import ABC, abstractmethod

from runctl.core.ids import InstanceId
from runctl.core.progress import SILENT, Progress
from runctl.providers.abilities.image_registry import RegistryLogin


class MachineImages(ABC):
    """The ability to rent a machine that is a container of an image: `InstanceRequest.image` names it, and the provider
    pulls it. There is no engine in it, and what runs on it has what the image has."""

    @abstractmethod
    def keep_login(self, login: RegistryLogin, progress: Progress = SILENT) -> None:
        """From now on the provider pulls from that registry by this login. The same login again changes nothing."""

    @abstractmethod
    def image_of(self, instance_id: InstanceId) -> str:
        """The image that a machine is a container of, as it was named. Errors are as in `Provider`."""
