"""What the policies cost on the public traces of "Can't Be Late" (NSDI 2024), and how fast they are replayed.

``RUNCTL_SPOT_TRACES`` names a folder with the three of github.com/skypilot-org/spot-traces for p3.2xlarge in us-west-2.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from benchmarks.measure import Result, Skipped
from runctl.agent.deadline import Job, Policy
from runctl.simulation.comparison import PolicyResult, compare
from runctl.simulation.replay import replay
from runctl.simulation.traces import read_traces

HOUR = 3600.0
RUNS = 300


def measure() -> Iterator[Result]:
    """Cost against on-demand alone and against the greedy policy, late runs, and the time for one start."""
    folder = os.environ.get("RUNCTL_SPOT_TRACES")
    files = sorted(Path(folder).glob("*p3.2xlarge*.json")) if folder else []
    if len(files) != 3:
        raise Skipped("RUNCTL_SPOT_TRACES does not name a folder with the three public traces")
    traces = read_traces(files)
    job = Job(work=48 * HOUR, deadline=52 * HOUR, restart=180.0, tick=traces[0].gap)
    prices = {"spot_price": Decimal("0.3"), "on_demand_price": Decimal(1)}
    found = compare(traces, list(Policy), job, runs=RUNS, **prices)
    by: dict[Policy, PolicyResult] = {result.policy: result for result in found.policies}
    what, ours = "48 h in 52 h, three zones, 3 min restarts, cost", by[Policy.DEADLINE]
    for peer, target in (
        (Policy.ON_DEMAND, 0.335),
        (Policy.SPOT_THEN_ON_DEMAND, None),
        (Policy.UNIFORM_PROGRESS, None),
    ):
        theirs = float(by[peer].cost)
        yield Result(what, float(ours.cost), f"policy {peer.value}", theirs, RUNS, target, "h on demand")
    yield Result("the same, runs that were late", ours.late, "", None, RUNS, 0.0, "runs")

    whole = len(traces[0].available) * traces[0].gap
    long = replace(job, work=whole - 100 * HOUR, deadline=whole - 10 * HOUR)
    spent = []
    for _ in range(9):
        began = time.process_time()
        replay(Policy.DEADLINE, long, traces, 0)
        spent.append(time.process_time() - began)
    days = whole / 86_400
    yield Result(f"{days:.0f} days replayed, CPU time", statistics.median(spent), "", None, 9, 0.1)
