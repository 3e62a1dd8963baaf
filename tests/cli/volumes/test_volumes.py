"""``aws ebs create``, ``show`` and ``delete``."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from runctl.core.errors import Conflict, NotFound
from runctl.core.tags import PURPOSE
from runctl.providers import registry
from runctl.providers.abilities.volume_plans import InitializationStatus, Modification, VolumeRequest
from tests.cli.conftest import Invoke, data_of, error_of
from tests.cli.fake_provider import VOLUME_ID, Script, a_snapshot, a_volume, a_volume_plan
from tests.cli.volumes.conftest import ON_IT


def test_a_volume_has_the_promised_json_shape(invoke: Invoke, script: Script) -> None:
    script.answers["volumes"] = (a_volume(),)
    assert data_of(invoke("aws", "ebs", "list", "--output", "json")) == [
        {
            "id": VOLUME_ID,
            "name": "datasets",
            "state": "available",
            "size_gib": 100,
            "type": "gp3",
            "iops": 3000,
            "throughput": 125,
            "zone": "us-east-1a",
            "encrypted": True,
            "attached_to": None,
            "device": None,
            "mount_point": None,
            "persistent": False,
            "price_per_month": "8.00",
            "tags": {"runctl:managed": "true"},
            "multi_attach": False,
            "instances": [],
            "snapshot_id": None,
            "created_at": None,
            "source_volume_id": None,
            "ends_with_instance": False,
        }
    ]


def test_create_shows_its_plan_and_prints_the_id(invoke: Invoke, script: Script) -> None:
    script.answers.update(plan_volume=a_volume_plan, create_volume=a_volume())
    result = invoke("aws", "ebs", "create", "--size", "100", "--name", "datasets")
    assert "$8.00 a month" in result.stderr
    assert VOLUME_ID in result.stdout
    (request,) = script.only("plan_volume")
    assert replace(request, token=None) == VolumeRequest(size_gib=100, name="datasets", project="project")


def test_a_name_in_a_tag_beside_another_name_is_refused(invoke: Invoke, script: Script) -> None:
    script.answers["plan_volume"] = a_volume_plan
    create = ("aws", "ebs", "create", "--size", "1", "--dry-run", "--tag", "Name=x", "--output", "json")

    assert error_of(invoke(*create, "--name", "y"))["hint"] == "--name x"
    data_of(invoke(*create))
    assert script.only("plan_volume")[0].tags == {"Name": "x"}


def test_create_dry_run_creates_nothing(invoke: Invoke, script: Script) -> None:
    script.answers["plan_volume"] = a_volume_plan
    plan = data_of(invoke("aws", "ebs", "create", "--size", "1", "--dry-run", "--output", "json"))
    assert plan["price"]["usd"] == "8.00"
    assert script.names() == ["plan_volume"]


@pytest.mark.parametrize(
    "argv", ["", "--size 0", "--size x", "--size 1 --name vol-1", "--size 1 --name /mnt"]
)
def test_create_refuses_what_cannot_be_meant(invoke: Invoke, script: Script, argv: str) -> None:
    assert invoke("aws", "ebs", "create", *argv.split()).exit_code == 2
    assert script.calls == []


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
    "argv",
    [
        "--size 1 --for archive --volume-type gp3",
        "--size 1 --volume-type gp9",
        "--size 1 --for nothing",
        "",
        "--size 1 --name snap-1",
    ],
)
def test_what_contradicts_itself_is_refused(invoke: Invoke, script: Script, argv: str) -> None:
    assert invoke("aws", "ebs", "create", *argv.split()).exit_code == 2
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
    argv = (
        "create --from-snapshot nightly --initialization-rate 200 --multi-attach --volume-type io2 --iops 100"
    )
    invoke("aws", "ebs", *argv.split(), "--dry-run")
    request: VolumeRequest = script.only("plan_volume")[0]
    assert (request.initialization_rate, request.multi_attach) == (200, True)


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
    for phrase in ("optimizing, 40 %", "30 % so far", "before-cleaning"):
        assert phrase in text
    shown = data_of(invoke("aws", "ebs", "show", "datasets", "--output", "json"))
    assert shown["modification"]["state"] == "optimizing"
    assert shown["snapshots"][0]["name"] == "before-cleaning"
    assert shown["initialization"]["progress"] == 30


def test_delete_without_a_terminal_refuses(invoke: Invoke, script: Script) -> None:
    script.answers["volume"] = a_volume()
    result = invoke("aws", "ebs", "delete", "datasets")
    assert result.exit_code == 2
    assert f"{VOLUME_ID} (datasets, 100 GiB)" in result.stderr
    assert script.names() == ["volume"]


def test_delete_takes_several_and_each_once(invoke: Invoke, script: Script) -> None:
    script.answers.update(
        volume=lambda word: a_volume() if word == "datasets" else a_volume(word), delete_volume=None
    )
    gone = data_of(invoke("aws", "ebs", "rm", "datasets", VOLUME_ID, "vol-2", "-y", "--output", "json"))
    assert [(v["id"], v["state"]) for v in gone] == [(VOLUME_ID, "deleted"), ("vol-2", "deleted")]


def test_a_protected_volume_does_not_spare_the_others(invoke: Invoke, script: Script) -> None:
    def delete(identifier: str) -> None:
        if identifier == VOLUME_ID:
            raise Conflict(f"{identifier} is persistent", code="protected")

    script.answers.update(volume=a_volume, delete_volume=delete)
    result = invoke("aws", "ebs", "delete", VOLUME_ID, "vol-2", "--yes", "--quiet")
    assert (result.exit_code, result.stdout) == (1, "vol-2\n")
    assert "is persistent" in result.stderr


def test_an_unknown_volume_is_exit_code_5(invoke: Invoke, script: Script) -> None:
    script.answers["volume"] = NotFound("there is no volume x")
    assert invoke("aws", "ebs", "delete", "x", "--yes").exit_code == 5


def test_what_is_protected_is_deleted_only_when_that_is_said(invoke: Invoke, script: Script) -> None:
    script.answers.update(volume=a_volume(persistent=True), delete_volume=None)
    invoke("aws", "ebs", "delete", "datasets", "--yes")
    assert script.only("delete_volume") == (VOLUME_ID,)
    script.calls.clear()
    invoke("aws", "ebs", "delete", "datasets", "--yes", "--include-protected")
    assert script.only("delete_volume") == (VOLUME_ID, "include_protected")


@pytest.mark.parametrize("provider", ["aws", "lyceum", "runpod"])
def test_what_makes_a_volume_is_told_as_the_provider_makes_them(
    invoke: Invoke, script: Script, provider: str
) -> None:
    script.answers["volumes"] = ()
    group = registry.volume_group(provider).name
    told = invoke(provider, group, "list").stderr
    words = registry.volume_creation(provider).split()
    assert told == f"no volumes; {' '.join(words)} makes one\n"
    options = [word for word in words if word.startswith("--")]
    shown = invoke(*words[1 : words.index(options[0])], "--help")
    assert shown.exit_code == 0
    assert all(option in shown.stdout for option in options)
