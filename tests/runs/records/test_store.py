from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from runctl.agent.after_run import MachineEnd
from runctl.agent.checkpoint_spec import CheckpointStatus
from runctl.agent.end_reason import RETRIED, EndReason
from runctl.agent.interruption import HandOff
from runctl.agent.spec import AttemptStatus, EndRecord, MountSpec, RunState
from runctl.core.database import Database
from runctl.core.errors import InstanceEnded, NotFound, UsageError
from runctl.core.ids import InstanceId, VolumeId
from runctl.core.machine_models import Market, Mount
from runctl.core.run_models import GitState, MovedVolume, RunPhase, SpotFallback
from runctl.machines.pool_record import PoolEventKind, PoolRecord
from runctl.machines.renting import RentalEvent, rental_of
from runctl.render.run_table import run_details
from runctl.runs.records.node_records import KnownNode, KnownNodes
from runctl.runs.records.run_record import as_known
from runctl.runs.records.run_times import run_times, working
from runctl.runs.records.shown_run import as_run
from runctl.runs.records.store import RunStore
from runctl.runs.records.updates import fell_back, from_status, with_end, with_its_machine
from tests.cli.fake_provider import FakeProvider, Script, an_instance
from tests.runs.nodes.records import on_machines
from tests.runs.sample_runs import T0, a_run


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    database = Database(tmp_path / "state.db")
    yield RunStore(database)
    database.close()


def test_what_was_put_is_what_is_found(store: RunStore) -> None:
    record = a_run(started_at=T0, ended_at=T0 + timedelta(hours=1), end_reason=EndReason.FAILED, exit_code=3)

    store.put(record)

    assert store.get("run-aaaa") == record


def test_what_is_needed_to_repeat_a_run_is_kept(store: RunStore) -> None:
    record = a_run(
        name="baseline",
        instance_name="digits",
        interpreter=("python3", "-X", "dev"),
        workdir="/workspace",
        timeout_seconds=90.5,
        image_digest="sha256:abc",
        variables=("A", "B"),
        git=GitState("0" * 40, ("a file", "ü"), 2),
    )

    store.put(record)

    assert store.get("run-aaaa") == record
    assert as_run(store.get("run-aaaa"), T0).git == record.git


def test_what_an_attempt_on_demand_costs_more_and_where_volumes_went_is_kept_and_told(
    store: RunStore,
) -> None:
    fallback = SpotFallback(Decimal("0.1"))
    moved = MovedVolume("results", VolumeId("vol-1"), "us-east-1a", VolumeId("vol-2"), "us-east-1b", 2)
    before = a_run(market="on-demand", price_per_hour=Decimal("0.35"), fallback=fallback)
    record = replace(before, attempt=2, fallback=None, moved_volumes=(moved,), past=(as_known(before),))

    store.put(record)

    found = store.get("run-aaaa")
    assert found == record
    shown = as_run(found, T0)
    assert [each.fallback for each in shown.attempts] == [fallback, None]
    text = run_details(shown)
    assert "attempt 1, as no spot machine was available, $0.2500 an hour more" in text
    assert "results from us-east-1a to us-east-1b for attempt 2 (vol-2 has the data of vol-1)" in text


def test_a_project_is_shown_by_its_name() -> None:
    text = run_details(as_run(a_run(project="digits-0123abcd"), T0))

    assert [line.split() for line in text.splitlines() if line.startswith("project")] == [
        ["project", "digits"]
    ]


def test_only_a_machine_on_demand_in_place_of_spot_is_a_fallback() -> None:
    price = Decimal("0.1")
    on_demand, spot = (an_instance(market=market) for market in (Market.ON_DEMAND, Market.SPOT))

    assert fell_back(Market.SPOT, on_demand, price) == SpotFallback(price)
    assert fell_back(Market.SPOT, spot, price) is None
    assert fell_back(Market.ON_DEMAND, on_demand, price) is None


