"""``python -m benchmarks``: measure, print, and write the table into the documentation."""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import sys

from benchmarks.measure import Result, Skipped
from benchmarks.table import PAGE, put_into, render, row, rows_of

NAMES = (
    "startup",
    "vendors",
    "listing",
    "resources",
    "sync",
    "prewarm",
    "checkpoint",
    "interruption",
    "agent",
    "top",
    "log_latency",
    "dev_mode",
    "docker_build",
    "several_machines",
    "export",
    "ledger",
    "simulation",
)


def main() -> int:
    """1 when a target was missed."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description="Measure the numbers of docs/benchmarks.md."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all without any")
    parser.add_argument("--no-write", action="store_true", help="leave docs/benchmarks.md as it is")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")

    today = dt.datetime.now(dt.UTC).date()
    results: list[Result] = []
    skipped: dict[str, str] = {}
    for name in options.names or NAMES:
        print(f"{name} …", file=sys.stderr)
        try:
            for result in importlib.import_module(f"benchmarks.{name}").measure():
                print(row(result, today), flush=True)
                results.append(result)
        except Skipped as reason:
            skipped[name] = str(reason)
            print(f"not measured: {reason}", file=sys.stderr)
    if not options.no_write:
        page = PAGE.read_text()
        # A part of them leaves the others' rows as they are.
        before = rows_of(page) if options.names else []
        PAGE.write_text(put_into(page, render(results, skipped, today, before)))
    return 1 if any(result.met is False for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
