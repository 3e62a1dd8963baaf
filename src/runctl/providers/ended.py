"""What a provider's word on an instance means for those who wait for it. Pure."""

from __future__ import annotations

from runctl.core.errors import InstanceEnded, NotFound, RunctlError
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance, InstanceState
from runctl.providers.interface import Provider

STILL_SPEAKS_SECONDS = 12.0
"""A machine that shuts down goes on speaking for a while, every ten seconds at least; then its state counts."""

_OVER = frozenset({InstanceState.TERMINATED, InstanceState.STOPPED})
_ENDING = frozenset({InstanceState.SHUTTING_DOWN, InstanceState.STOPPING})


def ended(instance: Instance, silent_seconds: float = float("inf")) -> InstanceEnded | None:
    """The error of waiting for a machine that has been silent for so long, if the provider says that it has ended."""
    if instance.state not in _OVER and not (
        instance.state in _ENDING and silent_seconds >= STILL_SPEAKS_SECONDS
    ):
        return None
    why = f" ({instance.state_reason})" if instance.state_reason else ""
    taken = ": the provider took it back" if instance.interrupted else ""
    return InstanceEnded(
        f"instance {instance.id} is {instance.state.value}{taken}{why}",
        interrupted=instance.interrupted,
        at=instance.ended_at,
        by_itself=instance.ended_itself,
    )


def forgotten(instance_id: InstanceId) -> InstanceEnded:
    """The error of waiting for a machine of which the provider knows nothing any more."""
    return InstanceEnded(f"instance {instance_id} no longer exists", forgotten=True)


def what_became_of(
    provider: Provider, instance_id: InstanceId, account: str | None = None
) -> InstanceEnded | None:
    """The provider's word that the instance has ended; ``None`` when it has not, or the provider cannot be asked.

    ``account``: the one that it was rented in, if that is known. Another account does not show it, which says nothing.
    """
    try:
        return ended(provider.instance(instance_id))
    except NotFound:
        return None if is_elsewhere(provider, account) else forgotten(instance_id)
    except RunctlError:
        return None


def is_elsewhere(provider: Provider, account: str | None) -> bool:
    """Whether what was rented in ``account`` need not be seen by the provider, as it acts for another one."""
    if account is None:
        return False
    try:
        return provider.scope().rented_in not in {None, account}
    except RunctlError:
        return True
