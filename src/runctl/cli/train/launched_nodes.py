"""A launch on several machines to its end: the merged log, rank 0's results brought home, all machines given back."""

from __future__ import annotations

from runctl.agent.end_reason import RETRIED
from runctl.agent.object_store import is_address
from runctl.cli.context import Cli
from runctl.cli.runs.attempts import recovered
from runctl.cli.runs.node_logs import show_node_logs
from runctl.cli.train.launched import bring_home
from runctl.core.errors import Interrupted
from runctl.core.money import usd
from runctl.core.text import counted
from runctl.providers.registry import command
from runctl.runs.fetched import with_fetched
from runctl.runs.nodes.asking import node_machine, nodes_of, on_node
from runctl.runs.nodes.giving_back import GivenBackNodes, give_back_nodes
from runctl.runs.records.run_record import RunRecord
from runctl.runs.recovering.watching import DeadlineWatch
from runctl.runs.results import GivenBack, launch_end


def nodes_to_the_end(cli: Cli, record: RunRecord) -> int:
    """As for one machine; the exit code that ``--wait`` promises."""
    if cli.settings.quiet:
        cli.write(record.id)
    while True:
        with DeadlineWatch(cli.session, record):
            code = show_node_logs(cli, record, follow=True, document=True)
        shown, record = record.attempt, cli.store.get(record.id)
        if record.attempt > shown and not record.has_ended:
            # It was moved while its logs were read.
            following: RunRecord | None = record
        else:
            following = recovered(cli, record) if record.end_reason in RETRIED else None
        if following is None:
            break
        record = following
    head = nodes_of(record).nodes[0]
    results = None
    if record.results is not None and not is_address(record.results):
        machine = node_machine(cli.session, record, head)
        results = bring_home(cli, machine, on_node(record, head), record.results)
    ended = give_machines_back(cli, record)
    if cli.settings.json:
        cli.emit(launch_end(with_fetched(cli.session, record), results, ended), text=str)
    return code


def give_machines_back(cli: Cli, record: RunRecord) -> GivenBack | None:
    """The machines of an ended run are given back together, and it is said what they cost, or why some stay; ``None``
    where they were not rented for it, or are kept."""
    if record.machine_end is None:
        return None
    if record.machine_end.keep:
        end_them = command(record.provider, "terminate", *record.machines)
        cli.say(f"the machines stay, and are billed until they are terminated: {end_them}")
        return None
    try:
        done = give_back_nodes(cli.session, record)
    except KeyboardInterrupt:
        raise Interrupted(
            "interrupted: the machines end themselves, as the run has ended",
            hint=f"{command(record.provider, 'list')} shows them",
        ) from None
    if done.machines:
        cli.say(_told(record, done))
    if done.left:
        cli.progress.warn(f"{done.left}; runctl resources cleanup removes it")
    if not done.machines:
        return None
    return GivenBack(done.machines[0].instance, done.stay, done.seconds)


def _told(record: RunRecord, done: GivenBackNodes) -> str:
    many = counted(len(done.machines), "machine")
    if done.stay is not None:
        end_them = command(record.provider, "terminate", *(each.instance.id for each in done.machines))
        return f"{many} stay: {done.stay.why}; {end_them} ends them at once"
    if done.cost is None:
        return f"{many} given back after {done.seconds:.0f} s together"
    return f"cost: {usd(done.cost)} ({done.seconds:.0f} s of {many} together); all are given back"
