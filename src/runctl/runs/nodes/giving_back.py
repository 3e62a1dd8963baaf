"""The machines of an ended run are given back together, with what was made beside them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal

from runctl.agent.after_run import Stay
from runctl.core.errors import NotFound, RunctlError
from runctl.core.machine_models import Instance
from runctl.machines.nodes import tidy_up
from runctl.machines.session import Session
from runctl.runs.nodes.asking import node_machine, nodes_of, on_each, on_node
from runctl.runs.records.node_records import KnownNode
from runctl.runs.records.run_record import RunRecord
from runctl.runs.results import GivenBack, give_back


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


def give_back_nodes(session: Session, record: RunRecord) -> GivenBackNodes:
    """No machine of the run is rented any longer, but for those that something keeps; where none is, their network has
    gone with them."""
    nodes = nodes_of(record)
    session.progress.step(f"giving {len(nodes.nodes)} machines back")
    done = tuple(
        each for each in on_each(nodes, lambda node: _give_back(session, record, node)) if each is not None
    )
    found = GivenBackNodes(done)
    if found.stay is not None:
        return found
    there = session.in_region(record.region)
    left = tidy_up(there, record.provider, nodes.token, wait_for=[each.instance for each in done])
    return GivenBackNodes(done, left)


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
    except RunctlError:
        # It does not answer: it has nothing that could be saved.
        with suppress(NotFound):
            there.rentals(record.provider).give_back(instance.id)
        return GivenBack(instance, None, 0.0)
