"""``aws ebs clone`` and ``move``."""

from __future__ import annotations

import json

from runctl.core.tags import CONTENT, MOVE, MOVE_ZONE, OWNED, OWNED_VALUE, REPLICA_OF
from tests.cli.conftest import Invoke, last_error
from tests.cli.fake_provider import Script, a_snapshot, a_volume, a_volume_plan


def test_a_copy_is_made_while_the_file_system_holds_still(invoke: Invoke, frozen: Script) -> None:
    result = invoke("aws", "ebs", "fork", "datasets", "--name", "copy")
    names = [name for name in frozen.names() if name not in {"agent", "instance"}]
    assert names == ["plan_clone", "agent.freeze", "clone_volume", "agent.thaw"]
    assert "once, by the GiB" in result.stderr


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
    argv = ("aws", "ebs", "move", "datasets", "--abandon", "--output", "json")
    plan = json.loads(invoke(*argv, "--dry-run").stdout)
    assert (plan["unfinished"]["id"], len(plan["snapshots"])) == (half.id, 1)
    assert last_error(invoke(*argv))["code"] == "confirmation-needed"
    assert "delete_volume" not in script.names()
    assert invoke(*argv, "--yes").exit_code == 0
    assert script.only("delete_volume") == (half.id, "include_protected")
    assert script.only("delete_snapshot") == (a_snapshot().id, "include_protected")


def test_a_volume_that_is_not_moved_cannot_be_given_up(invoke: Invoke, script: Script) -> None:
    script.answers["volume"] = a_volume()
    result = invoke("aws", "ebs", "move", "datasets", "--abandon", "--output", "json")
    assert last_error(result)["code"] == "not-moving"


def test_a_replica_is_not_deleted_for_a_new_one_unasked(invoke: Invoke, script: Script) -> None:
    source = a_volume(tags={OWNED: OWNED_VALUE})
    tags = {OWNED: OWNED_VALUE, REPLICA_OF: source.id, CONTENT: "old"}
    old = a_volume("vol-0fedcba9876543210", name="old", zone="us-east-1b", tags=tags)
    script.answers.update(volume=source, volumes=(source, old), plan_volume=a_volume_plan)

    result = invoke("aws", "ebs", "replicate", "datasets", "--zone", "us-east-1b", "--output", "json")

    error = last_error(result)
    assert (error["code"], old.id in error["hint"]) == ("confirmation-needed", True)
    assert {"tag_volume", "delete_volume"}.isdisjoint(script.names())
