"""Every command that makes or changes something, ended at each of its calls to AWS: what is said, and the same again.

Whatever the command has made is named; the same command finishes the job, and nothing is there twice.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from runctl.core import tags as tag
from runctl.core.database import Database
from runctl.core.files import intents_folder, state_file
from runctl.core.ids import InstanceId
from runctl.machines.intents import IntentStore
from runctl.providers.aws.calls import idempotence
from runctl.providers.aws.calls.changes import describer
from tests.forked import client
from tests.machines.account import ZONE, Account, World
from tests.machines.conftest import Cut, Ended, Runctl

pytestmark = [pytest.mark.namespaces, pytest.mark.root]

MACHINE_LEVEL = {"SendCommand", "GetCommandInvocation"}
BILLED = {"RunInstances", "CreateVolume", "CopyVolumes", "CreateSnapshot"}


@dataclass(frozen=True)
class Scenario:
    """A command, with what it needs and how many new things it makes."""

    argv: Callable[[World], tuple[str, ...]]
    makes: int = 0
    on_a_machine: bool = False


SCENARIOS = {
    "ebs create": Scenario(lambda w: ("ebs", "create", "--size", "1", "--zone", ZONE), makes=1),
    "ebs snapshot": Scenario(lambda w: ("ebs", "snapshot", w.volume()), makes=1),
    "ebs restore": Scenario(
        lambda w: ("ebs", "restore", w.snapshot(), "--zone", ZONE, "--name", f"r{w.count}"), makes=1
    ),
    "ebs clone": Scenario(lambda w: ("ebs", "clone", w.volume(), "--name", f"c{w.count}"), makes=1),
    "ebs move": Scenario(
        lambda w: ("ebs", "move", w.volume(), "--zone", "us-east-1b", "--no-initialization-rate"),
        makes=1,
    ),
    "ebs delete": Scenario(lambda w: ("ebs", "delete", w.volume())),
    "ebs snapshot-delete": Scenario(lambda w: ("ebs", "snapshot-delete", w.snapshot())),
    "create": Scenario(
        lambda w: ("create", "--no-wait", "--zone", ZONE, "--ebs-volume", w.volume()), makes=1
    ),
    "terminate": Scenario(lambda w: ("terminate", w.launched())),
    "stop": Scenario(lambda w: ("stop", w.launched())),
    "start": Scenario(lambda w: ("start", "--no-wait", w.launched(stopped=True))),
    "ebs attach": Scenario(lambda w: ("ebs", "attach", w.volume(), w.machine), on_a_machine=True),
    "ebs detach": Scenario(lambda w: ("ebs", "detach", w.attached()), on_a_machine=True),
    "ebs resize": Scenario(lambda w: ("ebs", "resize", w.attached(), "--size", "2"), on_a_machine=True),
}


@pytest.fixture
def world(runctl: Runctl) -> Iterator[World]:
    account = Account()
    account.wait_for_ends()
    yield World(runctl, account)
    for instance in [identifier for identifier in account.things() if identifier.startswith("i-")]:
        account.ec2.terminate_instances(InstanceIds=[instance])


def points(calls: tuple[str, ...]) -> list[Cut]:
    """After each call that changes something, before those that make what is billed, and after one that only reads."""
    numbered = [(name, calls[:n].count(name) + 1) for n, name in enumerate(calls)]
    # Of the tags of a move every one is a point in tests/storage/test_moving.py.
    tagging = [(name, 1) for name in ("CreateTags", "DeleteTags")]
    changing = [pair for pair in numbered if describer(pair[0]) or pair in tagging]
    after_first = numbered[numbered.index(changing[0]) :]
    # After a change the first one, as it waits for what was changed.
    reading = [
        pair for before, pair in pairwise(after_first) if pair not in changing and pair[0] != before[0]
    ]
    return [
        *(Cut(*pair) for pair in changing),
        *(Cut(*pair, before=True) for pair in changing if pair[0] in BILLED),
        *(Cut(*pair) for pair in reading[:1]),
    ]


def intents() -> IntentStore:
    return IntentStore(Database(state_file()), intents_folder())


ALWAYS = {"create"}
"""What a whole run asks; the rest goes through the same journal, and `scripts/test slow` asks it."""


@pytest.mark.parametrize(
    "name",
    [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.slow) for name in SCENARIOS],
)
def test_ctrl_c_says_what_exists_and_the_same_command_finishes_the_job(world: World, name: str) -> None:
    scenario, account = SCENARIOS[name], world.account
    if scenario.on_a_machine:
        world.machine = world.runctl.ok("aws", "create", "--zone", ZONE).document["id"]
    if name == "create":
        account.forget_profile()
    whole = world.runctl.ok("aws", *scenario.argv(world))
    told = []
    for cut in points(whole.calls):
        if name == "create":
            account.forget_profile()
        argv = ("aws", *scenario.argv(world))
        things, attachments = account.things(), account.attachments()
        ended = world.runctl(*argv, cut=cut)
        where = f"{name}: {'before' if cut.before else 'after'} {cut.operation} ({cut.occurrence})"
        if not cut.made:
            continue  # it had to wait less this time, or had made the bucket before

        assert ended.code == 130, f"{where}: {ended}"
        check_what_is_said(ended, account, things, attachments, where)
        second = world.runctl(*argv)
        assert second.code == 0, f"{where}, again: {second}"
        created = account.things().keys() - things.keys()
        assert len(created) == scenario.makes, f"{where}: {created}"
        assert all(tag.is_ours(account.things()[each]) for each in created), where
        assert intents().unfinished() == [], where
        told.append(bool(ended.error.get("changes")))
    assert any(told), "no point at which anything was said"


def check_what_is_said(
    ended: Ended,
    account: Account,
    things: dict[str, dict[str, str]],
    attachments: set[tuple[str, str]],
    where: str,
) -> None:
    """Of whatever is different, it is said; of what is made, how it is taken back."""
    now, changes = account.things(), ended.error.get("changes", [])
    said = {identifier for change in changes for identifier in change["ids"]}
    different = (now.keys() ^ things.keys()) | {
        identifier for pair in account.attachments() ^ attachments for identifier in pair if identifier in now
    }
    assert different <= said, f"{where}: {different} {ended.err}"
    for change in changes:
        if (
            change["effect"] == "made"
            and change["certain"]
            and change["kind"] in {"instance", "volume", "snapshot"}
        ):
            assert set(change["ids"]) <= now.keys(), f"{where}: {change}"
            assert change["undo"], where
    deleted = changes and all(each["effect"] == "gone" and each["certain"] for each in changes)
    if changes and not deleted:
        assert ended.error["hint"] == "run the same command again to continue", where
    elif not changes and not MACHINE_LEVEL & set(ended.calls):
        assert ended.error["message"] == "interrupted; nothing was changed", where


def kill_after(operation: str, *argv: str) -> None:
    """The command is killed when AWS has answered that call, before it hears of the answer."""
    killed = client.run([operation, *argv], cwd=Path.cwd(), env=os.environ, program="tests.machines.killed")
    assert killed[0] == 9, killed


@pytest.mark.parametrize(
    ("command", "operation"),
    [
        (("aws", "ebs", "create", "--size", "1", "--zone", ZONE), "CreateVolume"),
        (("aws", "ebs", "snapshot", "VOLUME", "--no-freeze"), "CreateSnapshot"),
        (("aws", "create", "--zone", ZONE, "--ebs-volume", "VOLUME"), "RunInstances"),
        (("aws", "create", "--zone", ZONE, "--ebs-volume", "VOLUME"), "AttachVolume"),
        (("aws", "create", "--zone", ZONE), "SendCommand"),
        (("aws", "create", "t3.micro", "--instance-type", "t3.small", "--spot"), "CreateFleet"),
    ],
)
def test_what_a_killed_command_has_made_is_finished_by_the_same_command(
    world: World, command: tuple[str, ...], operation: str
) -> None:
    argv = [world.volume() if word == "VOLUME" else word for word in command]
    things = world.account.things()
    kill_after(operation, *argv)
    (left,) = intents().unfinished()

    second = world.runctl(*argv)

    assert second.code == 0, second
    assert "is not finished: going on with it" in second.err
    (created,) = world.account.things().keys() - things.keys()
    assert created == second.document["id"]
    assert world.account.things()[created][tag.INTENT] == left.token
    assert intents().unfinished() == []
    assert world.account.ec2.describe_launch_templates()["LaunchTemplates"] == []
    another = world.runctl.ok(*argv[:4], *argv[4:]).document["id"] if operation == "CreateVolume" else ""
    assert another != created


def test_a_killed_command_that_has_made_only_a_launch_template_is_done_anew(world: World) -> None:
    argv = ("aws", "create", "t3.micro", "--instance-type", "t3.small", "--spot", "--no-wait")
    kill_after("CreateLaunchTemplate", *argv)
    (left,) = intents().unfinished()
    (template,) = world.account.ec2.describe_launch_templates()["LaunchTemplates"]
    assert template["LaunchTemplateName"].endswith(left.token)

    second = world.runctl.ok(*argv).document["id"]

    assert world.account.things()[second][tag.INTENT] == left.token
    assert world.account.ec2.describe_launch_templates()["LaunchTemplates"] == []
    assert intents().unfinished() == []


def test_a_command_that_still_runs_in_another_shell_is_another_intent(world: World) -> None:
    argv = ("aws", "ebs", "create", "--size", "1", "--zone", ZONE)
    world.runctl(*argv, cut=Cut("CreateVolume"))
    (open_one,) = intents().unfinished()
    lock = intents().lock(open_one.token)
    assert lock is not None

    second = world.runctl.ok(*argv).document["id"]

    assert world.account.things()[second][tag.INTENT] != open_one.token
    lock.release(for_good=False)
    first = world.runctl.ok(*argv).document["id"]
    assert world.account.things()[first][tag.INTENT] == open_one.token


def test_a_run_on_the_machine_of_a_killed_create_leaves_nothing_to_finish(world: World) -> None:
    kill_after("RunInstances", "aws", "create", "--zone", ZONE)
    (left,) = intents().unfinished()
    (machine,) = [each for each, tags in world.account.things().items() if tags.get(tag.INTENT) == left.token]
    world.provider.wait_ready(InstanceId(machine), timeout=timedelta(minutes=2))
    Path("train.py").write_text("print('trained')\n")

    world.runctl.ok("aws", "train", machine, "train.py")

    assert intents().unfinished() == []


def test_what_a_killed_command_has_made_and_somebody_deleted_is_made_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotence, "LISTED_WITHIN", timedelta(seconds=1))
    argv = ("aws", "ebs", "create", "--size", "1", "--zone", ZONE)
    before = world.account.things().keys()
    kill_after("CreateVolume", *argv)
    (created,) = world.account.things().keys() - before
    wait_for_another_second(world, created)
    world.account.ec2.delete_volume(VolumeId=created)

    second = world.runctl.ok(*argv).document["id"]

    assert world.account.things().keys() - before == {second}
    assert intents().unfinished() == []


def wait_for_another_second(world: World, volume: str) -> None:
    """The time in the tags of a request that is made now is not the same as in the volume's."""
    (item,) = world.account.ec2.describe_volumes(VolumeIds=[volume])["Volumes"]
    while datetime.now(UTC) < item["CreateTime"] + timedelta(seconds=1.1):
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("command", "prepare", "operation"),
    [
        (("ebs", "delete"), World.volume, "DeleteVolume"),
        (("ebs", "snapshot-delete"), World.snapshot, "DeleteSnapshot"),
    ],
)
def test_a_killed_deletion_is_known_to_the_same_command(
    world: World, command: tuple[str, ...], prepare: Callable[[World], str], operation: str
) -> None:
    argv = ("aws", *command, prepare(world))
    kill_after(operation, *argv, "--yes")

    second = world.runctl.ok(*argv)

    assert "is deleted already, by the command of" in second.err
    assert intents().unfinished() == []


def test_what_has_the_name_of_a_deleted_volume_now_is_left_alone(world: World) -> None:
    name = world.volume()
    kill_after("DeleteVolume", "aws", "ebs", "delete", name, "--yes")
    newer = world.runctl.ok("aws", "ebs", "create", "--size", "1", "--zone", ZONE, "--name", name)

    second = world.runctl("aws", "ebs", "delete", name)

    assert (second.code, second.error["code"]) == (1, "name-moved-on")
    assert newer.document["id"] in world.account.things()
    world.runctl.ok("aws", "ebs", "delete", newer.document["id"])


def test_what_was_deleted_since_is_not_taken_up(world: World) -> None:
    argv = ("aws", "ebs", "create", "--size", "1", "--zone", ZONE)
    cut = world.runctl(*argv, cut=Cut("CreateVolume"))
    (created,) = cut.error["changes"][0]["ids"]
    world.account.ec2.delete_volume(VolumeId=created)

    second = world.runctl.ok(*argv).document["id"]

    assert second != created
    assert intents().unfinished() == []
