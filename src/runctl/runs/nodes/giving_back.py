"""The machines of an ended run are given back together, with what was made beside them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from decimal import Decimal

from runctl._dataclasses import dataclass
from runctl.agent.after_run import Stay
from runctl.core.errors import Conflict, NotFound, RunctlError
from runctl.core.machine_models import Instance
from runctl.machines.nodes import tidy_up
from runctl.machines.session import Session
from runctl.providers.interface import require
from runctl.runs.nodes.asking import confirmed, node_machine, nodes_of, on_each, on_node
from runctl.runs.records.node_records import KnownNode
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import run_store
from runctl.runs.results import GivenBack, give_back
from runctl.runs.unattended.state import goes_on, group_text

GOES_ON = "run-goes-on"
"""The code of a machine's answer, and of ours, where an attempt has not ended."""


@dataclass(frozen=True)
class GivenBackNodes:
    """What became of the machines of a run."""

    machines: tuple[GivenBack, ...]
    """Those that were there still."""
    left: str = ""
    """What else of them is left, in words; empty: nothing."""

    @property
    def stay(self) -> Stay | None:
        """Why some go on; ``None``: all are given back."""
        return next((each.stay for each in self.machines if each.stay is not None), None)

    @property
    def seconds(self) -> float:
        """Of all machines together."""
        return sum(each.seconds for each in self.machines)

    @property
    def cost(self) -> Decimal | None:
        """USD for all of them up to now, without their disks; ``None`` where a price is not known."""
        costs = [each.cost for each in self.machines]
        return None if None in costs else sum((cost for cost in costs if cost is not None), Decimal(0))


def give_back_nodes(session: Session, record: RunRecord, *, wait: bool = True) -> GivenBackNodes:
    """No machine of the run is rented any longer, but for those that something keeps; where none is, their network has
    gone with them. Without ``wait`` nobody waits until they have ended, and their network is `tidy_up_networks`'.

    Raises `Conflict` (code ``run-goes-on``) where rank 0 says that the run goes on, or its group continues it.
    """
    record = _ended(session, record)
    nodes = nodes_of(record)
    session.progress.step(f"giving {len(nodes.nodes)} machines back")
    if record.unattended is not None:
        return _group_ended(session, record, nodes.nodes[0])
    done = tuple(
        each for each in on_each(nodes, lambda node: _give_back(session, record, node)) if each is not None
    )
    found = GivenBackNodes(done)
    tidy_up_networks(session, record)
    if found.stay is not None or not wait:
        return found
    there = session.in_region(record.region)
    left = tidy_up(there, record.provider, nodes.token, wait_for=[each.instance for each in done])
    return GivenBackNodes(done, left)


def _ended(session: Session, record: RunRecord) -> RunRecord:
    """The record of a run that has ended, as rank 0 says where it can be asked. Raises `Conflict`."""
    if goes_on(record):
        raise _run_goes_on(record, group_text(record))
    told = confirmed(session, record)
    if record.has_ended and not told.has_ended:
        raise _run_goes_on(record, f"goes on on {told.instance_id}")
    return told


def _run_goes_on(record: RunRecord, how: str) -> Conflict:
    return Conflict(
        f"{record.id} {how}: its machines are not given back",
        hint=f"runctl runs stop {record.id} ends it",
        code=GOES_ON,
    )


def _group_ended(session: Session, record: RunRecord, head: KnownNode) -> GivenBackNodes:
    """Its group would replace a machine that is given back: rank 0 says whether anything keeps them, else all end."""
    there = session.in_region(record.region)
    try:
        machine = node_machine(session, record, head)
        return GivenBackNodes((give_back(there, machine, on_node(record, head), wait=None),))
    except RunctlError as error:
        if error.code == GOES_ON:
            raise
    require(there.provider(record.provider).groups).end(record.id, session.progress)
    return GivenBackNodes(())


def tidy_up_networks(session: Session, record: RunRecord) -> RunRecord:
    """What was made beside the machines of earlier attempts is gone, where these have ended; the record knows it.

    A machine that its provider takes back uses its network until it is gone: then it is tried again.
    """
    waiting = [each for each in record.past if each.nodes_token is not None]
    if not waiting:
        return record
    there = session.in_region(record.region)
    gone = {
        token for token in (each.nodes_token for each in waiting) if token and _is_tidy(there, record, token)
    }
    if not gone:
        return record
    past = tuple(
        replace(each, nodes_token=None) if each.nodes_token in gone else each for each in record.past
    )
    tidy = replace(record, past=past)
    return tidy if run_store(session).replace(tidy, record) else record


def _is_tidy(session: Session, record: RunRecord, token: str) -> bool:
    try:
        if require(session.provider(record.provider).nodes).find(token):
            return False
    except RunctlError:
        return False
    return not tidy_up(session, record.provider, token)


def _give_back(session: Session, record: RunRecord, node: KnownNode) -> GivenBack | None:
    there = session.in_region(record.region)
    try:
        instance: Instance = there.provider(record.provider).instance(node.instance_id)
    except NotFound:
        return None
    try:
        machine = node_machine(session, record, node)
        # Of the others than rank 0 nothing but the log is wanted, which has been read.
        return give_back(there, machine, on_node(record, node), only_read=False, wait=None)
    except RunctlError as error:
        if error.code == GOES_ON and node.rank == 0:
            raise
        # It does not answer, or the run has gone on without it: it has nothing that could be saved.
        with suppress(NotFound):
            there.rentals(record.provider).give_back(instance.id)
        return GivenBack(instance, None, 0.0)