def test_what_a_machine_that_was_taken_back_left_is_kept_and_told(store: RunStore) -> None:
    began = T0.timestamp()
    given = HandOff(
        began + 120,
        {"verified": began + 2.25, "heard": began, "signalled": began + 0.5},
        "step-7.pt",
        "0" * 64,
        7,
        ("volume vol-1 is still mounted: it took too long",),
    )
    end = EndRecord(EndReason.INTERRUPTED, began + 3, hand_off=given)

    saved = a_run(saved_volume=VolumeId("vol-1"), saved_folder="runs/run-aaaa")
    store.put(with_end(saved, end))

    found = store.get("run-aaaa")
    assert found.hand_off == given
    shown = as_run(found, T0)
    assert shown.hand_off is not None
    assert list(shown.hand_off.stages) == ["heard", "signalled", "verified"]
    story = run_details(shown)
    assert "heard 2026-05-01 12:00:00 UTC, of an end at 12:02:00" in story
    assert "signalled 0.5 s, verified 2.2 s" in story
    assert f"step-7.pt, step 7, SHA-256 {'0' * 64}" in story
    assert "still mounted: it took too long" in story
    (log,) = [line for line in story.splitlines() if line.startswith("log")]
    assert log.endswith(" runs/run-aaaa/logs/1.log on vol-1"), "its disk went with it"


def test_a_run_is_found_by_its_name_and_as_the_latest(store: RunStore) -> None:
    store.put(a_run("run-old", name="baseline"))
    store.put(a_run("run-new", name="wide", created_at=T0 + timedelta(hours=1)))

    assert store.get("baseline").id == "run-old"
    assert store.get("latest").id == "run-new"


def test_a_name_of_several_runs_is_refused_with_their_ids(store: RunStore) -> None:
    store.put(a_run("run-a1", name="baseline"))
    store.put(a_run("run-b2", name="baseline"))

    with pytest.raises(UsageError, match="baseline is the name of several runs: run-a1, run-b2"):
        store.get("baseline")


@pytest.mark.parametrize("pattern", ["base*", "base%", "b_seline", "BASELINE", "run-%"])
def test_a_run_is_not_found_by_a_pattern(store: RunStore, pattern: str) -> None:
    store.put(a_run(name="baseline"))

    with pytest.raises(NotFound):
        store.get(pattern)


def test_there_is_no_latest_run_before_the_first(store: RunStore) -> None:
    with pytest.raises(NotFound, match="started no run yet"):
        store.get("latest")


def test_runs_are_listed_by_instance_project_and_name(store: RunStore) -> None:
    store.put(a_run("run-1", project="digits-0123abcd", instance_name="big", name="x"))
    store.put(a_run("run-2", project="digitsy-0123abcd", instance_id=InstanceId("big")))

    def ids(**wanted: str) -> list[str]:
        return sorted(record.id for record in store.list(**wanted))  # type: ignore[arg-type]

    assert ids(project="digits") == ["run-1"]
    assert ids(project="digits-0123abcd") == ["run-1"]
    assert ids(name="x") == ["run-1"]
    assert ids(instance="big") == ["run-1", "run-2"]


def test_a_run_is_found_by_the_beginning_of_its_id(store: RunStore) -> None:
    store.put(a_run("run-abcd"))
    store.put(a_run("run-xyzw"))

    assert store.get("run-a").id == "run-abcd"


def test_an_ambiguous_beginning_is_refused(store: RunStore) -> None:
    store.put(a_run("run-abcd"))
    store.put(a_run("run-abce"))

    with pytest.raises(UsageError, match="several runs"):
        store.get("run-abc")


def test_a_whole_id_is_never_ambiguous(store: RunStore) -> None:
    store.put(a_run("run-abc"))
    store.put(a_run("run-abcd"))

    assert store.get("run-abc").id == "run-abc"


def test_an_unknown_run_is_not_found_with_a_suggestion(store: RunStore) -> None:
    store.put(a_run("run-7kq2m9xd4t"))

    with pytest.raises(NotFound, match="run-7kq2m9xd4x") as caught:
        store.get("run-7kq2m9xd4x")

    assert "run-7kq2m9xd4t" in caught.value.hint


def test_an_empty_text_is_the_beginning_of_no_run(store: RunStore) -> None:
    store.put(a_run("run-abcd"))

    with pytest.raises(UsageError, match="empty"):
        store.get("")


def test_a_percent_sign_is_no_wildcard(store: RunStore) -> None:
    store.put(a_run("run-abcd"))

    with pytest.raises(NotFound):
        store.get("%")


