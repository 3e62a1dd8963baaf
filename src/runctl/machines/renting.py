"""An instance is waited for, and told of when the waiting ends early: it exists and costs money."""

from __future__ import annotations

from datetime import timedelta

from runctl.core.errors import CapacityError, RunctlError
from runctl.core.ids import InstanceId
from runctl.core.journal import Change, Effect
from runctl.core.models import Instance
from runctl.core.progress import SILENT, Progress
from runctl.providers.interface import Provider


def exists(provider: str, instance_id: str) -> Change:
    """How an instance that is not ready yet is told. Pure."""
    return Change(
        "instance",
        (instance_id,),
        Effect.CREATED,
        f"instance {instance_id} exists and is billed",
        go_on=f"runctl {provider} wait {instance_id}",
        undo=f"runctl {provider} terminate {instance_id}",
    )


def wait_ready(
    provider: Provider, instance_id: InstanceId, timeout: timedelta, progress: Progress = SILENT
) -> Instance:
    """The machine can be used; see `Provider.wait_ready`. Where that fails, the journal has the machine."""
    with provider.journal.unfinished(exists(provider.name, instance_id)):
        try:
            return provider.wait_ready(instance_id, timeout=timeout, progress=progress)
        except RunctlError as error:
            if isinstance(error, CapacityError) or error.code == "instance-ended":
                over = f"instance {instance_id} has ended"
                provider.journal.record(Change("instance", (instance_id,), Effect.GONE, over))
            raise
