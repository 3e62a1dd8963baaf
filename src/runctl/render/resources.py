"""Resources as tables, CSV and a page."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from runctl.cleanup.listing import Group, GroupKey, Priced, by_group, grouped
from runctl.core.clock import rfc3339
from runctl.core.money import monthly, plain, usd, usd_if_known
from runctl.core.text import counted, printable, size, time_span
from runctl.providers.abilities.inventory import Resource, Unread
from runctl.render.tables import PLAIN, WIDE, Column, Screen, details, fit

if TYPE_CHECKING:
    from runctl.cleanup.insights import Insight
    from runctl.cleanup.overview import Detail
    from runctl.cleanup.plan import Item


ID_WIDTH = 22
"""The ids that clouds give are shown whole: a snapshot's has so many characters. What is longer is a name."""


def resources_table(
    priced: Sequence[Priced], now: datetime, *, owners: bool = False, screen: Screen = PLAIN
) -> str:
    """One line a resource."""
    found = [each.resource for each in priced]
    columns = [
        Column("KIND", [r.kind.value for r in found]),
        Column("ID", [r.id for r in found], cut=True, least=ID_WIDTH),
        Column("NAME", [r.name for r in found], 1, cut=True),
        Column("STATE", [r.state for r in found], 2, is_state=True),
        Column("TYPE", [r.type for r in found], WIDE),
        Column("REGION", [r.zone or r.region for r in found], 4),
        Column("SIZE", [_size(r) for r in found], 5, right=True),
        Column("AGE", [_age(r, now) for r in found], 3, right=True),
        Column("USED BY", [_users(r) for r in found], 6, cut=True),
        Column("PROJECT", [r.project for r in found], WIDE),
        Column("$/MONTH", [usd_if_known(each.usd_per_month) for each in priced], 2, right=True),
    ]
    if owners:
        columns.append(Column("OWNER", [r.owner for r in found], 2))
    return fit(columns, screen)


def grouped_tables(
    priced: Sequence[Priced],
    by: GroupKey,
    now: datetime,
    *,
    owners: bool = False,
    screen: Screen = PLAIN,
) -> str:
    """A table for each group, below its name, how many there are, and what they cost."""
    parts = by_group(priced, by)
    return "\n\n".join(
        f"{by.value} {printable(group.name)}: {counted(group.count, 'resource')}{_told_sum(group)}\n"
        + resources_table(parts[group.name], now, owners=owners, screen=screen)
        for group in grouped(priced, by)
    )


def plan_table(items: Sequence[Item], screen: Screen = PLAIN) -> str:
    """One line for each thing that a plan is about, with the reason."""
    return fit(
        [
            Column("KIND", [item.resource.kind.value for item in items]),
            Column("ID", [item.resource.id for item in items]),
            Column("NAME", [item.resource.name for item in items], 1, cut=True),
            Column("REGION", [item.resource.zone or item.resource.region for item in items], 3),
            Column("$/MONTH", [usd_if_known(item.usd_per_month or None) for item in items], 2, right=True),
            Column("WHY", [item.why for item in items]),
        ],
        screen,
    )


def insights_text(found: Sequence[Insight]) -> str:
    """Two lines for each: what was noticed, and the command that changes it."""
    parts = []
    for each in found:
        saves = "" if each.usd_per_month is None else f", saves {monthly(each.usd_per_month)}"
        parts.append(f"{each.resource.label}: {printable(each.message)}{saves}\n    {each.command}")
    return "\n".join(parts)


def resource_details(found: Detail, now: datetime) -> str:
    """Everything about one resource, with what a cleanup would make of it."""
    resource = found.resource
    text = details(
        {
            "id": resource.id,
            "kind": resource.kind.value,
            "name": resource.name,
            "state": resource.state,
            "type": ", ".join(filter(None, [resource.type, resource.market])),
            "provider": resource.provider,
            "region": resource.region or "(the account's)",
            "zone": resource.zone,
            "size": _size(resource),
            "used by": _users(resource),
            "goes with": resource.ends_with,
            "made from": resource.source,
            "project": resource.project,
            "owner": resource.owner or "(all of the account)",
            "created": _created(resource, now),
            "price": monthly(found.usd_per_month) if found.usd_per_month is not None else None,
            "details": resource.details,
            "cleanup": f"{'removes it' if found.verdict.removable else 'keeps it'}: {found.verdict.why}",
        }
    )
    tags = "\n".join(f"  {key} = {value}" for key, value in sorted(resource.tags.items()))
    return f"{text}\ntags\n{tags}" if tags else text


def _created(resource: Resource, now: datetime) -> str | None:
    if resource.existed_at is None:
        return None
    told = f"{resource.existed_at:%Y-%m-%d %H:%M:%S} UTC, {time_span(now - resource.existed_at)} ago"
    return told if resource.created_at is not None else f"not said; this computer saw it first {told}"


