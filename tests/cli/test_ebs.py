"""``aws ebs``: what volumes become and what is made of them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from runctl.core.errors import Conflict, ProviderError, Unreachable
from runctl.core.ids import InstanceId
from runctl.core.models import InstanceState, VolumeState
from runctl.core.tags import MOVE, MOVE_ZONE, PURPOSE, SHAPE
from runctl.costs.prices import Price
from runctl.providers.volume_plans import (
    ClonePlan,
    CloneRequest,
    InitializationStatus,
    Modification,
    ResizePlan,
    ResizeRequest,
    SnapshotPlan,
    SnapshotRequest,
    VolumeRequest,
)
from tests.cli.conftest import Invoke, data_of
from tests.cli.fake_provider import (
    INSTANCE_ID,
    OTHER_ID,
    VOLUME_ID,
    Script,
    a_snapshot,
    a_volume,
    a_volume_plan,
    an_instance,
)

ON_IT = a_volume(attached_to=INSTANCE_ID, state=VolumeState.IN_USE, instances=(INSTANCE_ID,))
PRICE = Price(Decimal(8), "EBS list price", current=False)


def a_resize_plan(volume: Any = ON_IT, **changes: Any) -> ResizePlan:
    values: dict[str, Any] = {
        "volume": volume,
        "size_gib": 200,
        "type": "gp3",
        "iops": 3000,
        "throughput": 125,
        "changes": ("size 100 → 200 GiB",),
        "pending": None,
        "price_before": PRICE,
        "price_after": Price(Decimal(16), "EBS list price", current=False),
        "modifications_today": 1,
        "warnings": ("it cannot be undone: volumes do not shrink",),
    }
    return ResizePlan(**{**values, **changes})


def a_snapshot_plan(request: SnapshotRequest) -> SnapshotPlan:
    return SnapshotPlan(
        ON_IT, request.name, "runctl: datasets", False, {}, PRICE, a_snapshot(), "token-of-the-plan"
    )


def a_clone_plan(request: CloneRequest) -> ClonePlan:
    return ClonePlan(
        ON_IT,
        request.name,
        100,
        "gp3",
        3000,
        125,
        True,
        False,
        {},
        PRICE,
        "once, by the GiB",
        "token-of-the-plan",
    )


@pytest.fixture
def frozen(script: Script) -> Script:
    """A volume that is mounted on a running machine."""
    script.answers.update(
        {
            "instance": an_instance(),
            "agent": None,
            "agent.freeze": {"how": "frozen", "mount_points": ["/mnt/data"], "why": ""},
            "agent.thaw": {"was_frozen": True},
            "plan_snapshot": a_snapshot_plan,
            "create_snapshot": a_snapshot(),
            "wait_snapshot": a_snapshot(),
            "plan_clone": a_clone_plan,
            "clone_volume": a_volume("vol-0fedcba9876543210", name="copy"),
            "snapshots": [],
            "volumes": [],
        }
    )
    return script


def last_error(result: Any) -> Any:
    """The JSON error that is the last thing on stderr, after the plan."""
    return json.loads(result.stderr[result.stderr.rindex('{\n  "error"') :])["error"]


# create


def test_a_purpose_chooses_type_and_speed_and_says_why(invoke: Invoke, script: Script) -> None:
    script.answers.update(plan_volume=a_volume_plan, create_volume=a_volume())
    result = invoke("aws", "ebs", "create", "--size", "100", "--for", "datasets")
    (request,) = script.only("plan_volume")
    assert (request.type, request.throughput, request.tags[PURPOSE]) == ("gp3", 500, "datasets")
    assert "for datasets: read over and over" in result.stderr


def test_numbers_that_are_given_win_over_the_purpose(invoke: Invoke, script: Script) -> None:
    script.answers.update(plan_volume=a_volume_plan, create_volume=a_volume())
    invoke("aws", "ebs", "create", "--size", "100", "--for", "datasets", "--throughput", "300")
    assert script.only("plan_volume")[0].throughput == 300


@pytest.mark.parametrize(
    "words",
    [
        "--size 1 --for archive --volume-type gp3",
        "--size 1 --volume-type gp9",
        "--size 1 --for nothing",
        "",
        "--size 1 --name snap-1",
    ],
)
def test_what_contradicts_itself_is_refused(invoke: Invoke, script: Script, words: str) -> None:
    assert invoke("aws", "ebs", "create", *words.split()).exit_code == 2
    assert script.calls == []


def test_both_names_of_the_options_mean_the_same(invoke: Invoke, script: Script) -> None:
    script.answers.update(plan_volume=lambda request: a_volume_plan(replace(request, size_gib=100)))
    script.answers.update(create_volume=a_volume())
    for kind, zone, snapshot in (
        ("--type", "--zone", "--snapshot"),
        ("--volume-type", "--availability-zone", "--from-snapshot"),
    ):
        invoke("aws", "ebs", "create", kind, "io2", zone, "us-east-1b", snapshot, "nightly", "--iops", "100")
    first, second = (call.arguments[0] for call in script.calls if call.name == "plan_volume")
    assert replace(first, token=None) == replace(second, token=None)
    assert (first.type, first.zone, first.snapshot_id, first.size_gib) == (
        "io2",
        "us-east-1b",
        "nightly",
        None,
    )


def test_a_rate_and_sharing_reach_the_provider(invoke: Invoke, script: Script) -> None:
    script.answers.update(plan_volume=lambda request: a_volume_plan(replace(request, size_gib=100)))
    words = (
        "create --from-snapshot nightly --initialization-rate 200 --multi-attach --volume-type io2 --iops 100"
    )
    invoke("aws", "ebs", *words.split(), "--dry-run")
    request: VolumeRequest = script.only("plan_volume")[0]
    assert (request.initialization_rate, request.multi_attach) == (200, True)


# resize


@pytest.fixture
def growing(script: Script) -> Script:
    script.answers.update(
        {
            "plan_resize": a_resize_plan(),
            "resize_volume": replace(ON_IT, size_gib=200),
            "instance": an_instance(),
            "agent": None,
            "agent.grow": {
                "fstype": "ext4",
                "mount_point": "/mnt/data",
                "partition_grown": True,
                "before_bytes": 100 << 30,
                "after_bytes": 200 << 30,
            },
        }
    )
    return script


def test_resize_asks_changes_and_grows_what_is_on_it(invoke: Invoke, growing: Script) -> None:
    result = invoke("aws", "ebs", "resize", "datasets", "--size", "200", "--yes")
    assert growing.only("plan_resize") == ("datasets", ResizeRequest(size_gib=200))
    assert growing.only("agent.grow") == (
        {"volume_id": VOLUME_ID, "size_bytes": 200 << 30, "wait_seconds": 120},
    )
    assert (
        "its partition and its ext4 file system (/mnt/data) grew from 100.00 to 200.00 GiB" in result.stderr
    )
    assert "$8.00 more than now" in result.stderr


def test_resize_without_an_answer_changes_nothing(invoke: Invoke, growing: Script) -> None:
    result = invoke("aws", "ebs", "resize", "datasets", "--size", "200", "--output", "json")
    assert last_error(result)["code"] == "confirmation-needed"
    assert growing.names() == ["plan_resize"]


def test_resize_dry_run_is_a_document(invoke: Invoke, growing: Script) -> None:
    plan = data_of(
        invoke("aws", "ebs", "extend", "datasets", "--size", "200", "--dry-run", "--output", "json")
    )
    assert (plan["size_gib"], plan["changes"]) == (200, ["size 100 → 200 GiB"])
    assert growing.names() == ["plan_resize"]


def test_what_has_its_size_already_only_grows_what_is_on_it_without_asking(
    invoke: Invoke, growing: Script
) -> None:
    growing.answers["plan_resize"] = a_resize_plan(changes=())
    assert invoke("aws", "ebs", "resize", "datasets", "--size", "200").exit_code == 0
    assert "agent.grow" in growing.names()


def test_a_machine_that_cannot_grow_says_that_the_volume_has_its_size(
    invoke: Invoke, growing: Script
) -> None:
    growing.answers["agent.grow"] = Unreachable("no answer")
    result = invoke("aws", "ebs", "resize", "datasets", "--size", "200", "--yes", "--output", "json")
    assert result.exit_code == 7
    assert "repeat the command" in last_error(result)["hint"]


def test_a_volume_on_no_running_machine_is_changed_alone(invoke: Invoke, growing: Script) -> None:
    growing.answers["instance"] = an_instance(state=InstanceState.STOPPED)
    assert invoke("aws", "ebs", "resize", "datasets", "--size", "200", "--yes").exit_code == 0
    assert "agent.grow" not in growing.names()


def test_resize_wants_to_know_what(invoke: Invoke, script: Script) -> None:
    assert invoke("aws", "ebs", "resize", "datasets").exit_code == 2
    assert script.calls == []


# snapshot, clone


def test_a_snapshot_begins_while_the_file_system_holds_still(invoke: Invoke, frozen: Script) -> None:
    result = invoke("aws", "ebs", "snapshot", "datasets", "--name", "nightly")
    names = [name for name in frozen.names() if name not in {"agent", "instance"}]
    assert names == ["plan_snapshot", "agent.freeze", "create_snapshot", "agent.thaw", "wait_snapshot"]
    assert "held still: the copy is whole" in result.stderr
    assert "what has changed since before-cleaning" in result.stderr


def test_writers_go_on_when_the_snapshot_fails(invoke: Invoke, frozen: Script) -> None:
    frozen.answers["create_snapshot"] = ProviderError("no")
    assert invoke("aws", "ebs", "snapshot", "datasets").exit_code == 1
    assert frozen.names()[-1] == "agent.thaw"


def test_a_file_system_that_cannot_be_frozen_is_said_to_be_flushed(invoke: Invoke, frozen: Script) -> None:
    frozen.answers["agent.freeze"] = {"how": "flushed", "mount_points": ["/mnt/data"], "why": "not supported"}
    result = invoke("aws", "ebs", "snapshot", "datasets", "--no-wait")
    assert "flushed, not frozen (not supported)" in result.stderr
    assert "agent.thaw" not in frozen.names()
    assert "wait_snapshot" not in frozen.names()


def test_beginning_that_took_too_long_is_said(invoke: Invoke, frozen: Script) -> None:
    frozen.answers["agent.thaw"] = {"was_frozen": False}
    assert "may be cut" in invoke("aws", "ebs", "snapshot", "datasets").stderr


def test_a_silent_machine_is_asked_or_left_out(invoke: Invoke, frozen: Script) -> None:
    frozen.answers["agent.freeze"] = Unreachable("no answer")
    result = invoke("aws", "ebs", "snapshot", "datasets", "--output", "json")
    assert (result.exit_code, "--no-freeze" in last_error(result)["hint"]) == (7, True)
    result = invoke("aws", "ebs", "snapshot", "datasets", "--no-freeze")
    assert (result.exit_code, "what a power cut would have left" in result.stderr) == (0, True)


@pytest.mark.parametrize("verb", ["snapshot", "clone"])
def test_the_same_command_takes_up_what_its_first_call_froze(
    invoke: Invoke, frozen: Script, verb: str
) -> None:
    answer = frozen.answers["agent.freeze"]
    frozen.answers["agent.freeze"] = Unreachable("no answer")
    assert invoke("aws", "ebs", verb, "datasets", "--yes").exit_code == 7
    frozen.answers["agent.freeze"] = answer
    assert invoke("aws", "ebs", verb, "datasets", "--yes").exit_code == 0

    holders = [call.arguments[0]["holder"] for call in frozen.calls if call.name.startswith("agent.")]
    assert len(holders) == 3
    assert len(set(holders)) == 1


def test_a_copy_is_made_while_the_file_system_holds_still(invoke: Invoke, frozen: Script) -> None:
    result = invoke("aws", "ebs", "fork", "datasets", "--name", "copy")
    names = [name for name in frozen.names() if name not in {"agent", "instance"}]
    assert names == ["plan_clone", "agent.freeze", "clone_volume", "agent.thaw"]
    assert "once, by the GiB" in result.stderr


@pytest.mark.parametrize("verb", ["snapshot", "clone"])
def test_a_dry_run_does_not_touch_the_machine(invoke: Invoke, frozen: Script, verb: str) -> None:
    plan = data_of(invoke("aws", "ebs", verb, "datasets", "--dry-run", "--output", "json"))
    assert "client_token" not in plan
    assert frozen.names() == [f"plan_{verb}"]


# snapshots


def test_snapshots_show_what_they_cost_and_that_they_share_blocks(invoke: Invoke, script: Script) -> None:
    script.answers["snapshots"] = (a_snapshot(), a_snapshot("snap-0fedcba9876543210", data_gib=None))
    result = invoke("aws", "ebs", "snapshot-list", "--wide")
    assert "42.5 GiB" in result.stdout
    assert "2 snapshots, at most $4.25 a month" in result.stderr
    assert "does not share with the one before it" in result.stderr


def test_snapshots_of_one_volume(invoke: Invoke, script: Script) -> None:
    script.answers.update(snapshots=(), volume=a_volume())
    assert data_of(invoke("aws", "ebs", "snapshots", "datasets", "--output", "json")) == []
    assert script.only("snapshots") == (False, VOLUME_ID)


def test_deleting_snapshots_asks_and_goes_on_after_a_refusal(invoke: Invoke, script: Script) -> None:
    one, two = a_snapshot(), a_snapshot("snap-0fedcba9876543210")

    def delete(identifier: str, *_: object) -> None:
        if identifier == one.id:
            raise Conflict("marked persistent", code="protected")

    script.answers.update(snapshot=lambda word: one if word == "one" else two, delete_snapshot=delete)
    words = ("aws", "ebs", "snapshot-delete", "one", "two", "--output", "json")
    assert last_error(invoke(*words))["code"] == "confirmation-needed"
    result = invoke(*words, "--yes")
    assert (result.exit_code, last_error(result)["code"]) == (1, "protected")
    assert [found["id"] for found in json.loads(result.stdout)] == [two.id]
    script.calls.clear()
    invoke(*words, "--yes", "--include-protected")
    assert all(
        call.arguments[1:] == ("include_protected",)
        for call in script.calls
        if call.name.startswith("delete")
    )


def test_restore_makes_what_the_volume_was(invoke: Invoke, script: Script) -> None:
    script.answers.update(
        snapshot=a_snapshot(tags={SHAPE: "gp3 6000 500", "runctl:project": "vision"}),
        plan_volume=lambda request: a_volume_plan(replace(request, size_gib=100)),
        create_volume=a_volume(),
    )
    assert invoke("aws", "ebs", "restore", "nightly", "--name", "back").exit_code == 0
    request: VolumeRequest = script.only("plan_volume")[0]
    assert (request.type, request.iops, request.throughput) == ("gp3", 6000, 500)
    assert (request.name, request.project, request.size_gib) == ("back", "vision", None)


# show, delete, mount, detach


def test_show_tells_of_changes_data_and_snapshots(invoke: Invoke, script: Script) -> None:
    script.answers.update(
        volume=replace(ON_IT, snapshot_id=a_snapshot().id),
        modification=Modification(
            "optimizing", 40, 200, "gp3", 3000, 125, datetime(2026, 5, 1, 12, tzinfo=UTC)
        ),
        initialization=InitializationStatus(complete=False, progress=30, remaining_seconds=60),
        snapshots=(a_snapshot(),),
    )
    text = invoke("aws", "ebs", "show", "datasets").stdout
    for words in ("optimizing, 40 %", "30 % so far", "before-cleaning"):
        assert words in text
    shown = data_of(invoke("aws", "ebs", "show", "datasets", "--output", "json"))
    assert shown["modification"]["state"] == "optimizing"
    assert shown["snapshots"][0]["name"] == "before-cleaning"
    assert shown["initialization"]["progress"] == 30


def test_what_is_protected_is_deleted_only_when_that_is_said(invoke: Invoke, script: Script) -> None:
    script.answers.update(volume=a_volume(persistent=True), delete_volume=None)
    invoke("aws", "ebs", "delete", "datasets", "--yes")
    assert script.only("delete_volume") == (VOLUME_ID,)
    script.calls.clear()
    invoke("aws", "ebs", "delete", "datasets", "--yes", "--include-protected")
    assert script.only("delete_volume") == (VOLUME_ID, "include_protected")


def test_mount_finds_the_machine_that_has_it(invoke: Invoke, script: Script) -> None:
    script.answers.update(
        {
            "volume": ON_IT,
            "instance": an_instance(),
            "agent": None,
            "agent.attach": {},
            "remember_mount": None,
        }
    )
    assert invoke("aws", "ebs", "mount", "datasets", "--mount-point", "/mnt/d").exit_code == 0
    assert script.only("agent.attach")[0]["mount_point"] == "/mnt/d"
    assert "attach_volume" not in script.names()


@pytest.mark.parametrize(
    ("instances", "code", "exit_code"),
    [((), "not-attached", 1), ((INSTANCE_ID, OTHER_ID), "usage", 2)],
)
def test_mount_wants_one_machine(
    invoke: Invoke, script: Script, instances: tuple[InstanceId, ...], code: str, exit_code: int
) -> None:
    script.answers["volume"] = replace(ON_IT, instances=instances)
    result = invoke("aws", "ebs", "mount", "datasets", "--output", "json")
    assert (result.exit_code, last_error(result)["code"]) == (exit_code, code)


def test_a_volume_that_is_attached_nowhere_is_said_to_be_free(invoke: Invoke, script: Script) -> None:
    script.answers.update({"volume": a_volume(), "detach_volume": a_volume()})
    result = invoke("aws", "ebs", "detach", "datasets")
    assert (result.exit_code, "datasets was attached to no machine" in result.stderr) == (0, True)


def test_a_shared_volume_leaves_the_machine_that_is_named(invoke: Invoke, script: Script) -> None:
    shared = replace(ON_IT, multi_attach=True, instances=(INSTANCE_ID, OTHER_ID))
    script.answers.update(
        {
            "volume": shared,
            "instance": an_instance,
            "agent": None,
            "agent.detach": {},
            "detach_volume": shared,
        }
    )
    result = invoke("aws", "ebs", "detach", "datasets", "--output", "json")
    assert (last_error(result)["code"], "agent.detach" in script.names()) == ("shared", False)
    assert invoke("aws", "ebs", "detach", "datasets", "--instance", OTHER_ID).exit_code == 0
    assert script.only("detach_volume") == (VOLUME_ID, False, OTHER_ID)
    assert script.only("agent")[0] == OTHER_ID


def test_attaching_only_is_refused_where_another_machine_has_it(invoke: Invoke, script: Script) -> None:
    script.answers.update(
        volume=replace(ON_IT, multi_attach=True, instances=(OTHER_ID,)), instance=an_instance()
    )
    result = invoke("aws", "ebs", "attach", "datasets", INSTANCE_ID, "--no-mount", "--output", "json")
    assert last_error(result)["code"] == "shared"
    assert "attach_volume" not in script.names()


# move


def test_move_wants_to_know_where_to(invoke: Invoke, script: Script) -> None:
    assert invoke("aws", "ebs", "move", "datasets").exit_code == 2
    assert script.calls == []


def test_giving_up_a_move_asks_and_deletes_what_it_made(invoke: Invoke, script: Script) -> None:
    source = a_volume(tags={MOVE: "t", MOVE_ZONE: "us-east-1b"})
    half = a_volume("vol-0fedcba9876543210", name=None, zone="us-east-1b", tags={MOVE: "t"})
    script.answers.update(
        volume=source,
        volumes=(source, half),
        snapshots=(a_snapshot(tags={MOVE: "t"}), a_snapshot("snap-0fedcba9876543210")),
        delete_volume=None,
        delete_snapshot=None,
        tag_volume=None,
    )
    words = ("aws", "ebs", "move", "datasets", "--abandon", "--output", "json")
    plan = json.loads(invoke(*words, "--dry-run").stdout)
    assert (plan["unfinished"]["id"], len(plan["snapshots"])) == (half.id, 1)
    assert last_error(invoke(*words))["code"] == "confirmation-needed"
    assert "delete_volume" not in script.names()
    assert invoke(*words, "--yes").exit_code == 0
    assert script.only("delete_volume") == (half.id, "include_protected")
    assert script.only("delete_snapshot") == (a_snapshot().id, "include_protected")


def test_a_volume_that_is_not_moved_cannot_be_given_up(invoke: Invoke, script: Script) -> None:
    script.answers["volume"] = a_volume()
    result = invoke("aws", "ebs", "move", "datasets", "--abandon", "--output", "json")
    assert last_error(result)["code"] == "not-moving"