def test_runs_are_listed_newest_first_and_by_instance(store: RunStore) -> None:
    store.put(a_run("run-old", created_at=T0))
    store.put(a_run("run-new", created_at=T0 + timedelta(minutes=1)))
    store.put(a_run("run-other", instance_id=InstanceId("i-0def")))

    assert [record.id for record in store.list(instance="i-0abc")] == ["run-new", "run-old"]
    assert [record.id for record in store.list(limit=1)] == ["run-new"]


def test_a_run_costs_the_instances_price_for_its_time(store: RunStore) -> None:
    record = a_run(price_per_hour=Decimal("0.30"), ended_at=T0 + timedelta(minutes=20))

    assert record.cost(T0 + timedelta(days=1)) == Decimal("0.1")
    assert a_run(price_per_hour=Decimal("0.30")).cost(T0 + timedelta(hours=2)) == Decimal("0.6")
    assert a_run(price_per_hour=None).cost(T0) is None


def test_a_status_of_the_machine_becomes_the_record() -> None:
    end = EndRecord(EndReason.FAILED, (T0 + timedelta(hours=1)).timestamp(), exit_code=3, message="bad luck")
    status = AttemptStatus(
        "run-aaaa",
        1,
        RunState.ENDED,
        started_at=T0.timestamp(),
        mounts=(MountSpec("/mnt/data", "/data", False, "vol-1", "automatic"),),
        end=end,
    )

    record = from_status(a_run(), status, T0)

    assert record.state is RunPhase.ENDED
    assert (record.end_reason, record.exit_code, record.message) == ("FAILED", 3, "bad luck")
    assert record.ended_at == T0 + timedelta(hours=1)
    assert record.mounts == (Mount("/mnt/data", "/data", False, VolumeId("vol-1"), "automatic"),)


def test_a_lost_run_has_ended_without_an_exit_code() -> None:
    record = with_its_machine(a_run(), InstanceEnded("instance i-0abc is terminated"), T0)

    assert (record.state, record.end_reason, record.exit_code) == (RunPhase.ENDED, "LOST", None)


@pytest.mark.parametrize(
    "behind", [timedelta(hours=3), timedelta(days=400), timedelta(hours=-3), timedelta(0)]
)
def test_cost_and_duration_come_from_the_machines_clock_alone(behind: timedelta) -> None:
    """The run took 30 minutes by its machine; this computer's clock is somewhere else."""
    here = T0 - behind
    price = Decimal("0.30")
    asked = a_run(price_per_hour=price, created_at=here)
    running = from_status(
        asked,
        AttemptStatus(
            "run-aaaa",
            1,
            RunState.RUNNING,
            created_at=T0.timestamp(),
            started_at=T0.timestamp() + 60,
            now=T0.timestamp() + 60,
        ),
        here + timedelta(seconds=60),
    )
    half_an_hour = here + timedelta(minutes=30)
    end = EndRecord(EndReason.COMPLETED, T0.timestamp() + 1800)
    done = from_status(
        running,
        AttemptStatus(
            "run-aaaa", 1, RunState.ENDED, created_at=T0.timestamp(), now=T0.timestamp() + 9999, end=end
        ),
        here + timedelta(seconds=9999),
    )

    for record in (running, with_its_machine(running, InstanceEnded("gone"), half_an_hour), done):
        assert record.cost(half_an_hour) == Decimal("0.15")
        assert as_run(record, half_an_hour).elapsed_seconds == 1740.0


@pytest.mark.parametrize("seen", [None, 40])
def test_what_an_attempt_saved_last_is_known_by_what_the_next_one_that_started_went_on_from(
    seen: int | None,
) -> None:
    def checkpoint(step: int) -> CheckpointStatus:
        return CheckpointStatus(f"/c/step-{step}.pt", T0.timestamp() + 60 * step, step)

    known = checkpoint(seen) if seen else None
    first = a_run(started_at=T0 + timedelta(minutes=1), checkpoint=known)
    died = with_end(first, EndRecord(EndReason.LOST, T0.timestamp() + 3600))
    never = with_end(
        replace(first, attempt=2, started_at=None, checkpoint=None, past=(as_known(died),)),
        EndRecord(EndReason.INTERRUPTED, T0.timestamp() + 4000),
    )
    later = T0 + timedelta(hours=2)
    third = replace(
        first,
        attempt=3,
        started_at=later,
        resumed=checkpoint(50),
        checkpoint=None,
        past=(*never.past, as_known(never)),
    )
    again = with_end(third, EndRecord(EndReason.LOST, later.timestamp() + 300))
    fourth = replace(
        third, attempt=4, started_at=later + timedelta(hours=1), past=(*again.past, as_known(again))
    )

    shown = as_run(fourth, later + timedelta(hours=2)).attempts

    # What attempts 3 and 4 began with is attempt 1's: attempt 3 has saved nothing itself.
    assert [each.step for each in shown] == [50, None, None, None]
    assert [each.lost_seconds for each in shown] == [600.0, 0.0, 300.0, None]


