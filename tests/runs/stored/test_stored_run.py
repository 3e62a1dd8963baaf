"""What a run's attempts need, put at its prefix and read there by another computer."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from runctl.agent import lease
from runctl.agent.checkpoint_spec import StoreSpec
from runctl.agent.encoding import from_json, loads
from runctl.agent.node_spec import wanted_nodes
from runctl.agent.spec import RunSpec
from runctl.agent.stored_run import MEETINGS, RUN, SPEC, StoredRun
from runctl.checkpoints.download import Prefix
from runctl.core.database import StateError
from runctl.core.errors import NotFound, Unsupported
from runctl.core.machine_models import Market
from runctl.core.tags import GONE_WITH_WRITING
from runctl.project.kept import KeptProjects, NotKept
from runctl.project.manifest import build_manifest
from runctl.project.selection import select
from runctl.providers.capacity import FallbackMode, SpotFallback
from runctl.providers.instance_plans import InstanceRequest
from runctl.runs.recovery import RecoveryRules
from runctl.runs.stored import stored_run
from runctl.runs.stored.leases import note_attempt
from runctl.runs.stored.recipe import KeptVolume, Recipe
from runctl.runs.stored.stored_run import (
    RunFacts,
    check_conditional_writes,
    fetch_project,
    forget_secrets,
    read_run,
    store_run,
)
from tests.runs.memory_storage import MemoryStorage

ID = "run-1"


@pytest.fixture
def at() -> Prefix:
    return Prefix(MemoryStorage(), "mine", f"runs/{ID}")


def kept_project(folder: Path) -> tuple[KeptProjects, str]:
    root, projects = folder / "project", KeptProjects(folder / "kept")
    (root / "package").mkdir(parents=True)
    (root / "train.py").write_text("print('here')")
    (root / "package" / "model.py").write_text("weights = 1")
    return projects, projects.keep(root, build_manifest(select(root))).digest


def a_recipe(tree: str) -> Recipe:
    return Recipe(
        RunSpec(
            ID, "train.py", ("--lr", "0.1"), tree=tree, env={"K": "v"}, store=StoreSpec("s3://mine/runs")
        ),
        "aws",
        "eu-west-1",
        volumes=(KeptVolume("vol-1", "/data", read_only=True), KeptVolume("vol-2", "/out", read_only=False)),
        request=InstanceRequest(
            "t3.micro",
            market=Market.SPOT,
            fallback=SpotFallback(FallbackMode.ON_DEMAND, timedelta(minutes=20)),
        ),
        rules=RecoveryRules(7, 60.0),
        auto_resume=True,
    )


def test_another_computer_reads_what_was_stored_project_and_all(at: Prefix, tmp_path: Path) -> None:
    projects, tree = kept_project(tmp_path)
    recipe, facts = a_recipe(tree), RunFacts("best", None, "/home/ada/results")

    store_run(at, recipe, facts, attempt=1, projects=projects)
    found = read_run(at)
    elsewhere = KeptProjects(tmp_path / "elsewhere")
    fetch_project(at, tree, elsewhere)

    assert (found.recipe, found.facts) == (recipe, facts)
    with elsewhere.packed(tree) as (_, theirs), projects.packed(tree) as (_, ours):
        assert theirs.read_bytes() == ours.read_bytes()


def test_a_machine_reads_what_concerns_it_and_the_number_of_the_attempt(at: Prefix, tmp_path: Path) -> None:
    projects, tree = kept_project(tmp_path)
    store_run(at, a_recipe(tree), RunFacts(), attempt=1, projects=projects)

    told = from_json(StoredRun, loads(at.storage.read(at.bucket, at.key(RUN))))
    assert [(each.volume_id, each.mount_point, each.read_only, each.forget) for each in told.volumes] == [
        ("vol-1", "/data", True, ()),
        ("vol-2", "/out", False, GONE_WITH_WRITING),
    ]
    assert told.max_attempts == 7
    assert from_json(RunSpec, loads(at.storage.read(at.bucket, at.key(SPEC)))).env == {"K": "v"}
    found = lease.decode(at.storage.read(at.bucket, at.key(lease.KEY)))
    assert (found.attempt, found.holder, found.ended) == (1, "", "")


def test_the_number_of_an_attempt_only_grows(at: Prefix) -> None:
    for attempt in (3, 2, 4):
        note_attempt(at, ID, attempt)
    assert lease.decode(at.storage.read(at.bucket, at.key(lease.KEY))).attempt == 4


def test_what_is_not_there_or_not_a_run_is_told(at: Prefix, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="does not have what another attempt needs"):
        read_run(at)
    projects, tree = kept_project(tmp_path)
    store_run(at, a_recipe(tree), RunFacts(), attempt=1, projects=projects)
    pack = next(each.key for each in at.storage.objects(at.bucket, at.key("project/")) if "pack" in each.key)
    at.storage.put(at.bucket, pack, at.storage.read(at.bucket, pack)[:-30])
    with pytest.raises(NotKept, match="cannot be unpacked"):
        fetch_project(at, tree, KeptProjects(tmp_path / "elsewhere"))
    assert not KeptProjects(tmp_path / "elsewhere").has(tree)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("run_id", "../../.config/autostart"),
        ("run_id", "/etc"),
        ("run_id", "run-of-another"),
        ("run_id", ""),
        ("tree", "../../secret"),
        ("tree", "0" * 63),
    ],
)
def test_a_run_by_another_name_than_its_prefix_is_not_taken_up(
    at: Prefix, tmp_path: Path, key: str, value: str
) -> None:
    projects, tree = kept_project(tmp_path)
    store_run(at, a_recipe(tree), RunFacts(), attempt=1, projects=projects)
    spec = {**json.loads(at.storage.read(at.bucket, at.key(SPEC))), key: value}
    at.storage.put(at.bucket, at.key(SPEC), json.dumps(spec).encode())

    with pytest.raises(StateError, match="cannot be read"):
        read_run(at)


def test_a_prefix_whose_name_no_run_can_have_is_not_taken_up(tmp_path: Path) -> None:
    projects, tree = kept_project(tmp_path)
    recipe = a_recipe(tree)
    at = Prefix(MemoryStorage(), "mine", "runs/.config")
    named = replace(recipe, spec=replace(recipe.spec, run_id=".config"))
    store_run(at, named, RunFacts(), attempt=1, projects=projects)

    with pytest.raises(StateError, match="cannot be read"):
        read_run(at)


def test_a_description_that_is_not_ascii_is_told(at: Prefix, tmp_path: Path) -> None:
    at.storage.put(at.bucket, at.key(f"project/{'0' * 64}.json"), b"\xff")
    with pytest.raises(NotKept, match="cannot be used"):
        fetch_project(at, "0" * 64, KeptProjects(tmp_path))


def test_a_pack_that_has_no_end_is_not_fetched_to_it(
    at: Prefix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    projects, tree = kept_project(tmp_path)
    store_run(at, a_recipe(tree), RunFacts(), attempt=1, projects=projects)
    monkeypatch.setattr(stored_run, "LARGEST_PACK", 10)
    with pytest.raises(NotKept, match="has more than 10 B"):
        fetch_project(at, tree, KeptProjects(tmp_path / "elsewhere"))


def test_of_a_run_that_nobody_starts_any_more_nothing_secret_stays(at: Prefix, tmp_path: Path) -> None:
    projects, tree = kept_project(tmp_path)
    recipe = a_recipe(tree)
    node = replace(wanted_nodes("none", 2), secret="of the group")
    recipe = replace(recipe, spec=replace(recipe.spec, env={"TOKEN": "of mine"}, node=node))
    store_run(at, recipe, RunFacts(), attempt=1, projects=projects)
    for key in ("1/start.json", "1/answers/i-1.json"):
        at.storage.put(at.bucket, at.key(MEETINGS + key), b'{"secret": "of the group"}')
    forget_secrets(at)
    forget_secrets(at)
    left = {each.key: at.storage.read(at.bucket, each.key) for each in at.storage.objects(at.bucket, "")}
    assert not [key for key, data in left.items() if b"of mine" in data or b"of the group" in data]
    spec = read_run(at).recipe.spec
    assert (dict(spec.env), spec.args) == ({"TOKEN": ""}, recipe.spec.args)
    forget_secrets(Prefix(MemoryStorage(), "mine", "runs/nothing"))


def test_a_store_that_knows_no_conditions_is_refused_and_nothing_is_left_there() -> None:
    storage = MemoryStorage(knows_conditions=False)
    with pytest.raises(Unsupported, match="ignores If-None-Match or If-Match"):
        check_conditional_writes(Prefix(storage, "mine", "runs"))
    assert storage.data == {}
    knows = MemoryStorage()
    check_conditional_writes(Prefix(knows, "mine", "runs"))
    assert knows.data == {}
