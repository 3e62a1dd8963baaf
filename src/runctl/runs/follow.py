"""Watch a run to its end, across broken connections, and know the difference between "gone" and "not seen"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from runctl.agent.spec import EndReason, EndRecord, LogFrame
from runctl.core.clock import Clock
from runctl.core.errors import NotFound, RunctlError, Unreachable
from runctl.core.models import InstanceState
from runctl.runs.machine import Machine
from runctl.runs.refresh import from_status, lost, with_end
from runctl.runs.store import RunRecord, RunStore

PATIENCE = timedelta(minutes=10)
"""How long a machine that the provider calls running may stay silent before a follower gives up."""

ASK_AFTER = timedelta(seconds=10)
"""How long a machine is silent before its provider is asked what became of it."""


@dataclass(frozen=True)
class Followed:
    """How following ended."""

    record: RunRecord
    end: EndRecord | None
    """``None`` when the run goes on (without ``to_the_end``)."""
    offset: int
    """Where in the log the reader is now, in bytes."""


def follow(
    record: RunRecord,
    machine: Machine,
    store: RunStore,
    *,
    clock: Clock,
    on_log: Callable[[bytes], None],
    offset: int = 0,
    to_the_end: bool = True,
    patience: timedelta = PATIENCE,
) -> Followed:
    """Hand over the log from ``offset``, every byte once, until the run has ended (or up to now).

    A connection that breaks is made again. When the machine stays silent the provider is asked: if it says that
    the instance has ended, the run is LOST, and recorded so. Raises `Unreachable` when the machine is silent for
    longer than ``patience`` while the provider calls it running: the run may well go on.
    """
    position = offset

    def deliver(data: bytes) -> None:
        nonlocal position
        position += len(data)
        on_log(data)

    def ask_provider(silent_seconds: float) -> None:
        if silent_seconds < ASK_AFTER.total_seconds():
            return
        gone = why_gone(machine)
        if gone is not None:
            raise _MachineGoneError(gone)
        machine.reconnect()

    try:
        frame = machine.agent.logs(
            record.id,
            record.attempt,
            offset=position,
            follow=to_the_end,
            on_bytes=deliver,
            on_silence=ask_provider,
            patience=patience,
        )
    except _MachineGoneError as gone:
        return _lost(record, store, str(gone), clock, position)
    except Unreachable as error:
        raise Unreachable(
            f"{record.instance_id} has been silent for {patience}; the run may well go on: {error.message}",
            hint=f"runctl runs logs {record.id} --follow takes it up again",
        ) from error
    return _finish(record, machine, store, frame, position, clock)


class _MachineGoneError(Exception):
    """The provider says that the instance has ended."""


def why_gone(machine: Machine) -> str | None:
    """The provider's word that the instance has ended, or ``None``: it runs, or the provider cannot be asked."""
    try:
        instance = machine.provider.instance(machine.instance.id)
    except NotFound:
        return f"instance {machine.instance.id} no longer exists"
    except RunctlError:
        return None
    if instance.state.is_over or instance.state is InstanceState.STOPPED:
        return f"instance {instance.id} is {instance.state.value}"
    return None


def _lost(record: RunRecord, store: RunStore, why: str, clock: Clock, position: int) -> Followed:
    ended = lost(record, why, clock.now())
    store.put(ended)
    return Followed(ended, EndRecord(EndReason.LOST, clock.now().timestamp(), message=why), position)


def _finish(
    record: RunRecord, machine: Machine, store: RunStore, frame: LogFrame, position: int, clock: Clock
) -> Followed:
    try:
        updated = from_status(record, machine.agent.status(record.id, record.attempt), clock.now())
    except Unreachable:
        updated = with_end(record, frame.end) if frame.end is not None else record
    store.put(updated)
    return Followed(updated, frame.end, position)
