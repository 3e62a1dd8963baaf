"""Put one fault after the other into commands, and look at what is left: ``python -m tests.faults.campaign``."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from runctl.sandbox import control
from tests.faults.account import OWNED, Account, Done, Thing
from tests.faults.clouds import CLOUDS
from tests.faults.jobs import JOBS
from tests.faults.leaks import Leak, cleaned, leak_point
from tests.faults.leaks import table as leak_table
from tests.faults.proxy import FAULTS, is_change
from tests.faults.scenarios import SCENARIOS, Scenario

_TAGGED = {
    "instance",
    "volume",
    "root disk",
    "snapshot",
    "spot request",
    "role",
    "instance profile",
    "bucket",
}
COMMANDS: Mapping[str, type[Scenario]] = {**SCENARIOS, **CLOUDS, **JOBS}
_MOST = 2
_LISTED = {
    "instance": ("aws", "list"),
    "volume": ("aws", "ebs", "list"),
    "snapshot": ("aws", "ebs", "snapshots"),
}


@dataclass(frozen=True)
class Finding:
    """One command with one fault, and the same command once more where that was needed."""

    scenario: str
    fault: str
    at: str
    """The calls that went wrong, each by name."""
    occurrence: int
    """Of that call, from 1."""
    code: int
    """The command's exit code."""
    again: int | None
    """That of the same command once more; ``None`` where the first one succeeded."""
    seconds: float
    problems: tuple[str, ...]
    error: str = ""
    """The last words of whichever command failed last."""


