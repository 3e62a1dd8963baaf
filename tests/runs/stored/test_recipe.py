from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from runctl.agent.after_run import MachineEnd
from runctl.agent.checkpoint_spec import StoreSpec
from runctl.agent.deadline import Job, Policy
from runctl.agent.end_reason import EndReason
from runctl.agent.spec import ContainerSpec, MountSpec, RunSpec
from runctl.core.database import Database
from runctl.core.machine_models import Market
from runctl.core.run_models import RunPhase
from runctl.project.kept import KeptProjects
from runctl.providers.capacity import Needs, Pool
from runctl.providers.instance_plans import InstanceRequest, VolumeMount
from runctl.runs.mounts.plan import MountPlan, PlannedMount
from runctl.runs.records.store import RunStore
from runctl.runs.recovery import Deadline, RecoveryRules
from runctl.runs.stored.recipe import KEPT_FOR, KeptVolume, Recipe, Recipes, kept_volumes
from runctl.testing.clock import ManualClock
from tests.runs.sample_runs import T0, a_run

RECIPE = Recipe(
    spec=RunSpec(
        "run-aaaa",
        "train.py",
        args=("--name", "ü"),
        env={"TOKEN": "secret"},
        tree="0" * 64,
        mounts=(MountSpec("/mnt/data", "/data", False, "vol-1", "--ebs-mount"),),
        container=ContainerSpec(image="python:3.11"),
        machine_end=MachineEnd(),
    ),
    provider="aws",
    region="us-east-1",
    volumes=(KeptVolume("vol-1", "/mnt/data", False),),
    rules=RecoveryRules(3, 60.0, deadline=Deadline(Policy.DEADLINE, Job(1.0, 2.0, 3.0, 4.0))),
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "state.db")
    yield database
    database.close()


def test_what_was_kept_is_what_is_found_and_only_the_user_can_read_it(
    database: Database, tmp_path: Path
) -> None:
    request = InstanceRequest(
        "t3.micro",
        market=Market.SPOT,
        max_price=Decimal("0.0123"),
        ttl=timedelta(hours=2),
        needs=Needs(gpu="A10G"),
        avoid=(Pool("t3.micro", "us-east-1a"),),
        volumes=(VolumeMount("vol-1"),),
        options={"x": 1},
        token="spent",
    )
    recipe = RECIPE.rented_by(request)

    Recipes(database).put(recipe)

    assert Recipes(database).get("run-aaaa") == recipe
    assert recipe.request == replace(request, volumes=(), token=None)
    assert stat.S_IMODE((tmp_path / "state.db").stat().st_mode) == 0o600


def test_which_checkpoints_stay_of_each_run_is_told_of_all_at_once(database: Database) -> None:
    store = StoreSpec("s3://mine/runs", keep_last=3, keep_best=("best.pt",))
    recipes = Recipes(database)
    recipes.put(RECIPE)
    recipes.put(replace(RECIPE, spec=replace(RECIPE.spec, run_id="run-bbbb", store=store)))

    assert recipes.stores() == {"run-bbbb": store}


@pytest.mark.parametrize(
    ("reason", "is_kept"),
    [
        (EndReason.COMPLETED, False),
        (EndReason.STOPPED, False),
        (EndReason.FAILED, False),
        (EndReason.INTERRUPTED, True),
        (EndReason.LOST, True),
        (EndReason.NOT_STARTED, True),
    ],
)
def test_a_recipe_goes_when_its_run_has_ended_for_good(
    reason: EndReason, is_kept: bool, database: Database
) -> None:
    Recipes(database).put(RECIPE)

    RunStore(database).put(a_run(state=RunPhase.ENDED, end_reason=reason, ended_at=T0))

    assert (Recipes(database).find("run-aaaa") is not None) is is_kept


def test_old_recipes_go_with_their_projects(database: Database, tmp_path: Path) -> None:
    clock, recipes = ManualClock(T0), Recipes(database)
    recipes.put(RECIPE, clock)
    trees = tmp_path / "kept" / "trees"
    trees.mkdir(parents=True)
    for name in ("0" * 64, "1" * 64):
        (trees / f"{name}.json").write_text("{}")

    recipes.prune(KeptProjects(tmp_path / "kept"), clock)
    assert [path.stem for path in trees.iterdir()] == ["0" * 64]

    clock.advance(KEPT_FOR + timedelta(seconds=1))
    recipes.prune(KeptProjects(tmp_path / "kept"), clock)
    assert (recipes.all(), list(trees.iterdir())) == ([], [])


def test_a_volume_is_attached_once_and_can_be_written_if_one_mount_of_it_can() -> None:
    def mount(source: str, read_only: bool, volume: str | None, point: str | None) -> PlannedMount:
        return PlannedMount(MountSpec(source, "/x", read_only, volume, ""), mount_point=point)

    plan = MountPlan(
        mounts=(
            mount("/mnt/data/deep/a", True, "vol-2", "/mnt/data/deep"),
            mount("/mnt/data/a", True, "vol-1", "/mnt/data"),
            mount("/mnt/data/b", False, "vol-1", "/mnt/data"),
            mount("/home/user", False, None, None),
        )
    )

    assert kept_volumes(plan) == (
        KeptVolume("vol-1", "/mnt/data", False),
        KeptVolume("vol-2", "/mnt/data/deep", True),
    )
