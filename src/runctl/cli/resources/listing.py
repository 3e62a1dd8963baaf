"""``resources list``, ``show``, ``summary`` and ``export``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runctl.cleanup.listing import GroupKey, Priced, SortKey, by_group, grouped, in_order
from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.values import COUNT, check_format, format_option, wide_option
from runctl.cli.resources.common import EVERYONE, PROVIDER, check_provider, filters, selection, warn_of_unread
from runctl.core.clock import SystemClock
from runctl.core.text import counted

if TYPE_CHECKING:
    from runctl.cleanup.overview import Overview


@click.command(
    cls=Command,
    name="list",
    examples=[
        ("runctl resources list --kind volume --older-than 7d", "volumes that exist for a week"),
        ("runctl resources list --sort cost --region us-east-1", "of one region, the most expensive first"),
        ("runctl resources list --group-by project", "each project by itself, with its sum"),
    ],
)
@click.argument("references", metavar="[ID|NAME]...", nargs=-1)
@filters
@EVERYONE
@click.option(
    "--sort",
    type=click.Choice([key.value for key in SortKey]),
    default=SortKey.KIND.value,
    show_default=True,
    help="The oldest, the most expensive or the largest first.",
)
@click.option(
    "--group-by",
    type=click.Choice([key.value for key in GroupKey]),
    help="Group by this, with a sum for each group; --sort orders what is in a group.",
)
@click.option("--limit", type=COUNT, metavar="N", help="Show at most N of them.")
@format_option("The format on stdout; resources export writes a file.")
@wide_option
@click.pass_obj
def list_command(
    cli: Cli,
    /,
    *,
    references: tuple[str, ...],
    provider: str | None,
    everyone: bool,
    sort: str,
    group_by: str | None,
    limit: int | None,
    form: str,
    wide: bool,
    **chosen: Any,
) -> int:
    """List everything that runctl has made: every kind, in all regions at once.

    Your own, and what the account shares. Exit code 1 means that something could not be read; it is named, and
    never taken for empty.
    """
    from runctl.cleanup.overview import overview

    check_format(form, as_json=cli.settings.json)
    check_provider(provider)
    found = overview(
        cli.session, selection(references=references, **chosen), provider=provider, everyone=everyone
    )
    ordered = in_order(found.resources, SortKey(sort))
    if group_by is not None:
        ordered = [each for part in by_group(ordered, GroupKey(group_by)).values() for each in part]
    shown = ordered if limit is None else ordered[:limit]

    def text() -> str:
        from runctl.render.resources import grouped_tables, resources_table
        from runctl.render.tables import screen_of

        now, screen = SystemClock().now(), screen_of(sys.stdout, wide=wide)
        if group_by is not None:
            return grouped_tables(shown, GroupKey(group_by), now, owners=everyone, screen=screen)
        return resources_table(shown, now, owners=everyone, screen=screen)

    if form == "table":
        cli.emit(
            _parts(shown, found),
            text=text,
            ids=[each.resource.id for each in shown],
        )
    else:
        cli.write(_written(form, shown, found))
    _note_nothing(cli, found)
    if len(shown) < len(ordered):
        cli.progress.note(f"{len(ordered) - len(shown):,} more are not shown (--limit)")
    return warn_of_unread(cli, found.unread)


def _written(form: str, shown: Sequence[Priced], found: Overview) -> str:
    """The list as a whole document."""
    from runctl.render import resources
    from runctl.render.json import document

    if form == "csv":
        return resources.as_csv(shown)
    if form == "html":
        return resources.as_page(shown, found.unread, found.regions, SystemClock().now())
    return document(_parts(shown, found)) + "\n"


def _parts(shown: Sequence[Priced], found: Overview) -> dict[str, Any]:
    """The list as the JSON contract has it."""
    return {"resources": [flat(each) for each in shown], "unread": found.unread, "regions": found.regions}


def _note_nothing(cli: Cli, found: Overview) -> None:
    """It is said of an empty list whether there is anything at all; one with a hole is not called empty."""
    if found.resources or found.unread:
        return
    if found.others:
        are = "is" if found.others == 1 else "are"
        cli.progress.note(
            f"nothing of what runctl has made is like that; {counted(found.others, 'resource')} {are} not"
        )
    else:
        cli.progress.note("nothing that runctl has made is there")


def flat(priced: Priced) -> dict[str, Any]:
    """As the JSON contract has it: the resource's own fields, and its price."""
    from dataclasses import fields

    resource = priced.resource
    return {
        **{each.name: getattr(resource, each.name) for each in fields(resource)},
        "price_per_month": priced.usd_per_month,
    }