def test_an_attempt_that_nobody_had_asked_about_before_it_died_has_saved_what_the_next_one_went_on_from() -> (
    None
):
    saved = CheckpointStatus("/c/step-20.pt", T0.timestamp() + 60, 20)
    died = with_end(a_run(started_at=None), EndRecord(EndReason.LOST, T0.timestamp() + 90))
    later = T0 + timedelta(minutes=5)
    second = a_run(
        attempt=2, created_at=later, started_at=later, resumed=saved, checkpoint=None, past=(as_known(died),)
    )

    first, _ = as_run(second, later).attempts

    assert (first.step, first.lost_seconds) == (20, 30.0)


def test_a_machine_that_died_while_nobody_looked_lost_what_it_had_done_by_then() -> None:
    going = a_run(started_at=T0, clock_ahead=30.0)
    noticed, died = T0 + timedelta(hours=8), T0 + timedelta(minutes=10)

    told = with_its_machine(going, InstanceEnded("i-0abc is terminated", at=died), noticed)

    assert told.ended_at == died + timedelta(seconds=30)
    untold = with_its_machine(going, InstanceEnded("i-0abc is terminated"), noticed)
    assert untold.ended_at == noticed + timedelta(seconds=30)


@pytest.mark.parametrize("kept", ["nowhere", "folder", "volume", "results", "store", "machine"])
@pytest.mark.parametrize("word", ["by itself", "forgotten", "ended by somebody"])
def test_what_ended_with_nobody_looking_is_not_done_again_where_nothing_of_it_is_left(
    kept: str, word: str
) -> None:
    going = a_run(state=RunPhase.RUNNING, machine_end=MachineEnd(keep=kept == "machine"))
    if kept == "volume":
        going = replace(going, mounts=(Mount("/mnt/r", "/r", False, VolumeId("vol-1"), "--ebs-mount"),))
    if kept == "store":
        going = replace(going, store="s3://mine/runs")
    if kept in {"results", "folder"}:
        going = replace(going, results="s3://mine/results" if kept == "results" else "results")

    gone = InstanceEnded("it is gone", by_itself=word == "by itself", forgotten=word == "forgotten")
    told = with_its_machine(going, gone, T0)

    unseen = kept in {"nowhere", "folder"} and word != "ended by somebody"
    assert told.end_reason is (EndReason.UNSEEN if unseen else EndReason.LOST)
    assert (told.end_reason in RETRIED) is not unseen
    may_have_ended = kept not in {"store", "machine"}
    assert ("perhaps after the run, as it was to end itself then" in told.message) is may_have_ended
    assert ("s3://mine/results" in told.message) is (kept == "results")


def test_the_story_of_a_run_has_all_attempts_and_what_was_done_again(store: RunStore) -> None:
    first = a_run(
        zone="us-east-1a",
        instance_type="g5.xlarge",
        market="spot",
        started_at=T0 + timedelta(minutes=1),
        checkpoint=CheckpointStatus("/mnt/c/step-40.pt", T0.timestamp() + 3000, 40),
    )
    notice = "EC2 takes the spot machine back at 13:00:00"
    ended = with_end(first, EndRecord(EndReason.INTERRUPTED, T0.timestamp() + 3600, message=notice))
    second = replace(
        first,
        attempt=2,
        instance_id=InstanceId("i-0def"),
        zone="us-east-1b",
        created_at=T0 + timedelta(hours=2),
        started_at=T0 + timedelta(hours=2, minutes=1),
        resumed=CheckpointStatus("/mnt/c/step-40.pt", T0.timestamp() + 3000, 40),
        checkpoint=CheckpointStatus("/mnt/c/step-70.pt", T0.timestamp() + 9000, 70),
        past=(as_known(ended),),
    )

    store.put(second)

    assert store.get("run-aaaa") == second
    run = as_run(second, T0 + timedelta(hours=3))
    assert [attempt.lost_seconds for attempt in run.attempts] == [600.0, None]
    assert run.cost == Decimal("0.123456") * 2
    story = run_details(run).splitlines()[-3:]
    assert [" ".join(line.split()) for line in story] == [
        "ATTEMPT INSTANCE TYPE MARKET ZONE USD/H FROM TO END DONE AGAIN BECAUSE",
        f"1 i-0abc g5.xlarge spot us-east-1a 0.123456 the beginning step 40 INTERRUPTED 10m {notice}",
        "2 i-0def g5.xlarge spot us-east-1b 0.123456 step 40 step 70 - - -",
    ]


