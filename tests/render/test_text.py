"""Tables, details and plans as people see them."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runctl.core.clock import rfc3339
from runctl.core.machine_models import InstanceState, Market
from runctl.core.tags import BUDGET, EXPIRES_AT, IDLE_TIMEOUT
from runctl.core.text import time_span
from runctl.machines.node_volumes import NodeVolume, Sharing
from runctl.machines.nodes import Engine, NodeGroupPlan
from runctl.providers.abilities.nodes import NodesPlan
from runctl.providers.abilities.volume_plans import VolumeRequest
from runctl.providers.capacity import FallbackMode, LeftOut, Offer, Pool, SpotFallback
from runctl.providers.instance_plans import InstanceRequest, VolumeMount
from runctl.render.instances import instance_details, instances_table
from runctl.render.plans.machine_plans import create_plan_text, nodes_plan_text, plan_document
from runctl.render.plans.volume_plans import snapshots_table, volume_plan_text
from runctl.render.tables import WIDE, Column, Screen, details, fit, screen_of, wants_style
from runctl.render.volumes import volume_details, volumes_table
from tests.cli.fake_provider import INSTANCE_ID, a_plan, a_snapshot, a_volume, a_volume_plan, an_instance
from tests.rates import hourly, monthly

NOW = datetime(2026, 5, 1, 15, 5, tzinfo=UTC)


def test_columns_are_aligned_and_gaps_are_dashes() -> None:
    columns = [Column("ID", ["a-long-id", None]), Column("N", ["1", "12"], right=True)]
    assert fit(columns) == "ID          N\na-long-id   1\n-          12"


def test_nothing_is_cut_where_there_is_no_terminal() -> None:
    assert "x" * 500 in fit([Column("ID", ["x" * 500], 1, cut=True), Column("NAME", ["y"])])


COLUMNS = [
    Column("ID", ["run-0123456789"]),
    Column("NAME", [None], 3),
    Column("STATE", ["FAILED 3"], is_state=True),
    Column("SCRIPT", ["train.py " + "--long " * 30], 1, cut=True),
    Column("COST", ["$0.1234"], 2, right=True),
    Column("ZONE", ["us-east-1a"], WIDE),
]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 400])
def test_a_table_is_as_wide_as_the_terminal_at_most(width: int) -> None:
    lines = fit(COLUMNS, Screen(width)).splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0].split()[:2] == ["ID", "STATE"]


def test_what_matters_less_is_left_out_first_and_empty_columns_before() -> None:
    heads = {width: fit(COLUMNS, Screen(width)).splitlines()[0].split() for width in (30, 50, 80, 400)}
    assert heads[30] == ["ID", "STATE"]
    assert heads[50] == ["ID", "STATE", "SCRIPT"]
    assert heads[80] == ["ID", "STATE", "SCRIPT", "COST", "ZONE"]
    assert heads[400] == ["ID", "STATE", "SCRIPT", "COST", "ZONE"]
    assert fit(COLUMNS).splitlines()[0].split() == ["ID", "NAME", "STATE", "SCRIPT", "COST"]


def test_columns_with_content_that_are_left_out_are_named_below() -> None:
    named = {width: fit(COLUMNS, Screen(width)).splitlines()[2:] for width in (30, 50, 80, 400)}

    # NAME is empty, and ZONE is one that is shown where there is room for everything only.
    assert named[30] == ["left out: SCRIPT, COST (a", "wider terminal shows them)"]
    assert named[50] == ["left out: COST (a wider terminal shows them)"]
    assert named[80] == named[400] == []
    assert fit(COLUMNS, Screen(50, remedy="--wide shows them")).endswith(
        "\nleft out: COST (--wide shows them)"
    )
    assert "left out" not in fit(COLUMNS, Screen(30, wide=True)) + fit(COLUMNS)


@pytest.mark.parametrize(
    ("wide", "remedy"), [(None, "a wider terminal shows them"), (False, "--wide shows them")]
)
def test_what_shows_them_is_the_option_where_there_is_one(wide: bool | None, remedy: str) -> None:
    assert screen_of(Terminal(), wide=wide).remedy == remedy


def test_an_id_may_be_cut_to_the_width_that_it_says() -> None:
    columns = [Column("ID", ["x" * 37], cut=True, least=22), Column("NAME", ["y" * 10], 1)]

    assert fit(columns, Screen(34)).splitlines()[1] == "x" * 21 + "…  " + "y" * 10


def test_everything_is_shown_when_it_is_asked_for() -> None:
    text = fit(COLUMNS, Screen(40, wide=True))
    assert text.splitlines()[0].split() == ["ID", "NAME", "STATE", "SCRIPT", "COST", "ZONE"]
    assert "…" not in text


@pytest.mark.parametrize(
    ("state", "code"), [("running", "32"), ("FAILED 3", "31"), ("terminated", "2"), ("pending 40 %", "33")]
)
def test_states_have_colour_where_it_is_welcome(state: str, code: str) -> None:
    columns = [Column("STATE", [state], is_state=True)]
    assert fit(columns, Screen(80, style=True)).splitlines()[1] == f"\x1b[{code}m{state}\x1b[0m"
    assert "\x1b" not in fit(columns, Screen(80))


def test_the_usual_tables_fit_eighty_columns() -> None:
    now, screen = NOW, Screen(80)
    tables = [
        instances_table([an_instance(tags={"Name": "digits-baseline"})], now, screen=screen),
        instances_table([an_instance(state=InstanceState.SHUTTING_DOWN)], now, owners=True, screen=screen),
        volumes_table([a_volume(attached_to=INSTANCE_ID, mount_point="/mnt/data")], screen=screen),
        snapshots_table([a_snapshot()], now, screen=screen),
    ]
    assert [line for text in tables for line in text.splitlines() if len(line) > 80] == []


def test_details_leave_out_what_is_not_known() -> None:
    assert details({"id": "i-1", "zone": None, "long name": "x"}) == "id         i-1\nlong name  x"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_style_is_for_terminals_that_want_it(
    variables: dict[str, str], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert wants_style(Terminal()) is wanted
    assert not wants_style(io.StringIO())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0, "0s"),
        (59, "59s"),
        (60, "1m"),
        (3599, "59m"),
        (3900, "1h05m"),
        (86400, "1d0h"),
        (190000, "2d4h"),
    ],
)
def test_spans_take_two_units_at_most(seconds: int, text: str) -> None:
    assert time_span(timedelta(seconds=seconds)) == text


def test_an_instances_line_has_its_price_and_age() -> None:
    head, row = instances_table([an_instance()], NOW, screen=Screen(wide=True)).splitlines()
    assert row.split() == [
        *("i-0123456789abcdef0", "-", "running", "g4dn.xlarge", "spot", "us-east-1a", "198.51.100.7"),
        *("$0.1578", "3h04m", "-", "digits"),
    ]
    assert head.split()[-1] == "PROJECT"


def test_what_ends_an_instance_by_itself_is_shown_while_it_runs() -> None:
    tags = {EXPIRES_AT: rfc3339(NOW + timedelta(hours=7)), IDLE_TIMEOUT: "1800", BUDGET: "25"}
    instance = replace(an_instance(), tags=tags)

    assert "in 7h00m, idle 30m" in instances_table([instance], NOW, screen=Screen(wide=True))
    shown = instance_details(instance, NOW)
    assert (
        "in 7h00m (of its budget of $25.00, or its time to live); or when nothing has used it for 30m"
        in shown
    )
    stopped = replace(instance, state=InstanceState.STOPPED)
    assert "30m" not in instances_table([stopped], NOW, screen=Screen(wide=True))


def test_a_machine_that_should_have_ended_says_since_when_and_how_to_end_it() -> None:
    instance = replace(an_instance(), tags={EXPIRES_AT: rfc3339(NOW - timedelta(minutes=3))})

    assert "overdue 3m" in instances_table([instance], NOW, screen=Screen(wide=True))
    assert "and has not: runctl aws terminate i-0123456789abcdef0" in instance_details(instance, NOW)
    late = replace(instance, tags={EXPIRES_AT: rfc3339(NOW - timedelta(seconds=20))})
    assert "in 0s" in instances_table([late], NOW, screen=Screen(wide=True))


def test_no_instances_are_no_lines() -> None:
    assert instances_table([], NOW) == ""
    assert volumes_table([]) == ""


def test_an_instance_in_full_names_its_volumes() -> None:
    text = instance_details(an_instance(), NOW)
    assert "price            $0.1578 an hour" in text
    assert text.splitlines()[-1].split() == ["vol-0123456789abcdef0", "/dev/sdf", "/mnt/data"]


def test_an_unknown_price_is_not_zero() -> None:
    assert "$" not in instance_details(an_instance(price_per_hour=None), NOW)
    assert "$0" not in instances_table([an_instance(price_per_hour=None)], NOW)


def test_a_volume_in_full() -> None:
    text = volume_details(a_volume())
    assert "gp3, 3,000 IOPS, 125 MiB/s" in text
    assert "$8.00 a month" in text


def plan_text(request: InstanceRequest, **changes: Any) -> str:
    return create_plan_text(a_plan(request, **changes))


def test_the_plan_says_what_the_market_saves() -> None:
    text = plan_text(InstanceRequest(market=Market.SPOT))
    assert "$0.1578 an hour (spot price history), 70 % less: on demand $0.5260" in text


def test_the_plan_of_an_on_demand_machine_compares_nothing() -> None:
    assert "less" not in plan_text(InstanceRequest())


def test_a_spot_price_above_on_demand_is_shown_without_a_boast() -> None:
    text = plan_text(InstanceRequest(market=Market.SPOT), price=hourly("0.6", "history"))
    assert "less" not in text
    assert "on demand $0.5260" in text


def test_a_price_that_nobody_knows_is_said() -> None:
    text = plan_text(InstanceRequest(market=Market.SPOT), price=None, on_demand_price=None)
    assert "price       not known" in text


def test_the_plan_names_volumes_disks_and_the_end() -> None:
    request = InstanceRequest(
        volumes=(VolumeMount("vol-1", "/mnt/a"),), data_volume_size_gib=50, ttl=timedelta(hours=12)
    )
    prices = {"vol-1": monthly(8, "gp3", current=True), "data": monthly(4, "gp3", current=True)}
    text = plan_text(request, volume_prices=prices)
    assert "vol-1 at /mnt/a, $8.00 a month (gp3)" in text
    assert "50 GiB at /mnt/data, ends with the instance, $4.00 a month" in text
    assert "by itself after 12h00m" in text


def test_a_volume_plan_names_size_speed_and_protection() -> None:
    request = VolumeRequest(
        size_gib=10, name="d", type="gp3", iops=3000, zone="z", persistent=True, snapshot_id="snap-1"
    )
    text = volume_plan_text(a_volume_plan(request))
    for phrase in (
        "10 GiB",
        "gp3, 3,000 IOPS, encrypted",
        "z (the cheapest for spot)",
        "snap-1",
        "marked persistent",
    ):
        assert phrase in text
    assert "not known" in volume_plan_text(replace(a_volume_plan(request), price=None))


def test_plans_for_programs_hold_no_token() -> None:
    document = plan_document(a_plan(InstanceRequest(ttl=timedelta(hours=1))))
    assert document["ttl"] == 3600.0
    assert document["price"]["usd"] == "0.1578"
    assert "token" not in str(document)


def test_a_plan_with_several_pools_says_which_types_how_many_and_what_is_left_out() -> None:
    offers = tuple(
        Offer(Pool(kind, zone), None) for kind in ("g5.xlarge", "g4dn.xlarge") for zone in ("a", "b")
    )
    left_out = (LeftOut(Pool("g5.xlarge", "c"), "the volume's zone"),) * 2
    fallback = SpotFallback(FallbackMode.ON_DEMAND, timedelta(minutes=20))
    request = InstanceRequest(market=Market.SPOT)

    text = plan_text(request, offers=offers, left_out=left_out, fallback=fallback)

    assert "g5.xlarge or g4dn.xlarge, spot" in text
    assert "4 of 6 (2 left out: the volume's zone)" in text
    assert (
        "after 20m without capacity, it rents on demand for $0.5260 an hour, $0.3682 more than spot" in text
    )
    assert "4, each a type in a zone" in plan_text(request, offers=offers)
    assert "pools" not in plan_text(request, offers=offers[:1])


def test_a_plan_for_several_machines_says_what_all_of_it_is_and_costs() -> None:
    machine = a_plan(InstanceRequest(), price=hourly("1"), volume_prices={}, zone="us-east-1b")
    nodes = NodesPlan(machine, 2, 4, "runctl-nodes-t", ("192.0.2.0/24",), None, "t3.micro cannot be close")
    data = replace(
        NodeVolume(a_volume(), "/mnt/datasets", Sharing.COPIED, "one machine at a time can have it"),
        copies=3,
        copy_price=monthly("7.30"),
    )

    text = nodes_plan_text(
        NodeGroupPlan(nodes, (data,), {"us-east-1b": 7}), Engine.TORCHRUN, timedelta(hours=2)
    )

    for said in (
        "2 to 4 of one type, in us-east-1b: as many as are available, at least 2",
        "SSH is let in from 192.0.2.0/24",
        "none (t3.micro cannot be close)",
        "out of 10: us-east-1b 7",
        "rank 0 has the volume itself, the others 3 copies, $7.30 a month each, made one after the other",
        "at most $4.03 an hour with disks and addresses, $0.0300 of it for copies",
        "at most $8.06 for 2h00m",
    ):
        assert said in text
    alone = nodes_plan_text(
        NodeGroupPlan(replace(nodes, least=2, most=2, entrances=()), (replace(data, sharing=Sharing.EMPTY),)),
        None,
    )
    assert "all 2, or none" in alone
    assert "nothing else is let in" in alone
    assert "the others an empty one each" in alone
