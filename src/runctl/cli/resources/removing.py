"""``resources cleanup`` and ``stop-all``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from runctl.cleanup.facts import Include
from runctl.cleanup.listing import Selection
from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.values import DURATION
from runctl.cli.resources.common import PROVIDER, check_provider, warn_of_unread
from runctl.core.money import monthly
from runctl.core.tags import is_ours
from runctl.core.text import counted
from runctl.providers.abilities.inventory import Resource, ResourceKind

if TYPE_CHECKING:
    from runctl.cleanup.plan import CleanupPlan
    from runctl.cleanup.removing import Outcome

FAILED = 1
ALL = "all"


@click.command(
    cls=Command,
    name="cleanup",
    examples=[
        ("runctl resources cleanup --dry-run", "what would go, what stays, and why"),
        ("runctl resources cleanup --include snapshots --older-than 30d", "and old snapshots"),
        (
            "runctl resources cleanup vol-0abc1234def567890 --include volumes",
            "one volume, if nobody needs it",
        ),
    ],
)
@click.argument("references", metavar="[ID|NAME]...", nargs=-1)
@click.option(
    "--include",
    "includes",
    type=click.Choice([*(include.value for include in Include), ALL]),
    multiple=True,
    metavar="WHAT",
    help="Also remove things that may still be needed: "
    + ", ".join(include.value for include in Include)
    + ", or all. Repeatable.",
)
@click.option(
    "--older-than",
    type=DURATION,
    default="1h",
    show_default=True,
    metavar="TIME",
    help="Keep what is newer: a command may still be creating it.",
)
@click.option(
    "--kind",
    "kinds",
    type=click.Choice([kind.value for kind in ResourceKind]),
    multiple=True,
    metavar="KIND",
    help="Only of this kind, as resources list shows it. Repeatable.",
)
@click.option("--project", metavar="NAME", help="Only of this project.")
@PROVIDER
@click.option("--dry-run", is_flag=True, help="Show what would be done, and stop there.")
@click.option("--show-kept", is_flag=True, help="List each thing that stays, not only how many.")
@click.pass_obj
def cleanup_command(
    cli: Cli,
    *,
    references: tuple[str, ...],
    includes: tuple[str, ...],
    older_than: timedelta,
    kinds: tuple[str, ...],
    project: str | None,
    provider: str | None,
    dry_run: bool,
    show_kept: bool,
) -> int:
    """Remove what runctl has made and nobody needs any more.

    That is what interrupted commands left behind, what has outlived its run, and with --include what you name. What
    is protected, persistent, in use or somebody else's stays, and so does what an unfinished run resumes from. Shows
    the plan with the reasons, asks, removes in the order of dependencies, and checks that each thing is gone. If
    interrupted, the same command finishes the job. Exit code 1 means that something could not be removed or read.
    """
    from runctl.cleanup.cleaning import Cleaning

    check_provider(provider)
    cleaning = Cleaning(cli.session, provider=provider)
    selection = Selection(kinds=frozenset(map(ResourceKind, kinds)), project=project, references=references)
    included = frozenset(Include) if ALL in includes else frozenset(map(Include, includes))
    plan = cleaning.plan(selection, older_than=older_than, include=included)
    if dry_run:
        _emit_plan(cli, plan, kept=True)
        return warn_of_unread(cli, plan.unread)
    _say_plan(cli, plan, "to be removed:", kept=show_kept)
    incomplete = warn_of_unread(cli, plan.unread)
    if not plan.remove:
        _emit_outcome(cli, None, "nothing to remove")
        return incomplete
    saved = f", which saves {monthly(plan.usd_per_month)}" if plan.usd_per_month else ""
    cli.confirm(f"Remove {counted(len(plan.remove), 'resource')}{saved}?")
    outcome = cleaning.carry_out(plan)
    _emit_outcome(cli, outcome, "removed")
    return FAILED if outcome.failed else incomplete


@click.command(
    cls=Command,
    name="stop-all",
    examples=[("runctl resources stop-all --dry-run", "which machines would stop, and which would end")],
)
@click.option("--end", is_flag=True, help="End all of them; without it, on-demand machines are only stopped.")
@click.option("--project", metavar="NAME", help="Only those of this project.")
@PROVIDER
@click.option("--dry-run", is_flag=True, help="Show what would be done, and stop there.")
@click.pass_obj
def stop_all_command(cli: Cli, *, end: bool, project: str | None, provider: str | None, dry_run: bool) -> int:
    """Make every machine of yours stop costing by the hour, in all regions.

    What rents machines by itself is removed first, so that none comes back. On-demand machines are stopped: their disks
    stay, and cost. Spot machines cannot be stopped and end; volumes that were attached to them stay. Running runs are
    ended with SIGTERM first, so that they can save. Persistent and protected machines stay as they are.
    """
    from runctl.cleanup.cleaning import RENTING, Cleaning

    check_provider(provider)
    cleaning = Cleaning(cli.session, provider=provider, kinds=RENTING)
    plan = cleaning.plan_stop(Selection(project=project), end=end)
    if dry_run:
        cli.emit(
            {
                "end": _documents(plan.end.remove),
                "stop": _documents(plan.stop.remove),
                "keep": _documents(plan.end.keep),
                "unread": plan.end.unread,
            },
            text=lambda: (
                "\n\n".join(
                    filter(
                        None,
                        [
                            _table("would end:", plan.end.remove),
                            _table("would be stopped:", plan.stop.remove),
                            _table("stays as it is:", plan.end.keep),
                        ],
                    )
                )
                or "nothing costs by the hour"
            ),
            ids=[item.resource.id for item in (*plan.end.remove, *plan.stop.remove)],
        )
        return warn_of_unread(cli, plan.end.unread)
    cli.say(_table("to be ended:", plan.end.remove))
    cli.say(_table("to be stopped:", plan.stop.remove))
    cli.say(_table("stays as it is:", plan.end.keep))
    incomplete = warn_of_unread(cli, plan.end.unread)
    if plan.is_empty:
        _emit_outcome(cli, None, "nothing costs by the hour")
        return incomplete
    runs = cleaning.runs_on([item.resource for item in (*plan.end.remove, *plan.stop.remove)])
    for run in runs:
        cli.progress.warn(
            f"{run.id} ({run.script}) continues on {', '.join(run.machines)}: it is stopped first"
        )
    cli.confirm(
        f"End {len(plan.end.remove)} and stop {len(plan.stop.remove)}?"
        if plan.end.remove
        else f"Stop {counted(len(plan.stop.remove), 'machine')}?"
    )
    cleaning.stop_runs(runs)
    outcome = cleaning.stop(plan)
    _emit_outcome(cli, outcome, "done")
    return FAILED if outcome.failed else incomplete


@click.command(
    cls=Command,
    name="adopt",
    examples=[
        ("runctl resources adopt", "the state file was lost: ask your machines for their runs"),
        ("runctl resources adopt i-0abc1234def567890", "a colleague's machine becomes yours"),
        (
            "runctl resources adopt vol-0abc1234def567890",
            "a volume that another tool has made becomes runctl's",
        ),
    ],
)
@click.argument("references", metavar="[ID|NAME]...", nargs=-1)
@PROVIDER
@click.option("--dry-run", is_flag=True, help="Show what would be taken over, and stop there.")
@click.pass_obj
def adopt_command(cli: Cli, *, references: tuple[str, ...], provider: str | None, dry_run: bool) -> int:
    """Take over what another computer created.

    Without arguments, your own machines are asked for their runs, which this computer remembers from then on: that
    restores all that a lost state file takes with it. What you name becomes yours if it is somebody else's; you are
    asked first. An instance, a volume, a snapshot or a security group that runctl did not create becomes runctl's if
    you name it by its id.
    """
    from runctl.cleanup.adopting import Adoption
    from runctl.cleanup.plan import Item

    check_provider(provider)
    adoption = Adoption(cli.session, provider=provider)
    plan = adoption.plan(references)
    items = [Item(each, _whose(each), None) for each in plan.take_over]
    if dry_run:
        cli.emit(
            {
                "take_over": [each.id for each in plan.take_over],
                "ask": [each.id for each in plan.ask],
                "unread": plan.unread,
            },
            text=lambda: "\n\n".join(
                [
                    *filter(None, [_table("would be taken over:", items, error=False)]),
                    f"would be asked for runs: {', '.join(each.id for each in plan.ask) or 'no machine'}",
                ]
            ),
            ids=[each.id for each in (*plan.take_over, *plan.ask)],
        )
        return warn_of_unread(cli, plan.unread)
    incomplete = warn_of_unread(cli, plan.unread)
    if plan.take_over:
        cli.say(_table("to be taken over:", items))
        cli.confirm(f"Become the owner of {counted(len(plan.take_over), 'resource')}?")
    done = adoption.carry_out(plan)
    for resource, reason in done.failed:
        cli.progress.warn(f"{resource.label} could not be taken over: {reason}")
    cli.emit(
        {
            "resources": [each.id for each in done.resources],
            "runs": done.runs,
            "failed": [{"id": each.id, "reason": reason} for each, reason in done.failed],
        },
        text=lambda: (
            f"taken over: {counted(len(done.resources), 'resource')}; new here: {counted(len(done.runs), 'run')}"
        ),
        ids=[*(each.id for each in done.resources), *done.runs],
    )
    return FAILED if done.failed else incomplete


def _whose(resource: Resource) -> str:
    if is_ours(resource.tags):
        return f"it belongs to {resource.owner or 'nobody'}"
    return "runctl did not create it; as runctl's, it can be changed and deleted by runctl's commands"


def _documents(items: Sequence[Any]) -> list[dict[str, Any]]:
    from runctl.cleanup.listing import Priced
    from runctl.cli.resources.listing import flat

    return [
        {
            **flat(Priced(item.resource, item.usd_per_month)),
            "why": item.why,
            "kept": item.kept.value if item.kept else None,
        }
        for item in items
    ]


def _table(title: str, items: Sequence[Any], *, error: bool = True) -> str:
    from runctl.render.resources import plan_table
    from runctl.render.tables import screen_of

    table = plan_table(items, screen_of(sys.stderr if error else sys.stdout))
    return f"{title}\n{table}" if table else ""


def _emit_plan(cli: Cli, plan: CleanupPlan, *, kept: bool) -> None:
    def text() -> str:
        parts = [
            _table("would be removed:", plan.remove, error=False) or "nothing would be removed",
            _table("stays:", plan.keep, error=False) if kept else "",
            f"saves {monthly(plan.usd_per_month)}" if plan.remove else "",
        ]
        return "\n\n".join(filter(None, parts))

    cli.emit(
        {
            "remove": _documents(plan.remove),
            "keep": _documents(plan.keep),
            "usd_per_month": plan.usd_per_month,
            "unread": plan.unread,
        },
        text=text,
        ids=[item.resource.id for item in plan.remove],
    )


def _say_plan(cli: Cli, plan: CleanupPlan, title: str, *, kept: bool) -> None:
    cli.say(_table(title, plan.remove))
    if kept:
        cli.say(_table("stays:", plan.keep))
    elif plan.keep:
        reasons = dict.fromkeys(item.kept.value for item in plan.keep if item.kept)
        counts = ", ".join(
            f"{sum(item.kept is not None and item.kept.value == reason for item in plan.keep)} {reason}"
            for reason in reasons
        )
        stay = "stays" if len(plan.keep) == 1 else "stay"
        cli.progress.note(f"{counted(len(plan.keep), 'resource')} {stay} ({counts}); --show-kept shows them")


def _emit_outcome(cli: Cli, outcome: Outcome | None, done: str) -> None:
    removed = outcome.done if outcome else ()
    failed = outcome.failed if outcome else ()
    for failure in failed:
        resource = failure.resource
        hint = f" ({failure.hint})" if failure.hint else ""
        cli.progress.warn(f"{resource.label} is as it was: {failure.reason}{hint}")
    cli.emit(
        {
            "done": [{"kind": each.kind, "id": each.id, "region": each.region} for each in removed],
            "failed": [
                {
                    "kind": each.resource.kind,
                    "id": each.resource.id,
                    "region": each.resource.region,
                    "reason": each.reason,
                    "code": each.code,
                    "hint": each.hint,
                }
                for each in failed
            ],
        },
        text=lambda: (
            f"{done}: {counted(len(removed), 'resource')}" + (f", {len(failed)} failed" if failed else "")
            if outcome
            else done
        ),
        ids=[each.id for each in removed],
    )