@click.command(cls=Command, name="show")
@click.argument("reference", metavar="ID|NAME")
@PROVIDER
@click.pass_obj
def show_command(cli: Cli, *, reference: str, provider: str | None) -> int:
    """Show one resource, and whether a cleanup would remove it.

    Names are compared exactly.
    """
    from runctl.cleanup.overview import detail

    check_provider(provider)
    found = detail(cli.session, reference, provider=provider)

    def text() -> str:
        from runctl.render.resources import resource_details

        return resource_details(found, SystemClock().now())

    priced = Priced(found.resource, found.usd_per_month)
    document = {**flat(priced), "removable": found.verdict.removable, "why": found.verdict.why}
    cli.emit(document, text=text, ids=[found.resource.id])
    return 0


@click.command(
    cls=Command,
    name="summary",
    examples=[("runctl resources summary --group-by region", "what there is in each region")],
)
@click.option(
    "--group-by",
    type=click.Choice([key.value for key in GroupKey]),
    default=GroupKey.KIND.value,
    show_default=True,
    help="What to group by.",
)
@filters
@EVERYONE
@click.pass_obj
def summary_command(
    cli: Cli, /, *, group_by: str, provider: str | None, everyone: bool, **chosen: Any
) -> int:
    """Count what runctl has made, with its size and its cost per month."""
    from runctl.cleanup.overview import overview

    check_provider(provider)
    found = overview(cli.session, selection(**chosen), provider=provider, everyone=everyone)
    groups = grouped(found.resources, GroupKey(group_by))

    def text() -> str:
        from runctl.render.resources import summary_table

        return summary_table(groups, group_by)

    cli.emit(
        {"groups": groups, "unread": found.unread, "regions": found.regions},
        text=text,
        ids=[group.name for group in groups],
    )
    return warn_of_unread(cli, found.unread)


@click.command(cls=Command, name="insights")
@PROVIDER
@click.option(
    "--cached",
    is_flag=True,
    help="Ask neither machines nor providers what is used.",
)
@click.pass_obj
def insights_command(cli: Cli, *, provider: str | None, cached: bool) -> int:
    """Show what could cost less: the saving per month and the exact command, the largest first.

    Nothing is changed.
    """
    from runctl.cleanup.overview import advice

    check_provider(provider)
    found = advice(cli.session, provider=provider, measure=not cached)

    def text() -> str:
        from runctl.render.resources import insights_text

        return insights_text(found.insights) or "nothing to change"

    cli.emit(
        {
            "insights": [
                {
                    "kind": each.kind,
                    "resource_kind": each.resource.kind,
                    "id": each.resource.id,
                    "region": each.resource.region,
                    "message": each.message,
                    "usd_per_month": each.usd_per_month,
                    "command": each.command,
                }
                for each in found.insights
            ],
            "unread": found.unread,
            "unmeasured": found.unmeasured,
        },
        text=text,
        ids=[each.resource.id for each in found.insights],
    )
    for sentence in found.unmeasured:
        cli.progress.note(sentence)
    return warn_of_unread(cli, found.unread)


@click.command(
    cls=Command,
    name="export",
    examples=[("runctl resources export --format html --to resources.html", "one page for a browser")],
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "json", "html"]),
    help="The format to write (default: csv, with --output json and without --to json).",
)
@click.option(
    "--to", type=click.Path(dir_okay=False, path_type=Path), help="Write this file; by default to stdout."
)
@filters
@EVERYONE
@click.pass_obj
def export_command(
    cli: Cli, /, *, kind: str | None, to: Path | None, provider: str | None, everyone: bool, **chosen: Any
) -> int:
    """Write the list as CSV, JSON or a page that needs no network."""
    from runctl.cleanup.overview import overview
    from runctl.core.files import write_atomically

    # What is written into a file is no answer: that is JSON all the same.
    as_json = cli.settings.json and to is None
    check_format(kind, as_json=as_json)
    check_provider(provider)
    found = overview(cli.session, selection(**chosen), provider=provider, everyone=everyone)
    ordered = in_order(found.resources, SortKey.KIND)
    written = _written(kind or ("json" if as_json else "csv"), ordered, found)
    if to is None:
        cli.write(written)
    else:
        write_atomically(to, written)
        cli.emit(
            {"file": to, "resources": len(ordered)},
            text=lambda: f"{len(ordered):,} resources in {to}",
            ids=[str(to)],
        )
    return warn_of_unread(cli, found.unread)
