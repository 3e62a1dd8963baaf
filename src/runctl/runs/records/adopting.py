"""What a machine says of a run is remembered here, where the machine may say so."""

from __future__ import annotations

from datetime import datetime

from runctl.agent.spec import AttemptStatus
from runctl.machines.machine import Machine
from runctl.providers.ended import what_became_of
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import RunStore
from runctl.runs.records.updates import adopted, is_machine_of


def may_tell(machine: Machine, run_id: str, store: RunStore) -> bool:
    """Whether nothing that is known here says that the run is on another machine."""
    known = store.find(run_id)
    return known is None or is_machine_of(known, machine.instance)


def adopt(machine: Machine, status: AttemptStatus, store: RunStore, now: datetime) -> RunRecord | None:
    """The record of the run as it is remembered from now on; ``None``: it is known to be on another machine.

    What has changed here meanwhile (the run was stopped, or goes on elsewhere) counts. Raises what `Provider.scope`
    raises.
    """
    known = store.find(status.run_id)
    account = known.account if known is not None else None
    if account is None:
        account = machine.provider.scope().rented_in
    record = adopted(
        known,
        status,
        machine.instance,
        now,
        machine.provider.region,
        account,
        lambda before: what_became_of(machine.provider, before, account),
    )
    if record is None or record is known:
        return record
    if known is None:
        store.put(record)
    elif not store.replace(record, known):
        return store.find(status.run_id)
    return record
