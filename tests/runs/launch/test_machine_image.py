"""What a run has in a machine that is a container of its image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from runctl.agent.spec import DependencyKind
from runctl.containers.image_plan import BuildOptions
from runctl.core.errors import Unsupported, UsageError
from runctl.core.ids import InstanceId
from runctl.core.progress import SILENT, Progress
from runctl.providers.abilities.image_registry import RegistryLogin
from runctl.providers.abilities.machine_images import MachineImages
from runctl.providers.instance_plans import InstanceRequest
from runctl.runs.images.settled_image import BY_CONFIGURATION, ImageOptions
from runctl.runs.launch.machine_image import MachineImage, WithMachineImage, settle_machine_image
from runctl.runs.train.project_plan import TrainRequest
from tests.e2e.command_line import write_project

IMAGE = "ghcr.io/ada/digits:1"


class Images(MachineImages):
    def __init__(self) -> None:
        self.logins: list[RegistryLogin] = []

    def keep_login(self, login: RegistryLogin, progress: Progress = SILENT) -> None:
        self.logins.append(login)

    def image_of(self, instance_id: InstanceId) -> str:
        raise AssertionError(f"{instance_id} is not rented yet")


def settled(
    train: TrainRequest,
    images: MachineImages | Unsupported | None = None,
    machine: InstanceRequest | None = None,
    build_on: str | None = None,
) -> WithMachineImage:
    docker = SimpleNamespace(registry=None, build_on=None)
    session: Any = SimpleNamespace(config=SimpleNamespace(docker=docker, project=SimpleNamespace(name=None)))
    provider: Any = SimpleNamespace(name="there", machine_images=images or Images())
    options = ImageOptions(BuildOptions(), build_on) if build_on else BY_CONFIGURATION
    return settle_machine_image(session, provider, train, machine or InstanceRequest(), options)


@pytest.fixture
def project(tmp_path: Path) -> TrainRequest:
    folder = write_project(tmp_path / "p", {"train.py": "print()\n", "requirements.txt": "torch\n"})
    return TrainRequest(Path("train.py"), cwd=folder)


def test_a_named_image_is_the_machines_and_the_script_has_what_it_has(project: TrainRequest) -> None:
    found = settled(replace(project, image=IMAGE))
    assert found.machine.image == IMAGE
    assert found.project.container is None
    assert found.project.container_reason == f"the machine is a container of {IMAGE}"
    assert found.project.dependencies.kind is DependencyKind.NONE
    assert found.project.dependencies_reason.startswith("what the image has; not installed")


@pytest.mark.parametrize("docker", [None, False])
def test_a_project_without_an_image_is_set_up_on_the_machine_as_the_provider_has_it(
    project: TrainRequest, docker: bool | None
) -> None:
    if docker is False:
        (project.cwd / "Dockerfile").write_text("FROM python:3.11-slim\n")
    found = settled(replace(project, docker=docker))
    assert (found.image, found.machine.image) == (None, None)
    assert found.project.dependencies.kind is not DependencyKind.NONE


def test_a_dockerfile_needs_a_registry_and_is_not_built_on_the_machine(project: TrainRequest) -> None:
    (project.cwd / "Dockerfile").write_text("FROM python:3.11-slim\n")
    with pytest.raises(UsageError) as raised:
        settled(project)
    assert raised.value.code == "no-registry"
    with pytest.raises(Unsupported, match="builds none"):
        settled(project, build_on="instance")


def test_two_images_for_one_machine_contradict_each_other(project: TrainRequest) -> None:
    with pytest.raises(UsageError, match="an image of its own"):
        settled(replace(project, image=IMAGE), machine=InstanceRequest(image="other"))


def test_other_providers_machines_are_left_as_they_are(project: TrainRequest) -> None:
    found = settled(replace(project, image=IMAGE), Unsupported("they are machines"))
    assert found.image is None
    assert found.project.container is not None


def test_the_users_login_to_the_images_registry_is_kept_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    images = Images()
    provider = SimpleNamespace(machine_images=images, registry=Unsupported("it has none"))
    session: Any = SimpleNamespace(progress=SILENT, provider=lambda _: provider)
    MachineImage("there", IMAGE, "").publish(session)
    assert images.logins == []
    (tmp_path / "config.json").write_text('{"auths": {"ghcr.io": {"auth": "YWRhOnMzY3JldA=="}}}')
    MachineImage("there", IMAGE, "").publish(session)
    MachineImage("there", "python:3.11-slim", "").publish(session)
    assert images.logins == [RegistryLogin("ghcr.io", "ada", "s3cret")]
    assert "s3cret" not in repr(cast(Any, images.logins))
