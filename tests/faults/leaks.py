"""What a command that was cut short leaves is listed, and a cleanup removes all of it: ``campaign --leaks``."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.faults.account import Account, Done, Thing
from tests.faults.scenarios import Scenario

LIST = ("resources", "list", "--output", "json")
CLEANUP = ("resources", "cleanup", "--older-than", "0.001s", "--include", "all", "--yes", "--output", "json")
_RUN = re.compile(r"run-[0-9a-z]{10}")
PATIENCE_SECONDS = 90.0
"""Somebody else's end of a machine takes a while to be seen."""


@dataclass(frozen=True)
class Leak:
    """One command with one fault, and the cleanup after it."""

    scenario: str
    fault: str
    at: str
    """The calls that went wrong, each by name."""
    occurrence: int
    code: int
    """The command's exit code."""
    left: Mapping[str, int]
    """What it left, by kind."""
    cleanups: int
    """How many it took until nothing was left."""
    ended: bool
    """A run's machine waited for its results to be fetched, and was ended on purpose (``stop-all``)."""
    seconds: float
    problems: tuple[str, ...]
    error: str = ""


def leak_point(
    scenario: Scenario, fault: str, call: str = "", occurrence: int = 1, **arm: Any
) -> Leak | None:
    """Put the fault at one call of the command and clean up; ``None`` where there is no such call."""
    account = scenario.account
    scenario.begin()
    before = everything(account)
    began = time.monotonic()
    done = account.run(*scenario.command(), cwd=scenario.cwd, fault=fault, match=call, at=occurrence, **arm)
    if not done.faults:
        # It did not make this call this time, and came to its end.
        cleaned(account, scenario.where)
        return None
    problems = [*_misbehaved(done)]
    there = everything(account)
    new = Counter(thing.kind for thing in there.values() if thing.id not in before)
    problems += [
        f"too many: {new[kind]} of {kind}" for kind, most in scenario.makes.items() if new[kind] > most
    ]
    problems += _unlisted(account, there, scenario.where)
    cleanups, ended, more = cleaned(account, scenario.where)
    problems += more
    return Leak(
        type(scenario).__name__,
        fault,
        ", ".join(done.faults),
        occurrence,
        done.code,
        dict(new),
        cleanups,
        ended,
        round(time.monotonic() - began, 1),
        tuple(problems),
        done.err.strip()[-300:] if problems else "",
    )


def everything(account: Account) -> dict[str, Thing]:
    """All that a command can have made, the templates, groups and uploads as well."""
    found = account.things()
    for item in account.ec2.describe_launch_templates()["LaunchTemplates"]:
        found[item["LaunchTemplateId"]] = Thing(item["LaunchTemplateId"], "launch template", "", {})
    for item in account.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]:
        name = item["AutoScalingGroupName"]
        found[f"group/{name}"] = Thing(f"group/{name}", "group", "", {})
    for bucket in account.s3.list_buckets()["Buckets"]:
        for upload in account.s3.list_multipart_uploads(Bucket=bucket["Name"]).get("Uploads", ()):
            name = f"upload/{bucket['Name']}/{upload['Key']}"
            found[name] = Thing(name, "upload", "", {})
    for budget in account.client("budgets").describe_budgets(AccountId=ACCOUNT).get("Budgets", ()):
        found[f"{ALARM}/{budget['BudgetName']}"] = Thing(f"{ALARM}/{budget['BudgetName']}", ALARM, "", {})
    return {key: thing for key, thing in found.items() if not key.startswith(f"bucket/{SOURCE}")}


ACCOUNT = "123456789012"
ALARM = "budget alarm"
"""It costs nothing and is no resource: ``aws setup --remove`` shows it and takes it back."""
SETUP = ("aws", "setup", "--remove")
OF_THE_ACCOUNT = frozenset({"role", "instance profile"})
MACHINES = frozenset({"instance", "pod", "vm"})
SOURCE = "leaks-source"
"""The user's own bucket, which a prewarm reads from."""


