from __future__ import annotations

import csv
import io
from datetime import timedelta
from decimal import Decimal
from html.parser import HTMLParser

import pytest

from runctl.cleanup.eligibility import removable
from runctl.cleanup.listing import Group, Priced
from runctl.cleanup.overview import Detail
from runctl.providers.abilities.inventory import ResourceKind, Unread
from runctl.render.resources import as_csv, as_page, resource_details, resources_table, summary_table
from runctl.render.tables import Screen
from tests.cleanup.resources import NOW, a_resource

DISK = a_resource(
    name="<b>data</b>", attached_to=("i-1", "i-2", "i-3"), size_bytes=5 << 30, age=timedelta(hours=49)
)
FORMULA = a_resource(ResourceKind.KEY_PAIR, "key-1", name='=HYPERLINK("x")', age=None, owner=None)
PRICED = [Priced(DISK, Decimal("0.4")), Priced(FORMULA, None)]


def test_a_list_is_one_line_a_resource() -> None:
    lines = resources_table(PRICED, NOW).splitlines()

    assert len(lines) == 3
    assert "i-1 i-2 and 1 more" in lines[1]
    assert "2d1h" in lines[1]
    assert lines[1].endswith("$0.4000")
    assert "OWNER" not in lines[0]
    assert "OWNER" in resources_table(PRICED, NOW, owners=True).splitlines()[0]


@pytest.mark.parametrize(
    ("width", "head"), [(60, "KIND ID NAME $/MONTH"), (80, "KIND ID NAME STATE AGE $/MONTH")]
)
def test_a_narrow_terminal_shows_names_before_anything_but_ids(width: int, head: str) -> None:
    bucket = a_resource(
        ResourceKind.BUCKET, "runctl-123456789012-us-east-1-0123456789", name="staging-of-the-team"
    )
    named = [
        Priced(a_resource(name="datasets-of-the-team", attached_to=("i-1",)), Decimal(8)),
        Priced(bucket, Decimal(1)),
    ]

    lines = resources_table(named, NOW, screen=Screen(width)).splitlines()

    assert lines[0].split() == head.split()
    assert max(map(len, lines)) <= width
    assert lines[3].startswith("left out: ")


def test_details_say_what_a_cleanup_makes_of_it() -> None:
    text = resource_details(Detail(DISK, Decimal("0.4"), removable("it was left behind")), NOW)

    assert "removes it: it was left behind" in text
    assert "runctl:managed = true" in text


def test_a_sum_that_lacks_prices_says_so() -> None:
    groups = [Group("volume", 2, 0, Decimal(8), 1), Group("image", 1, 0, Decimal(0), 1)]

    lines = summary_table(groups, "kind").splitlines()

    assert [line.split()[-1] for line in lines] == ["$/MONTH", "$8.00+", "-", "$8.00+"]


def test_csv_can_be_read_and_runs_no_formula() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(PRICED))))

    assert [row["id"] for row in rows] == [DISK.id, "key-1"]
    assert rows[0]["attached_to"] == "i-1 i-2 i-3"
    assert rows[0]["price_per_month"] == "0.40"
    assert rows[1]["name"] == '\'=HYPERLINK("x")'
    assert (rows[1]["owner"], rows[1]["created_at"], rows[1]["price_per_month"]) == ("", "", "")


def test_a_page_needs_nothing_else_and_names_stay_names() -> None:
    unread = [Unread("aws", "eu-west-1", "volumes", "nobody <answers>", "unreachable")]

    page = as_page(PRICED, unread, ["us-east-1"], NOW)

    found: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append(tag)
            assert {name for name, _ in attrs} <= {"lang", "charset", "name", "content", "class"}

    Tags().feed(page)
    assert not {"script", "link", "img", "b", "answers"} & set(found)
    assert found.count("tr") == 3
    assert "volumes in eu-west-1 could not be read: nobody &lt;answers&gt;" in page
