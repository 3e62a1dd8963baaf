"""What a launch decides before anything is rented."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from runctl.agent.after_run import READ_SECONDS, MachineEnd
from runctl.agent.checkpoint_spec import StoreSpec
from runctl.checkpoints.resume import ResumeFrom
from runctl.containers.mounts import parse_mount
from runctl.core.clock import SystemClock
from runctl.core.errors import Conflict, NotFound, UsageError
from runctl.core.ids import VolumeId
from runctl.core.machine_models import Market, Volume
from runctl.providers.instance_plans import CreatePlan, InstanceRequest, VolumeMount
from runctl.render.run_table import machine_end_text
from runctl.runs.launch.launch_plan import (
    FOLLOWER_SECONDS,
    AfterRun,
    ResultsPlan,
    Safety,
    check_resume_path,
    end_warning,
    machine_to_be,
    mounts_to_be,
    plan_machine_end,
    plan_results,
    with_addresses,
    with_volumes,
    without_repeats,
)
from runctl.runs.mounts.plan import MountPlan, PlannedMount, plan_mounts
from runctl.runs.results import check_results_folder
from tests.rates import hourly
from tests.runs.mounts.machine import DATASETS, FREE, VOLUMES, a_volume_request

KNOWN: dict[str, Volume] = {key: volume for volume in VOLUMES for key in (str(volume.id), str(volume.name))}
PLAN = CreatePlan(
    provider="aws",
    instance_type="g5.xlarge",
    market=Market.SPOT,
    region="us-east-1",
    zone="us-east-1a",
    zone_reason="datasets is there",
    image="ami-1",
    image_reason="",
    login_user="ubuntu",
    price=hourly("0.42", "spot price history"),
    on_demand_price=None,
    volumes=(VolumeMount(DATASETS, "/mnt/datasets"),),
    volume_prices={},
    data_volume_size_gib=None,
    data_mount_point="/mnt/data",
    root_volume_size_gib=30,
    key_name=None,
    security_groups=(),
    instance_profile=None,
    subnet=None,
    project=None,
    owner=None,
    name=None,
    ttl=None,
    tags={},
    client_token="token",
)


def planned(*texts: str, plan: CreatePlan = PLAN) -> MountPlan:
    """The mounts of a run on a machine that is rented by the plan."""
    facts = mounts_to_be(plan, machine_to_be(plan, SystemClock().now()), KNOWN)
    return plan_mounts([parse_mount(text) for text in texts], facts, automatic=True)


def test_a_run_saves_on_the_volume_that_is_made_with_its_machine_and_its_results_are_brought_all_the_same(
    tmp_path: Path,
) -> None:
    with_volume = replace(PLAN, volumes=(), new_volume_gib=10, market=Market.ON_DEMAND)
    found = planned(plan=with_volume)
    assert found.saves is not None
    assert found.saves.volume is not None
    assert (found.saves.spec.source, found.saves.volume.id) == ("/mnt/NEW-VOLUME", "NEW-VOLUME")
    results = plan_results(AfterRun(), found.saves, tmp_path, rented=True)
    assert results.safety is Safety.FOLDER, "whether it comes mounted, only the machine can tell"
    assert planned(plan=replace(with_volume, market=Market.SPOT)).saves is None, "the next has another one"


def test_the_machine_is_asked_for_with_every_volume_that_the_run_names_each_once() -> None:
    request = with_volumes(
        InstanceRequest(),
        [parse_mount("datasets:/data:ro"), a_volume_request(DATASETS, "/mnt/x"), parse_mount("/mnt/x/a:/a")],
        ResumeFrom("runs/r/checkpoints", VolumeId(FREE)),
    )

    assert request.volumes == (
        VolumeMount("datasets", None, read_only=True),
        VolumeMount(DATASETS, "/mnt/x"),
        VolumeMount(FREE, None),
    )
    # One of the two writes.
    assert without_repeats(request, KNOWN).volumes == (
        VolumeMount(DATASETS, "/mnt/x"),
        VolumeMount(FREE, None),
    )


def test_the_machine_may_write_where_results_and_checkpoints_go() -> None:
    both = AfterRun(results="s3://mine/runs/")

    def writes(after: AfterRun, store: StoreSpec | None, **env: str) -> tuple[str, ...]:
        return with_addresses(InstanceRequest(), after, store, env).writes

    assert writes(both, StoreSpec("s3://mine/saved")) == ("s3://mine/runs", "s3://mine/saved")
    assert writes(both, StoreSpec("s3://mine/runs")) == ("s3://mine/runs",)
    assert writes(AfterRun(results="out"), StoreSpec("s3://other/x", endpoint="https://minio.example")) == ()
    assert writes(AfterRun(), StoreSpec("/mnt/shared/runs")) == ()
    # Keys of the run's own come first.
    assert writes(AfterRun(), StoreSpec("s3://mine/saved"), AWS_ACCESS_KEY_ID="AKIA") == ()
    assert writes(both, StoreSpec("s3://mine/saved"), AWS_ACCESS_KEY_ID="AKIA") == (
        "s3://mine/runs",
        "s3://mine/saved",
    )


def test_the_runs_mounts_are_planned_on_a_machine_that_is_not_there_yet() -> None:
    found = planned("/mnt/datasets/imagenet:/data")

    assert [(m.spec.source, m.spec.target, m.spec.volume_id) for m in found.mounts] == [
        ("/mnt/datasets/imagenet", "/data", DATASETS)
    ]
    assert found.attachments == ()
    with pytest.raises(NotFound, match="/srv/data on a new machine is not on a mounted EBS volume"):
        planned("/srv/data:/data")


def test_a_path_to_resume_from_must_be_on_a_volume_of_the_new_machine() -> None:
    facts = mounts_to_be(PLAN, machine_to_be(PLAN, SystemClock().now()), KNOWN)

    check_resume_path(ResumeFrom("/mnt/datasets/runs/r/checkpoints"), facts)
    check_resume_path(ResumeFrom("runs/r/checkpoints", VolumeId(DATASETS)), facts)
    with pytest.raises(NotFound, match="a new machine has nothing there"):
        check_resume_path(ResumeFrom("/home/ubuntu/last.pt"), facts)


def saves(plan: CreatePlan = PLAN) -> PlannedMount | None:
    return planned(plan=plan).saves


WITH_DISK = replace(PLAN, volumes=(), data_volume_size_gib=50)
"""Its only volume is one that ends with it."""


@pytest.mark.parametrize(
    ("after", "mount", "expected"),
    [
        (AfterRun(), saves(), ResultsPlan(Safety.VOLUME, "datasets")),
        (AfterRun(), None, ResultsPlan(Safety.FOLDER, "/work/results")),
        (AfterRun(), saves(WITH_DISK), ResultsPlan(Safety.FOLDER, "/work/results")),
        (AfterRun(results="out"), saves(), ResultsPlan(Safety.FOLDER, "/work/out")),
        (AfterRun(results="s3://mine/runs/"), saves(), ResultsPlan(Safety.STORE, "s3://mine/runs")),
        (AfterRun(bring_results=False), saves(), ResultsPlan(Safety.NOWHERE)),
        (AfterRun(keep=True), None, ResultsPlan(Safety.MACHINE)),
        (AfterRun(keep=True), saves(), ResultsPlan(Safety.VOLUME, "datasets")),
        (AfterRun(keep=True, results="/out"), None, ResultsPlan(Safety.FOLDER, "/out")),
    ],
)
def test_results_are_safe_somewhere_unless_somebody_wants_none(
    after: AfterRun, mount: PlannedMount | None, expected: ResultsPlan
) -> None:
    assert plan_results(after, mount, Path("/work"), rented=True) == expected


def test_a_results_folder_that_cannot_be_made_is_found_before_anything_is_rented(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file/results", Path("/proc/results")):
        with pytest.raises(Conflict, match=f"results cannot be brought to {folder}"):
            check_results_folder(ResultsPlan(Safety.FOLDER, str(folder)))
    check_results_folder(ResultsPlan(Safety.FOLDER, str(tmp_path / "a/b")))
    check_results_folder(ResultsPlan(Safety.STORE, "s3://mine/runs"))

    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_on_a_machine_that_is_there_results_stay_unless_they_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a folder of this computer"):
        plan_results(AfterRun(results="s3:/mine/runs"), None, tmp_path, rented=True)
    assert plan_results(AfterRun(), None, tmp_path, rented=False) == ResultsPlan(Safety.MACHINE)
    asked = AfterRun(results="out")
    assert plan_results(asked, None, tmp_path, rented=False).target == str(tmp_path / "out")
    (tmp_path / "out").touch()
    with pytest.raises(UsageError, match="is not a folder"):
        plan_results(asked, None, tmp_path, rented=False)
    with pytest.raises(UsageError, match="only a machine that is rented"):
        plan_results(AfterRun(results="s3://mine/runs"), None, tmp_path, rented=False)
    with pytest.raises(UsageError, match="not an S3 address"):
        plan_results(AfterRun(results="gs://mine/runs"), None, tmp_path, rented=True)


@pytest.mark.parametrize(
    ("after", "safety", "expected"),
    [
        (AfterRun(keep=True), Safety.MACHINE, MachineEnd(keep=True)),
        (AfterRun(), Safety.VOLUME, MachineEnd(read_within_seconds=READ_SECONDS)),
        (AfterRun(), Safety.FOLDER, MachineEnd(fetch_within_seconds=12 * 3600.0)),
        (
            AfterRun(follows=True),
            Safety.VOLUME,
            MachineEnd(read_within_seconds=FOLLOWER_SECONDS, fetch_within_seconds=FOLLOWER_SECONDS),
        ),
        (
            AfterRun(fetch_within=timedelta(seconds=5), keep_on_failure=timedelta(hours=1)),
            Safety.FOLDER,
            MachineEnd(fetch_within_seconds=READ_SECONDS, keep_on_failure_seconds=3600.0),
        ),
    ],
)
def test_a_machine_waits_for_what_is_on_it_alone(
    after: AfterRun, safety: Safety, expected: MachineEnd
) -> None:
    assert plan_machine_end(after, ResultsPlan(safety)) == expected


@pytest.mark.parametrize(
    ("after", "safety", "hours", "warns"),
    [
        (AfterRun(), Safety.FOLDER, 4, True),
        (AfterRun(), Safety.FOLDER, 12, False),
        (AfterRun(), Safety.FOLDER, None, False),
        (AfterRun(follows=True), Safety.FOLDER, 4, False),
        (AfterRun(keep=True), Safety.MACHINE, 4, False),
        (AfterRun(), Safety.VOLUME, 4, False),
        (AfterRun(), Safety.STORE, 4, False),
    ],
)
def test_a_machine_that_may_end_before_its_results_are_fetched_is_warned_of(
    after: AfterRun, safety: Safety, hours: int | None, warns: bool
) -> None:
    end = plan_machine_end(after, ResultsPlan(safety, "results"))
    warning = end_warning(after, end, None if hours is None else timedelta(hours=hours))
    assert (warning is not None) is warns
    assert not warns or (warning or "").startswith(
        "the machine ends 4h00m after it is created (--ttl, --budget)"
    )


def test_waiting_for_results_costs_no_more_than_the_machine_lives() -> None:
    end = plan_machine_end(AfterRun(), ResultsPlan(Safety.FOLDER, "results"))
    price = Decimal("0.42")
    assert "($5.04 at most)" in machine_end_text(end, price)
    assert "($5.04 at most)" in machine_end_text(end, price, timedelta(hours=24))
    assert "($0.8400 at most)" in machine_end_text(end, price, timedelta(hours=2))