def _unlisted(account: Account, there: Mapping[str, Thing], where: Sequence[str]) -> Iterator[str]:
    done = account.run(*LIST, *where)
    if done.code != 0:
        yield f"the list is not complete: {done.err.strip()[-300:]}"
        return
    listed = {each["id"].partition("?")[0] for each in json.loads(done.out)["resources"]}
    if any(thing.kind == ALARM for thing in there.values()):
        shown = account.run(*SETUP, "--dry-run", "--output", "json")
        listed |= {part["name"] for part in json.loads(shown.out)["parts"]}
    # The disk of a machine that is ending may have gone meanwhile.
    still = everything(account).keys()
    for thing in (each for key, each in there.items() if key in still):
        # What a fleet asks for spot machines with has no tag, and goes with its instance.
        along = thing.kind == "spot request" and set(thing.attached_to) & listed
        if _id_of(thing) not in listed and not along:
            yield f"not listed: {thing.kind} {thing.id}"


def _id_of(thing: Thing) -> str:
    kind, slash, rest = thing.id.partition("/")
    if kind in {"object", "upload"} and slash:
        return f"s3://{rest}"
    return rest if slash else thing.id


def cleaned(account: Account, where: Sequence[str]) -> tuple[int, bool, list[str]]:
    """How many cleanups it took, whether a machine had to be ended on purpose, and what is wrong; ``where`` is
    `Scenario.where`."""
    number, ended, limit = 0, False, time.monotonic() + PATIENCE_SECONDS
    stopped: set[str] = set()
    looked: Sequence[str] = where
    while True:
        number += 1
        done = account.run(*CLEANUP, *looked)
        problems = [*_misbehaved(done)]
        if done.code != 0:
            problems.append(f"the cleanup failed: {done.err.strip()[-300:]}")
        left = everything(account)
        if left and all(thing.kind == ALARM for thing in left.values()):
            account.ok(*SETUP, "--yes")
            left = everything(account)
        # What a run goes on from, or its next machine needs, stays until somebody says that it is not to go on.
        none_rented = all(thing.kind not in MACHINES for thing in left.values())
        unfinished = _runs_left(account, where) - stopped if none_rented and not problems else set()
        for run in unfinished:
            account.run("runs", "stop", run)
        stopped |= unfinished
        if unfinished:
            continue
        if problems or not left:
            break
        if all(thing.kind in OF_THE_ACCOUNT for thing in left.values()):
            # Machines of any region may use them: they go only when all regions were looked at.
            looked = ()
        if time.monotonic() > limit:
            problems.append(f"left: {', '.join(f'{thing.kind} {thing.id}' for thing in left.values())}")
            problems.append(f"because: {done.err.strip()[-600:]}")
            break
        if not ended and any(thing.kind in MACHINES for thing in left.values()):
            ended = True
            account.run("resources", "stop-all", "--end", "--yes", *where)
        else:
            time.sleep(2)
    listed = account.run("resources", "list", "--quiet", *where)
    if (listed.code, listed.out.strip()) != (0, "") and not problems:
        problems.append(f"still listed: {listed.out.split()} {listed.err.strip()[-300:]}")
    return number, ended, problems


def _runs_left(account: Account, where: Sequence[str]) -> set[str]:
    """The runs of which something is listed."""
    return set(_RUN.findall(account.run(*LIST, *where).out))


def _misbehaved(done: Done) -> Iterator[str]:
    if done.hung:
        yield "hangs: it was ended after a while"
    if "Traceback (most recent call last)" in done.err or "bug in runctl" in done.err:
        yield f"a bug in runctl: {done.err.strip()[-300:]}"


def table(leaks: list[Leak]) -> str:
    """A row for each command and fault."""
    rows: dict[tuple[str, str], list[Leak]] = {}
    for leak in leaks:
        rows.setdefault((leak.scenario, leak.fault), []).append(leak)
    lines = [
        "| command | fault | points | left something | waited for its results | leaks and duplicates |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for (scenario, fault), found in rows.items():
        something = sum(bool(each.left) for each in found)
        bad = sum(bool(each.problems) for each in found)
        ended = sum(each.ended for each in found)
        lines.append(f"| {scenario} | {fault} | {len(found)} | {something} | {ended} | {bad} |")
    total, bad = len(leaks), sum(bool(each.problems) for each in leaks)
    return "\n".join([*lines, "", f"{total} points, {bad} with problems"])
