"""``aws ebs snapshot``, ``snapshot-list``, ``snapshot-delete`` and ``restore``."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from runctl.core.errors import Conflict, ProviderError, Unreachable
from runctl.core.tags import SHAPE
from runctl.providers.abilities.volume_plans import VolumeRequest
from tests.cli.conftest import Invoke, data_of, last_error
from tests.cli.fake_provider import VOLUME_ID, Script, a_snapshot, a_volume, a_volume_plan


def test_a_snapshot_begins_while_the_file_system_holds_still(invoke: Invoke, frozen: Script) -> None:
    result = invoke("aws", "ebs", "snapshot", "datasets", "--name", "nightly")
    names = [name for name in frozen.names() if name not in {"agent", "instance"}]
    assert names == ["plan_snapshot", "agent.freeze", "create_snapshot", "agent.thaw", "wait_snapshot"]
    assert "was frozen: the copy is consistent" in result.stderr
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


@pytest.mark.parametrize("verb", ["snapshot", "clone"])
def test_a_dry_run_does_not_touch_the_machine(invoke: Invoke, frozen: Script, verb: str) -> None:
    plan = data_of(invoke("aws", "ebs", verb, "datasets", "--dry-run", "--output", "json"))
    assert "client_token" not in plan
    assert frozen.names() == [f"plan_{verb}"]


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
    item, two = a_snapshot(), a_snapshot("snap-0fedcba9876543210")

    def delete(identifier: str, *_: object) -> None:
        if identifier == item.id:
            raise Conflict("marked persistent", code="protected")

    script.answers.update(snapshot=lambda word: item if word == "one" else two, delete_snapshot=delete)
    argv = ("aws", "ebs", "snapshot-delete", "one", "two", "--output", "json")
    assert last_error(invoke(*argv))["code"] == "confirmation-needed"
    result = invoke(*argv, "--yes")
    assert (result.exit_code, last_error(result)["code"]) == (1, "protected")
    assert [found["id"] for found in json.loads(result.stdout)] == [two.id]
    script.calls.clear()
    invoke(*argv, "--yes", "--include-protected")
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
