"""A volume moves to another zone however often it is cut short, and what is not its equal does not take its name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.core import tags as tag
from runctl.core.database import Database
from runctl.core.errors import Conflict, NotFound, PermissionDenied, ProviderError
from runctl.core.machine_models import Volume, VolumeState
from runctl.machines.intents import IntentState, IntentStore, Kind
from runctl.machines.moving import MoveRequest, moving
from runctl.machines.moving import abandon as abandon_begun
from runctl.providers.abilities.volume_plans import InitializationStatus, VolumeRequest
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.ebs.volumes import EbsVolumes
from runctl.providers.instance_plans import InstanceRequest, VolumeMount
from runctl.storage.moving import Moved, abandon, carry_out, check_moved, plan_abandon, plan_move
from tests.cli.fake_provider import INSTANCE_ID, a_volume

HERE, THERE = "us-east-1a", "us-east-1b"
CHANGES = re.compile(r"(Create|Delete|Attach|Detach|Modify)\w+")


class Filled(EbsVolumes):
    """moto knows nothing of how far a volume is filled: at once, and nobody promised a rate."""

    def initialization(self, volume_id: str) -> InitializationStatus:
        del volume_id
        return InitializationStatus(complete=True, progress=100, remaining_seconds=0)


class Killed(BaseException):
    """What SIGKILL is to a process, for one that is still to make its assertions."""


@pytest.fixture
def provider(context: Any) -> AwsProvider:
    created = AwsProvider(context)
    created.volumes = Filled(context)
    return created


@pytest.fixture
def store(tmp_path: Path) -> IntentStore:
    return IntentStore(Database(tmp_path / "state.db"), tmp_path / "intents")


class Dying(list[str]):
    """The changes so far."""

    after = 0
    """The process dies with the change of this number; 0: it does not."""


@pytest.fixture
def dying(session: AwsSession) -> Iterator[Dying]:
    """Lets a process die right after one of its changes."""
    client: Any = session.ec2
    changed = Dying()
    original = client._make_api_call

    def call(operation: str, parameters: Any) -> Any:
        answer = original(operation, parameters)
        if CHANGES.match(operation):
            changed.append(operation)
            if len(changed) == changed.after:
                raise Killed
        return answer

    client._make_api_call = call
    yield changed
    client._make_api_call = original


def source(provider: AwsProvider, **changes: Any) -> Volume:
    wanted = VolumeRequest(
        **{
            "size_gib": 10,
            "name": "datasets",
            "zone": HERE,
            "throughput": 250,
            "persistent": True,
            "project": "vision",
            "tags": {"team": "blue", tag.MOUNT_POINT: "/mnt/data"},
            **changes,
        }
    )
    return provider.volumes.create(provider.volumes.plan(wanted))


def move(provider: AwsProvider, word: str = "datasets", zone: str = THERE, *, delete: bool = False) -> Moved:
    plan = plan_move(provider, word, zone, rate=None, delete_source=delete, include_protected=delete)
    return carry_out(provider, plan)


def check_moved_everything(provider: AwsProvider, old: Volume, *, deleted: bool) -> None:
    new = provider.volumes.find("datasets")
    assert (new.zone, new.size_gib, new.throughput, new.persistent) == (THERE, 10, 250, True)
    assert (new.tags["team"], new.tags[tag.PROJECT], new.tags[tag.MOUNT_POINT]) == (
        "blue",
        "vision",
        "/mnt/data",
    )
    left = {volume.id: volume for volume in provider.volumes.list()}
    assert set(left) == ({new.id} if deleted else {new.id, old.id})
    if not deleted:
        assert left[old.id].name == f"datasets-in-{HERE}"
        assert left[old.id].tags[tag.MOVED_TO] == new.id
    assert provider.snapshots.list(everyone=True) == () or all(
        item.tags.get(tag.MOVE) is None for item in provider.snapshots.list()
    )
    for volume in left.values():
        assert not {tag.MOVE, tag.MOVE_ZONE, tag.MOVE_NAME} & set(volume.tags)


@pytest.mark.parametrize("delete", [False, True])
def test_a_move_cut_short_after_any_change_is_finished_by_doing_it_again(
    provider: AwsProvider, session: AwsSession, dying: Dying, delete: bool
) -> None:
    old = source(provider)
    dying.clear()
    deaths: list[str] = []
    while True:
        # Each time it dies a step later: what it finds is what every step can leave behind.
        dying.after = len(dying) + 1
        try:
            move(provider, delete=delete)
        except Killed:
            deaths.append(dying[-1])
            continue
        break
    check_moved_everything(provider, old, deleted=delete)
    assert len(deaths) == len(dying) >= 7
    for once in ("CreateVolume", "CreateSnapshot", "DeleteSnapshot"):
        assert dying.count(once) == 1


@pytest.mark.parametrize("reference", ["name", "id"])
@pytest.mark.parametrize("delete", [False, True])
def test_the_same_command_finishes_a_move_also_when_the_id_it_names_is_deleted(
    provider: AwsProvider, store: IntentStore, dying: Dying, delete: bool, reference: str
) -> None:
    old = source(provider)
    named = "datasets" if reference == "name" else old.id
    dying.clear()
    deaths = 0
    tokens = set()
    while True:
        dying.after = len(dying) + 1
        try:
            with moving(
                store,
                provider,
                MoveRequest(named, THERE),
                rate=None,
                delete_source=delete,
                include_protected=delete,
            ) as begun:
                moved = begun.carry_out()
        except Killed:
            deaths += 1
            (intent,) = store.unfinished()
            tokens.add(intent.token)
            continue
        break
    assert moved.volume.name == "datasets"
    check_moved_everything(provider, old, deleted=delete)
    assert deaths == len(dying) >= 7
    assert len(tokens) == 1
    assert store.unfinished() == []
    assert dying.count("CreateVolume") == dying.count("CreateSnapshot") == 1


def test_a_move_is_carried_out_by_one_command_at_a_time(provider: AwsProvider, store: IntentStore) -> None:
    old = source(provider)
    request = MoveRequest("datasets", THERE)
    with moving(store, provider, request, rate=None) as first:
        provider.volumes.tag(old.id, {tag.MOVE: first.plan.token, tag.MOVE_ZONE: THERE})
        lock = store.lock(first.plan.token)
        assert lock is not None
        with pytest.raises(Conflict) as refused:
            first.carry_out()
        lock.release(for_good=False)
    assert refused.value.code == "moving"


def test_a_move_that_another_computer_began_is_finished_with_its_token(
    provider: AwsProvider, store: IntentStore, dying: Dying
) -> None:
    old = source(provider)
    dying.clear()
    dying.after = 2
    with pytest.raises(Killed):
        move(provider)
    token = provider.volumes.find(old.id).tags[tag.MOVE]
    with moving(store, provider, MoveRequest("datasets", THERE), rate=None) as begun:
        assert begun.plan.token == token
        begun.carry_out()
    known = store.get(token)
    assert known is not None
    assert (known.kind, known.state) == (Kind.MOVE, IntentState.DONE)
    check_moved_everything(provider, old, deleted=False)


def test_nobody_has_to_finish_a_move_that_was_given_up(
    provider: AwsProvider, store: IntentStore, dying: Dying
) -> None:
    source(provider)
    dying.clear()
    dying.after = 2
    with (
        pytest.raises(Killed),
        moving(store, provider, MoveRequest("datasets", THERE), rate=None) as begun,
    ):
        begun.carry_out()
    assert len(store.unfinished()) == 1
    abandon_begun(store, provider, plan_abandon(provider, "datasets"))
    assert store.unfinished() == []


def test_moving_what_is_there_already_does_nothing(provider: AwsProvider, dying: Dying) -> None:
    old = source(provider)
    new = move(provider).volume
    dying.clear()
    assert move(provider).volume.id == new.id
    assert move(provider, old.id).volume.id == new.id
    assert dying == []


def test_the_old_volume_can_be_deleted_later_by_the_same_command(provider: AwsProvider) -> None:
    old = source(provider)
    move(provider)
    move(provider, delete=True)
    check_moved_everything(provider, old, deleted=True)


def test_a_volume_without_a_name_moves_too(provider: AwsProvider) -> None:
    old = source(provider, name=None)
    moved = move(provider, old.id)
    assert (moved.volume.name, moved.volume.zone) == (None, THERE)


def test_the_kept_copy_can_move_again(provider: AwsProvider) -> None:
    source(provider)
    first = move(provider).volume
    provider.volumes.delete(first.id, include_protected=True)
    second = move(provider, f"datasets-in-{HERE}").volume
    assert (second.zone, second.name) == (THERE, f"datasets-in-{HERE}")


def test_one_move_at_a_time(provider: AwsProvider, session: AwsSession, dying: Dying) -> None:
    source(provider)
    dying.clear()
    dying.after = 2
    with pytest.raises(Killed):
        move(provider)
    with pytest.raises(Conflict) as refused:
        plan_move(provider, "datasets", "us-east-1c", rate=None)
    assert refused.value.code == "moving"
    assert THERE in refused.value.hint


def test_what_cannot_be_moved_is_refused_before_anything_is_done(
    provider: AwsProvider, session: AwsSession, dying: Dying
) -> None:
    source(provider)
    theirs = session.ec2.create_volume(AvailabilityZone=HERE, Size=1)["VolumeId"]
    dying.clear()
    with pytest.raises(NotFound):
        plan_move(provider, "nothing", THERE, rate=None)
    with pytest.raises(NotFound):
        plan_move(provider, "datasets", "us-east-1z", rate=None)
    with pytest.raises(Conflict) as protected:
        plan_move(provider, "datasets", THERE, rate=None, delete_source=True)
    assert protected.value.code == "protected"
    with pytest.raises(PermissionDenied):
        plan_move(provider, theirs, THERE, rate=None)
    assert dying == []


SAME = a_volume(zone=THERE)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"zone": HERE}, "zone"),
        ({"state": VolumeState.CREATING}, "state"),
        ({"size_gib": 99}, "size"),
        ({"type": "gp2"}, "type"),
        ({"iops": 100}, "IOPS"),
        ({"throughput": 1}, "throughput"),
        ({"persistent": True}, "protection"),
        ({"encrypted": False}, "encrypted"),
    ],
)
def test_a_volume_that_is_not_the_others_equal_does_not_take_its_name(
    changes: dict[str, Any], word: str
) -> None:
    with pytest.raises(ProviderError, match=word) as refused:
        check_moved("aws", a_volume(), replace(SAME, **changes), THERE)
    assert refused.value.code == "move-check"


@given(st.dictionaries(st.sampled_from(["team", "cost", tag.PROJECT, tag.PURPOSE]), st.text(max_size=5)))
def test_every_tag_that_a_copy_inherits_has_to_be_there(tags: dict[str, str]) -> None:
    old = a_volume(tags=tags)
    check_moved("aws", old, replace(SAME, tags={**tags, tag.MOVE: "x"}), THERE)
    for key in tags:
        with pytest.raises(ProviderError, match=re.escape(key)):
            check_moved("aws", old, replace(SAME, tags={k: v for k, v in tags.items() if k != key}), THERE)


def test_what_was_written_to_meanwhile_is_not_moved() -> None:
    with pytest.raises(Conflict, match="lacks what was written"):
        check_moved("aws", a_volume(instances=(INSTANCE_ID,)), SAME, THERE)


@pytest.mark.parametrize("steps", range(1, 4))
def test_a_move_that_is_given_up_leaves_the_volume_as_it_was(
    provider: AwsProvider, session: AwsSession, dying: Dying, steps: int
) -> None:
    old = source(provider)
    dying.clear()
    dying.after = steps
    with pytest.raises(Killed):
        move(provider)
    abandon(provider, plan_abandon(provider, "datasets"))
    assert provider.volumes.find("datasets") == old
    assert [volume.id for volume in provider.volumes.list()] == [old.id]
    assert provider.snapshots.list() == ()
    with pytest.raises(Conflict) as refused:
        plan_abandon(provider, "datasets")
    assert refused.value.code == "not-moving"


def test_what_is_checked_and_named_is_not_given_up(
    provider: AwsProvider, session: AwsSession, dying: Dying
) -> None:
    source(provider)
    dying.clear()
    dying.after = 4
    with pytest.raises(Killed):
        move(provider)
    with pytest.raises(Conflict, match="has been moved"):
        plan_abandon(provider, "datasets")
    move(provider)


def test_a_volume_on_its_way_is_not_attached(
    provider: AwsProvider, session: AwsSession, dying: Dying
) -> None:
    old = source(provider)
    instance = provider.renting.create(provider.renting.plan(InstanceRequest(zone=HERE)))
    dying.clear()
    dying.after = 2
    with pytest.raises(Killed):
        move(provider)
    with pytest.raises(Conflict) as refused:
        provider.volumes.attach(old.id, instance.id)
    assert refused.value.code == "moving"
    with pytest.raises(Conflict):
        provider.renting.plan(InstanceRequest(zone=HERE, volumes=(VolumeMount(old.id, "/mnt/x"),)))
