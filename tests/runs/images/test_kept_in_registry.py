"""The image of an unfinished run stays in the registry, however many newer ones there are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from runctl.agent.end_reason import EndReason
from runctl.agent.spec import BuildSpec, ContainerSpec, RunSpec
from runctl.containers.image_plan import BuildOptions
from runctl.core.config import Config
from runctl.core.run_models import RunPhase
from runctl.machines.session import Session
from runctl.project.docker.dockerfile import DockerfileChoice
from runctl.providers.abilities.image_registry import RegistryImage, RepositoryPlan
from runctl.runs.images import build
from runctl.runs.images.build import ImageBuild, ImageProject
from runctl.runs.images.kept_in_registry import count_to_keep, images_to_go_on_in
from runctl.runs.images.stored import needed_images
from runctl.runs.records.store import run_store
from runctl.runs.stored.recipe import Recipe, Recipes
from tests.runs.sample_runs import a_run

HOST = "123456789012.dkr.ecr.us-east-1.amazonaws.com/runctl/digits"
DIGEST = "sha256:" + "5" * 64


def stored(place: int) -> RegistryImage:
    pushed = datetime(2026, 1, 1, tzinfo=UTC) - timedelta(hours=place)
    return RegistryImage("runctl/digits", "", f"sha256:{place}", (f"tag{place}",), 1, pushed, None)


IMAGES = [stored(place) for place in range(1, 41)]


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with patch("runctl.core.files.state_file", return_value=tmp_path / "state.db"):
        session = Session(config=Config())
        yield session
        session.database.close()


def remember(session: Session, run_id: str, container: ContainerSpec | None) -> None:
    spec = RunSpec(run_id, "train", is_command=True, container=container)
    Recipes(session.database).put(Recipe(spec, "aws", None))


@pytest.mark.parametrize(
    ("configured", "needed", "kept"),
    [
        (10, (), 10),
        (10, ("tag1",), 10),
        (10, ("sha256:5",), 10),
        (10, ("tag6",), 20),
        (10, ("tag2", "sha256:11"), 20),
        (10, ("tag16",), 30),
        (50, ("tag30",), 50),
        (1, ("tag1",), 10),
        (10, ("elsewhere",), 10),
    ],
)
def test_the_rule_counts_on_to_the_oldest_that_is_needed_and_what_may_be_pushed_until_the_next_count(
    configured: int, needed: tuple[str, ...], kept: int
) -> None:
    assert count_to_keep(configured, IMAGES, needed) == kept


def test_what_unfinished_runs_go_on_in_is_known_by_tag_or_digest(session: Session) -> None:
    remember(session, "run-host", None)
    remember(session, "run-pulled", ContainerSpec(image=f"{HOST}:abc"))
    remember(session, "run-again", ContainerSpec(image=f"{HOST}@{DIGEST}"))
    remember(session, "run-bare", ContainerSpec(image="127.0.0.1:5000/ubuntu"))
    built = BuildSpec(tag="digits:def", tree="", inputs="", project="digits", published=f"{HOST}:def")
    remember(session, "run-built", ContainerSpec(build=built))

    assert images_to_go_on_in(session.database) == {"abc", DIGEST, "latest", "def"}
    assert needed_images(session) == {"abc", DIGEST, "latest", "def"}


@pytest.mark.parametrize(
    ("phase", "reason", "is_needed"),
    [
        (RunPhase.RUNNING, None, True),
        (RunPhase.PENDING, None, True),
        (RunPhase.ENDED, EndReason.INTERRUPTED, True),
        (RunPhase.ENDED, EndReason.COMPLETED, False),
        (RunPhase.ENDED, EndReason.FAILED, False),
    ],
)
def test_a_run_that_its_provider_goes_on_with_has_no_recipe_here_and_needs_its_image_all_the_same(
    session: Session, phase: RunPhase, reason: EndReason | None, is_needed: bool
) -> None:
    run_store(session).put(a_run(state=phase, end_reason=reason, image=f"{HOST}:abc", image_digest=DIGEST))

    assert images_to_go_on_in(session.database) == ({"abc", DIGEST} if is_needed else set())


@pytest.mark.parametrize(
    ("exists", "image", "kept"), [(True, "tag16", 30), (True, "x", 10), (False, "tag16", 10)]
)
def test_an_image_is_planned_with_a_rule_that_keeps_those(
    session: Session, monkeypatch: pytest.MonkeyPatch, exists: bool, image: str, kept: int
) -> None:
    remember(session, "run-aaaa", ContainerSpec(image=f"{HOST}:{image}"))

    def plan(name: str, *, keep_images: int) -> RepositoryPlan:
        return RepositoryPlan(name, HOST, exists, keep_images, ())

    registry: Any = SimpleNamespace(plan_repository=plan, images=lambda _: tuple(IMAGES))
    monkeypatch.setattr(build, "image_registry", lambda *_: registry)
    project = ImageProject(Path(), "digits", DockerfileChoice("Dockerfile", ""))

    target = ImageBuild(session, project, BuildOptions(), registry="ecr").target

    assert target is not None
    assert target.plan is not None
    assert target.plan.keep_images == kept