def summary_table(groups: Sequence[Group], by: str) -> str:
    """One line a group, and the sum."""
    count = sum(group.count for group in groups)
    total = Group(
        "all",
        count,
        sum(group.size_bytes for group in groups),
        sum((group.usd_per_month for group in groups), Decimal(0)),
        sum(group.unpriced for group in groups),
    )
    rows = [*groups, total] if groups else []
    return fit(
        [
            Column(by.upper(), [group.name for group in rows]),
            Column("COUNT", [f"{group.count:,}" for group in rows], right=True),
            Column(
                "SIZE",
                [size(group.size_bytes) if group.size_bytes else None for group in rows],
                1,
                right=True,
            ),
            Column("$/MONTH", [_sum(group) for group in rows], right=True),
        ]
    )


def _sum(group: Group) -> str | None:
    if group.unpriced == group.count:
        return None
    return usd(group.usd_per_month) + ("+" if group.unpriced else "")


def _told_sum(group: Group) -> str:
    found = _sum(group)
    return f", {found} a month" if found else ""


_COLUMNS = (
    "kind",
    "id",
    "name",
    "provider",
    "region",
    "zone",
    "state",
    "created_at",
    "project",
    "owner",
    "size_bytes",
    "attached_to",
    "ends_with",
    "type",
    "market",
    "iops",
    "throughput",
    "source",
    "details",
    "known_since",
)


def as_csv(priced: Sequence[Priced]) -> str:
    """With a header (RFC 4180); what is not known is empty."""
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow([*_COLUMNS, "price_per_month"])
    for each in priced:
        price = "" if each.usd_per_month is None else plain(each.usd_per_month)
        writer.writerow([*(_cell(getattr(each.resource, name)) for name in _COLUMNS), price])
    return written.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    text = str(value)
    # A spreadsheet takes such a cell for a formula (OWASP, "CSV Injection").
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text


_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem; color: #1f2328; background: #fff; }
h1 { font-size: 1.3rem; } p.note { color: #9a6700; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #d1d9e0; vertical-align: top; }
th { position: sticky; top: 0; background: #f6f8fa; } td.n { text-align: right; white-space: nowrap; }
td.id { font-family: ui-monospace, monospace; font-size: 12px; word-break: break-all; }
@media (prefers-color-scheme: dark) { body { background: #0d1117; color: #e6edf3; } th { background: #161b22; }
th, td { border-color: #30363d; } p.note { color: #d29922; } }
"""


def as_page(priced: Sequence[Priced], unread: Sequence[Unread], regions: Sequence[str], now: datetime) -> str:
    """One file that shows the list in a browser without network or scripts."""
    total = sum((each.usd_per_month for each in priced if each.usd_per_month is not None), Decimal(0))
    rows = "\n".join(map(_row, priced))
    missing = "\n".join(
        f'<p class="note">{html.escape(each.what)}'
        f"{f' in {html.escape(each.region)}' if each.region else ''} could not be read: {html.escape(each.reason)}</p>"
        for each in unread
    )
    heads = (
        "Kind",
        "Id",
        "Name",
        "State",
        "Region",
        "Owner",
        "Project",
        "Created",
        "Size",
        "Used by",
        "$/month",
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Resources</title><style>{_STYLE}</style></head><body>
<h1>{len(priced):,} resources, {monthly(total)}</h1>
<p>{now:%Y-%m-%d %H:%M} UTC, in {html.escape(", ".join(regions)) or "all regions"}</p>
{missing}
<table><thead><tr>{"".join(f"<th>{head}</th>" for head in heads)}</tr></thead><tbody>
{rows}
</tbody></table></body></html>
"""


def _row(each: Priced) -> str:
    r = each.resource
    cells = (
        ("", r.kind.value),
        ("id", r.id),
        ("", r.name),
        ("", r.state),
        ("", r.zone or r.region),
        ("", r.owner),
        ("", r.project),
        ("", _since(r)),
        ("n", _size(r)),
        ("id", " ".join(r.attached_to)),
        ("n", usd_if_known(each.usd_per_month)),
    )
    return (
        "<tr>"
        + "".join(
            f'<td class="{kind}">{html.escape(text or "")}</td>'
            if kind
            else f"<td>{html.escape(text or '')}</td>"
            for kind, text in cells
        )
        + "</tr>"
    )


def _since(resource: Resource) -> str | None:
    if resource.existed_at is None:
        return None
    return f"{'' if resource.created_at else 'before '}{resource.existed_at:%Y-%m-%d %H:%M}"


def _size(resource: Resource) -> str | None:
    return None if resource.size_bytes is None else size(resource.size_bytes)


def _age(resource: Resource, now: datetime) -> str | None:
    if resource.existed_at is None:
        return None
    span = time_span(now - resource.existed_at)
    return span if resource.created_at is not None else f"≥ {span}"


def _users(resource: Resource) -> str | None:
    shown = resource.attached_to[:2]
    more = len(resource.attached_to) - len(shown)
    return " ".join(shown) + (f" and {more} more" if more else "") if shown else None
