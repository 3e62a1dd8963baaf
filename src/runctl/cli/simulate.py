"""``runctl simulate``: what policies of choosing between spot and on-demand would have cost."""

from __future__ import annotations

import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import click

from runctl.agent.deadline import Job, Policy
from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.values import Duration, Price, WholeNumber, trace_means_option, wide_option
from runctl.core.errors import UsageError
from runctl.render.simulation import draw, simulation_text
from runctl.render.tables import screen_of
from runctl.simulation.comparison import compare
from runctl.simulation.traces import Means, Trace, read_traces, synthetic_traces

PRICE = Price("1.25, for example")
SYNTHETIC = ("--pools", "--between-interruptions", "--availability", "--seed")
"""What random traces are made by."""


class _Share(click.ParamType[float]):
    name = "share"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            share = float(value)
        except ValueError:
            share = 0.0
        if not 0 < share <= 1:
            self.fail(f"{value!r} is not a share; write 0.9 for 90 %", param, ctx)
        return share


@click.command(
    cls=Command,
    needs=[("--trace-means", "--trace")],
    exclusive=[("--trace", option) for option in SYNTHETIC],
)
@click.option(
    "--trace",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The capacity of one pool, as JSON; repeat it for several pools.",
)
@trace_means_option
@click.option("--job", required=True, type=Duration(), help="How long the run takes without interruptions.")
@click.option("--deadline", required=True, type=Duration(), help="How long it may take.")
@click.option(
    "--restart",
    type=Duration(),
    default="3m",
    show_default=True,
    help="How long another machine takes until the run makes progress on it.",
)
@click.option(
    "--policy",
    "policies",
    multiple=True,
    type=click.Choice([policy.value for policy in Policy]),
    help="Only this policy; may be repeated.",
)
@click.option(
    "--spot-price", type=PRICE, default="0.3", show_default=True, help="Of a spot machine, per hour."
)
@click.option(
    "--on-demand-price",
    type=PRICE,
    default="1",
    show_default=True,
    help="Of an on-demand machine, per hour.",
)
@click.option(
    "--runs",
    type=WholeNumber(1, 10_000),
    default="100",
    show_default=True,
    help="How many runs, started at moments spread evenly over the traces.",
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE|-",
    help="Draw it into an .svg, .png or .pdf file; - draws it in the terminal, below the table.",
)
@click.option(
    "--pools", type=WholeNumber(1, 20), default="3", show_default=True, help="Without traces: how many pools."
)
@click.option(
    "--between-interruptions",
    type=Duration(),
    default="6h",
    show_default=True,
    help="Without traces: how long a pool has capacity, on average.",
)
@click.option(
    "--availability",
    type=_Share(),
    default="0.9",
    show_default=True,
    help="Without traces: the share of time in which a pool has capacity.",
)
@click.option(
    "--seed", type=WholeNumber(0), default="0", show_default=True, help="Without traces: which random ones."
)
@wide_option
@click.pass_obj
def simulate(
    cli: Cli,
    files: tuple[Path, ...],
    trace_means: Means,
    job: timedelta,
    deadline: timedelta,
    restart: timedelta,
    policies: tuple[str, ...],
    spot_price: Decimal,
    on_demand_price: Decimal,
    runs: int,
    plot: Path | None,
    pools: int,
    between_interruptions: timedelta,
    availability: float,
    seed: int,
    wide: bool,
) -> None:
    """Compare what spot and on-demand policies would have cost.

    Runs are replayed over traces of spot capacity, one for each pool (an instance type in a zone), or over random
    ones. Nothing is rented. Prices may be in any currency; the defaults count in hours on demand.
    """
    if job + restart > deadline:
        raise UsageError("the deadline cannot be kept: it is shorter than the job and one restart")
    if not job:
        raise UsageError("--job is 0")
    traces: list[Trace]
    if files:
        traces = read_traces(files, trace_means)
    else:
        traces = synthetic_traces(
            pools,
            between_interruptions=between_interruptions.total_seconds(),
            availability=availability,
            length=max(timedelta(days=45), 3 * deadline).total_seconds(),
            seed=seed,
        )
    what = Job(
        work=job.total_seconds(),
        deadline=deadline.total_seconds(),
        restart=restart.total_seconds(),
        tick=traces[0].gap,
        spot_price=float(spot_price / on_demand_price),
    )
    chosen = [policy for policy in Policy if not policies or policy.value in policies]
    found = compare(traces, chosen, what, spot_price=spot_price, on_demand_price=on_demand_price, runs=runs)
    in_terminal = plot is not None and str(plot) == "-"
    if plot is not None and not in_terminal:
        draw(found, plot)
    cli.emit(
        found,
        text=lambda: simulation_text(found, screen_of(sys.stdout, wide=wide), chart=in_terminal),
        ids=[f"{result.policy.value}={result.saved}" for result in found.policies],
    )