def test_an_interruption_that_is_found_out_by_asking_is_remembered_of_the_machine_s_pool(
    store: RunStore, tmp_path: Path
) -> None:
    database = Database(tmp_path / "state.db")
    pools = PoolRecord(database, FakeProvider(Script()))
    pools.heard(rental_of(RentalEvent.RENTED, an_instance("i-0abc"), T0))
    before = a_run()
    store.put(before)

    assert store.replace(with_end(before, EndRecord(EndReason.INTERRUPTED, T0.timestamp() + 60)), before)

    kinds = [event.kind for event in pools.events(T0)]
    database.close()
    assert kinds == [PoolEventKind.RENTED, PoolEventKind.INTERRUPTED]


@pytest.mark.parametrize("several", [False, True])
def test_a_rehearsal_says_nothing_of_a_machine_s_pool(store: RunStore, tmp_path: Path, several: bool) -> None:
    database = Database(tmp_path / "state.db")
    pools = PoolRecord(database, FakeProvider(Script()))
    pools.heard(rental_of(RentalEvent.RENTED, an_instance("i-0abc"), T0))
    ended_at = T0.timestamp() + 60
    end = EndRecord(EndReason.INTERRUPTED, ended_at, hand_off=HandOff(ended_at, is_rehearsal=True))
    run = a_run()
    if several:
        node = KnownNode(0, InstanceId("i-0abc"), "10.0.0.1", state=RunPhase.ENDED, end=end)
        run = replace(run, nodes=KnownNodes("none", "t", 1, (node,)))

    store.put(with_end(run, end))

    kinds = [event.kind for event in pools.events(T0)]
    database.close()
    assert kinds == [PoolEventKind.RENTED]


def test_of_several_machines_those_are_remembered_that_were_taken_back(
    store: RunStore, tmp_path: Path
) -> None:
    database = Database(tmp_path / "state.db")
    pools = PoolRecord(database, FakeProvider(Script()))
    for name in ("i-0abc", "i-0def"):
        pools.heard(rental_of(RentalEvent.RENTED, an_instance(name), T0))
    ends = (
        EndRecord(EndReason.INTERRUPTED, T0.timestamp() + 60, caused_by=1),
        EndRecord(EndReason.INTERRUPTED, T0.timestamp() + 60),
    )
    nodes = tuple(
        KnownNode(rank, InstanceId(name), f"10.0.0.{rank}", state=RunPhase.ENDED, end=end)
        for rank, (name, end) in enumerate(zip(("i-0abc", "i-0def"), ends, strict=True))
    )
    run = replace(a_run(), nodes=KnownNodes("none", "t", 2, nodes))

    store.put(with_end(run, ends[1]))

    taken = [event.instance_id for event in pools.events(T0) if event.kind is PoolEventKind.INTERRUPTED]
    database.close()
    assert taken == ["i-0def"]


def test_a_run_on_several_machines_is_found_by_each_of_them(store: RunStore, tmp_path: Path) -> None:
    store.put(on_machines("run-several", "i-0", "i-1"))
    store.put(a_run("run-alone"))

    for each in ("i-0", "i-1", "digits-1"):
        assert [record.id for record in store.list(instance=each)] == ["run-several"]
    assert store.list(instance="i-2") == []
    database = Database(tmp_path / "state.db")
    assert dict(working(database)) == {"i-0": "run-several", "i-1": "run-several", "i-0abc": "run-alone"}
    assert {time.instance_id for time in run_times(database)} == {"i-0", "i-1", "i-0abc"}
    database.close()
