from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from runctl.cleanup.listing import (
    Group,
    GroupKey,
    Priced,
    Selection,
    SortKey,
    grouped,
    in_order,
    of_user,
    select,
)
from runctl.core.errors import NotFound, UsageError
from runctl.providers.abilities.inventory import ResourceKind
from tests.cleanup.resources import ME, NOW, a_resource

MACHINE = a_resource(ResourceKind.INSTANCE, "i-1", name="digits", state="running", project="digits")
DISK = a_resource(identifier="vol-1", name="data", age=timedelta(days=9), size_bytes=5, tags={"team": "a"})
LARGE = a_resource(identifier="vol-2", age=None, size_bytes=9, region="eu-west-1", project="digits")
ROLE = a_resource(ResourceKind.ROLE, "runctl-instance", name="runctl-instance", region=None, owner=None)
ALL = [MACHINE, DISK, LARGE, ROLE]


@pytest.mark.parametrize(
    ("selection", "found"),
    [
        (Selection(), ALL),
        (Selection(kinds=frozenset({ResourceKind.VOLUME})), [DISK, LARGE]),
        (Selection(project="digits"), [MACHINE, LARGE]),
        (Selection(project="digit"), []),
        (Selection(state="running"), [MACHINE]),
        (Selection(tags={"team": "a"}), [DISK]),
        (Selection(tags={"team": "A"}), []),
        (Selection(references=("data", "i-1")), [MACHINE, DISK]),
        # What does not say how old it is, is not known to be old.
        (Selection(older_than=timedelta(days=7)), [DISK]),
    ],
)
def test_everything_in_a_selection_must_hold(selection: Selection, found: list[object]) -> None:
    assert select(ALL, selection, NOW) == found


@pytest.mark.parametrize("reference", ["dat", "DATA", "data*", "vol-"])
def test_names_are_compared_exactly(reference: str) -> None:
    with pytest.raises(NotFound, match="nothing that is called"):
        select(ALL, Selection(references=(reference,)), NOW)


def test_an_empty_reference_means_nothing() -> None:
    with pytest.raises(UsageError, match="empty text"):
        select(ALL, Selection(references=("",)), NOW)


def test_another_owners_resources_are_not_the_callers() -> None:
    others = replace(DISK, owner="bob")

    assert of_user([DISK, others, ROLE], {"aws": ME}) == [DISK, ROLE]
    # Somebody whose name is not known owns nothing but what all share.
    assert of_user([DISK, others, ROLE], {"aws": None}) == [ROLE]


def test_a_list_is_sorted_and_what_is_not_known_comes_last() -> None:
    priced = [Priced(MACHINE, Decimal(1)), Priced(DISK, Decimal(8)), Priced(LARGE, None), Priced(ROLE, None)]

    def ids(by: SortKey) -> list[str]:
        return [each.resource.id for each in in_order(reversed(priced), by)]

    assert ids(SortKey.KIND) == ["i-1", "vol-2", "vol-1", "runctl-instance"]
    assert ids(SortKey.AGE) == ["vol-1", "i-1", "runctl-instance", "vol-2"]
    assert ids(SortKey.COST) == ["vol-1", "i-1", "vol-2", "runctl-instance"]
    assert ids(SortKey.SIZE) == ["vol-2", "vol-1", "i-1", "runctl-instance"]
    assert ids(SortKey.NAME) == ["vol-1", "i-1", "runctl-instance", "vol-2"]
    assert ids(SortKey.REGION) == ["runctl-instance", "vol-2", "i-1", "vol-1"]


def test_a_summary_says_how_many_prices_it_lacks() -> None:
    priced = [Priced(MACHINE, Decimal("1.5")), Priced(DISK, Decimal(8)), Priced(LARGE, None)]

    assert grouped(priced, GroupKey.KIND) == [
        Group("instance", 1, 0, Decimal("1.5"), 0),
        Group("volume", 2, 14, Decimal(8), 1),
    ]
    assert [group.name for group in grouped(priced, GroupKey.PROJECT)] == ["-", "digits"]
    assert sum(group.usd_per_month for group in grouped(priced, GroupKey.REGION)) == Decimal("9.5")