@dataclass
class Table:
    """The findings of a campaign, as they are counted."""

    findings: list[Finding] = field(default_factory=list)

    def markdown(self) -> str:
        """A row for each command and fault."""
        rows: dict[tuple[str, str], list[Finding]] = {}
        for finding in self.findings:
            rows.setdefault((finding.scenario, finding.fault), []).append(finding)
        lines = [
            "| command | fault | points | withstood | the same command again did it | problems |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for (scenario, fault), found in rows.items():
            withstood = sum(each.again is None for each in found)
            mended = sum(each.again == 0 for each in found)
            bad = sum(bool(each.problems) for each in found)
            lines.append(f"| {scenario} | {fault} | {len(found)} | {withstood} | {mended} | {bad} |")
        kinds = Counter(problem.partition(":")[0] for each in self.findings for problem in each.problems)
        lines += ["", *(f"- {kind}: {count}" for kind, count in kinds.most_common())]
        return "\n".join(lines)


def point(scenario: Scenario, fault: str, call: str = "", occurrence: int = 1, **arm: Any) -> Finding | None:
    """Put the fault at one call of the command and judge what is left; ``None`` where there is no such call."""
    account = scenario.account
    scenario.begin()
    before = account.things()
    first = account.run(*scenario.command(), cwd=scenario.cwd, fault=fault, match=call, at=occurrence, **arm)
    if not first.faults:
        return None
    problems = [*_misbehaved(first)]
    second: Done | None = None
    if first.code != 0:
        problems += _unmarked(account, before)
        second = account.run(*scenario.command(), cwd=scenario.cwd)
        problems += _misbehaved(second)
        if second.code != 0:
            problems.append(f"refused again: {second.err.strip()[-300:]}")
    after = account.things()
    counts = Counter(thing.kind for thing in after.values() if thing.id not in before)
    problems += [
        f"too many: {counts[kind]} of {kind}" for kind, most in scenario.makes.items() if counts[kind] > most
    ]
    missing = scenario.missing(before, after)
    if missing:
        problems.append(f"not done: {missing}")
    left = [thing.id for thing in after.values() if thing.kind == "staging object"]
    if left and first.code == 0:
        problems.append(f"left in the bucket: {left}")
    last = second or first
    return Finding(
        type(scenario).__name__,
        fault,
        ", ".join(first.faults),
        occurrence,
        first.code,
        second.code if second else None,
        first.seconds,
        tuple(problems),
        last.err.strip()[-300:] if last.code else "",
    )


def calls_of(scenario: Scenario) -> list[str]:
    """What the command asks of AWS when nothing goes wrong."""
    scenario.begin()
    done = scenario.account.run(*scenario.command(), cwd=scenario.cwd, at=0)
    assert done.code == 0, done.err
    return [call.name for call in done.calls]


def points(calls: Sequence[str], *, changes_only: bool = False) -> list[tuple[str, int]]:
    """The calls worth a fault, as name and occurrence: of one that is made again and again, the first two. Pure.

    By name, because several threads ask: the order is another each time.
    """
    counts = Counter(calls)
    return [
        (name, occurrence)
        for name in dict.fromkeys(calls)
        for occurrence in range(1, min(counts[name], _MOST) + 1)
        if is_change(name) or not changes_only
    ]


def _misbehaved(done: Done) -> Iterator[str]:
    if done.hung:
        yield "hangs: it was ended after a while"
    if "Traceback (most recent call last)" in done.err or "bug in runctl" in done.err:
        yield f"a bug in runctl: {done.err.strip()[-300:]}"


def _unmarked(account: Account, before: Mapping[str, Thing]) -> Iterator[str]:
    """What a killed command has left, and nobody would find."""
    created = [thing for thing in account.things().values() if thing.id not in before]
    for thing in created:
        if thing.kind in _TAGGED and thing.tags.get(OWNED) != "true":
            yield f"without our tag: {thing.kind} {thing.id}"
    for kind, command in _LISTED.items():
        of_kind = [thing.id for thing in created if thing.kind == kind]
        listed = account.run(*command, "--quiet").out.split() if of_kind else []
        yield from (f"not listed: {kind} {identifier}" for identifier in of_kind if identifier not in listed)


def main(argv: Sequence[str] | None = None) -> int:
    """0 when nothing was found; the table is on stdout, one JSON line a point in ``--out``."""
    options = _parser().parse_args(argv)
    names = [name for name in COMMANDS if options.leaks or name not in JOBS]
    if options.command != ["all"]:
        names = options.command
    table = Table()
    leaks: list[Leak] = []
    with tempfile.TemporaryDirectory(prefix="runctl-campaign-") as name:
        home = Path(name) / "sandbox"
        info = control.start(home=home, docker="off")
        try:
            with Account(info, Path(name)).opened() as account:
                for finding in _campaign(account, names, options):
                    if isinstance(finding, Leak):
                        leaks.append(finding)
                    else:
                        table.findings.append(finding)
                    _tell(finding, options.out)
        except KeyboardInterrupt:
            sys.stderr.write("interrupted: the table is of what was done so far\n")
        finally:
            control.stop(home=home)
    sys.stdout.write((leak_table(leaks) if options.leaks else table.markdown()) + "\n")
    return 1 if any(f.problems for f in table.findings) or any(leak.problems for leak in leaks) else 0


def _campaign(
    account: Account, names: Sequence[str], options: argparse.Namespace
) -> Iterator[Finding | Leak]:
    for name in names:
        scenario = COMMANDS[name](account, options.transport)
        put = leak_point if options.leaks else point
        calls = calls_of(scenario)
        if options.show:
            sys.stdout.write(f"{name}: {' '.join(f'{call}={n}' for call, n in Counter(calls).items())}\n")
            continue
        chosen = points(calls, changes_only=options.changes)
        if options.leaks:
            # Roles and buckets are made again each time, too.
            times, ended, problems = cleaned(account, scenario.where)
            if problems:
                yield Leak(type(scenario).__name__, "none", "", 0, 0, {}, times, ended, 0.0, tuple(problems))
        if options.calls:
            chosen = [each for each in chosen if each[0] in options.calls]
        for fault in options.fault:
            for call, occurrence in chosen:
                found = put(scenario, fault, call, occurrence, always=options.always, seconds=options.seconds)
                if found is not None:
                    yield found


def _tell(finding: Finding | Leak, out: Path | None) -> None:
    if isinstance(finding, Leak):
        went_well = f"left {dict(finding.left) or 'nothing'}, cleaned up"
    else:
        went_well = "withstood" if finding.again is None else "done by the second"
    state = "; ".join(finding.problems) or went_well
    sys.stderr.write(f"{finding.scenario:18} {finding.fault:12} {finding.at} {finding.occurrence}: {state}\n")
    if out is not None:
        with out.open("a") as file:
            file.write(json.dumps(asdict(finding)) + "\n")


def _parser() -> argparse.ArgumentParser:
    faults = "\n".join(f"  {name:14} {phrase}" for name, phrase in FAULTS.items())
    parser = argparse.ArgumentParser(
        prog="scripts/campaign",
        description="Runs commands in a sandbox of its own, with one fault at each of their calls to a provider, then"
        " the same command once more, and says what is left: things made twice, jobs not done, what no list shows.",
        epilog=f"commands:\n  {', '.join(COMMANDS)}\n\nfaults:\n{faults}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "command",
        nargs="*",
        default=["all"],
        choices=[*COMMANDS, "all"],
        metavar="COMMAND",
        help="default: all",
    )
    parser.add_argument(
        "--fault", nargs="+", default=["kill_after", "drop_after"], choices=FAULTS, metavar="FAULT"
    )
    parser.add_argument("--calls", nargs="+", metavar="CALL", help="only at these, such as ec2:CreateVolume")
    parser.add_argument(
        "--show", action="store_true", help="only show the calls of each command, and how often each is made"
    )
    parser.add_argument(
        "--leaks",
        action="store_true",
        help="instead of the same command again: is all that is left listed, and does a cleanup remove it?",
    )
    parser.add_argument("--changes", action="store_true", help="only at calls that change something")
    parser.add_argument("--always", action="store_true", help="the fault stays, from that call on")
    parser.add_argument("--seconds", type=float, default=70, help="of the fault delay (default: 70)")
    parser.add_argument("--transport", choices=["auto", "ssm"], default="auto")
    parser.add_argument("--out", type=Path, help="write one JSON line a point there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
