"""What a run has on a machine that is a container already."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runctl.agent.spec import DependencyKind
from runctl.core.errors import Conflict, Unsupported
from runctl.core.ids import InstanceId
from runctl.core.progress import SILENT, Progress
from runctl.providers.abilities.image_registry import RegistryLogin
from runctl.providers.abilities.machine_images import MachineImages
from runctl.runs.images.settled_image import BY_CONFIGURATION
from runctl.runs.train.machine_image import image_build, in_machines_image
from runctl.runs.train.project_plan import ProjectPlan, TrainRequest, plan_project
from tests.e2e.command_line import write_project

USUAL = "runpod/pytorch:1.0"
REGISTRY = "ghcr.io/ada/digits"


class Images(MachineImages):
    def __init__(self, has: str) -> None:
        self.has = has

    def keep_login(self, login: RegistryLogin, progress: Progress = SILENT) -> None:
        raise AssertionError("nothing is rented")

    def image_of(self, instance_id: InstanceId) -> str:
        assert instance_id == "pod"
        return self.has


class Pod:
    """One that is a container of that image, and the project that it is to run."""

    def __init__(self, folder: Path, has: str, registry: str | None = REGISTRY) -> None:
        files = {"train.py": "print()\n", "requirements.txt": "torch\n", "Dockerfile": "FROM scratch\n"}
        files[".dockerignore"] = ".git\n"
        self.train = TrainRequest(Path("train.py"), cwd=write_project(folder, files))
        self.warned: list[str] = []
        self.images: MachineImages | Unsupported = Images(has)
        provider = SimpleNamespace(name="there", platform=lambda _: "linux/amd64")
        docker = SimpleNamespace(registry=registry, target=None, build_args={})
        self.session: Any = SimpleNamespace(
            config=SimpleNamespace(docker=docker, project=SimpleNamespace(name=None)),
            provider=lambda _: SimpleNamespace(machine_images=self.images, **vars(provider)),
            defaults=lambda _: SimpleNamespace(instance_type="gpu"),
            progress=SimpleNamespace(step=lambda _: None, warn=self.warned.append),
        )

    def settled(self, **more: Any) -> tuple[TrainRequest, ProjectPlan]:
        train = replace(self.train, **more)
        instance: Any = SimpleNamespace(id="pod", provider="there", instance_type="gpu.2x")
        return in_machines_image(self.session, train, plan_project(train), instance)

    @property
    def makes_now(self) -> str:
        project = plan_project(self.train)
        return str(image_build(self.session, "there", project, "Dockerfile", BY_CONFIGURATION).plan.remote)


@pytest.mark.parametrize("registry", [None, REGISTRY])
def test_a_pod_of_another_image_is_named_with_all_that_can_be_done(
    tmp_path: Path, registry: str | None
) -> None:
    pod = Pod(tmp_path / "p", USUAL, registry)
    with pytest.raises(Conflict) as raised:
        pod.settled()
    assert raised.value.code == "other-image"
    assert f"pod is a container of {USUAL}" in raised.value.message
    for way in ("--no-docker", f"--image {USUAL}", "runctl there launch"):
        assert way in (raised.value.hint or "")


def test_a_run_is_in_the_pods_own_image_when_it_is_asked_for_by_name(tmp_path: Path) -> None:
    train, project = Pod(tmp_path / "p", USUAL).settled(image=USUAL)
    assert train.machine_image == USUAL
    assert project.container is None
    assert project.container_reason == f"the machine is a container of {USUAL}"
    assert project.dependencies.kind is DependencyKind.NONE
    with pytest.raises(Conflict, match=r"cannot run the image python:3\.11"):
        Pod(tmp_path / "q", USUAL).settled(image="python:3.11")


def test_a_pod_of_the_projects_image_runs_it_as_it_is(tmp_path: Path) -> None:
    pod = Pod(tmp_path / "p", "")
    pod.images = Images(pod.makes_now)
    train, project = pod.settled()
    assert (train.machine_image, project.container) == (pod.makes_now, None)
    assert pod.warned == []


def test_a_pod_of_the_projects_image_of_before_says_so(tmp_path: Path) -> None:
    pod = Pod(tmp_path / "p", f"{REGISTRY}:older")
    train, project = pod.settled()
    assert (train.machine_image, project.container) == (f"{REGISTRY}:older", None)
    assert "is as it was then" in pod.warned[0]


def test_without_docker_and_elsewhere_nothing_is_asked(tmp_path: Path) -> None:
    pod = Pod(tmp_path / "p", USUAL)
    train, project = pod.settled(docker=False)
    assert (train.machine_image, project.container) == (None, None)
    assert project.dependencies.kind is not DependencyKind.NONE
    pod.images = Unsupported("they are machines")
    _, project = pod.settled()
    assert project.container is not None
