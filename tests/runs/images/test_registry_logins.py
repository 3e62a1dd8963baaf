"""By which login a provider pulls a machine's image."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runctl.agent.spec import ContainerSpec, RunSpec
from runctl.core.config import Config, DockerConfig
from runctl.core.errors import ConfigError, CredentialsError, PermissionDenied, RunctlError, Unsupported
from runctl.core.progress import SILENT
from runctl.machines.session import Session
from runctl.providers.abilities.image_registry import RegistryLogin
from runctl.runs.images import registry_logins
from runctl.runs.images.registry_logins import keep_pull_login
from runctl.runs.images.run_image import RunImage
from runctl.runs.images.settled_image import BY_CONFIGURATION
from tests.runs.launch.test_machine_image import Images

HOST = "111122223333.dkr.ecr.us-east-1.amazonaws.com"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A provider's, whose tokens end: each is another one."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    log_in(tmp_path, "ghcr.io")
    given: list[str] = []

    def login() -> RegistryLogin:
        given.append(f"token-{len(given)}")
        return RegistryLogin(HOST, "AWS", given[-1])

    found = SimpleNamespace(owns=lambda host: host.endswith(".amazonaws.com"), login=login, given=given)
    monkeypatch.setattr(registry_logins, "image_registry", lambda *_: found)
    return found


def log_in(folder: Path, *hosts: str) -> None:
    """As ``docker login`` leaves it."""
    auths = {host: {"auth": "YWRhOnMzY3JldA=="} for host in hosts}
    (folder / "config.json").write_text(json.dumps({"auths": auths}))


def kept(*images: str | None, ability: Any = None) -> list[RegistryLogin]:
    there = ability or Images()
    session: Any = SimpleNamespace(progress=SILENT)
    provider: Any = SimpleNamespace(machine_images=there)
    for image in images:
        keep_pull_login(session, provider, image)
    return [] if ability is not None else there.logins


def test_every_machine_of_an_image_in_a_providers_registry_has_a_token_of_its_own(
    registry: SimpleNamespace,
) -> None:
    image = f"{HOST}/runctl/digits:1"
    assert [login.password for login in kept(image, image)] == ["token-0", "token-1"]


def test_another_registry_has_the_users_own_login_and_a_public_image_none(registry: SimpleNamespace) -> None:
    found = kept("ghcr.io/ada/digits:1", "quay.io/ada/digits:1", "python:3.11-slim", None)

    assert found == [RegistryLogin("ghcr.io", "ada", "s3cret")]
    assert registry.given == []


def test_a_token_for_another_account_is_not_kept(registry: SimpleNamespace) -> None:
    assert kept(HOST.replace("1111", "4444") + "/runctl/digits:1") == []


@pytest.mark.parametrize(
    "refused",
    [CredentialsError("there are none"), PermissionDenied("you may not"), ConfigError("there is no region")],
)
def test_who_has_no_token_has_the_users_own_login(
    registry: SimpleNamespace, tmp_path: Path, refused: RunctlError
) -> None:
    def login() -> RegistryLogin:
        raise refused

    registry.login = login
    with pytest.raises(type(refused)) as raised:
        kept(f"{HOST}/runctl/digits:1")
    log_in(tmp_path, HOST)

    assert raised.value is refused
    assert kept(f"{HOST}/runctl/digits:1") == [RegistryLogin(HOST, "ada", "s3cret")]


@pytest.mark.parametrize("named", [HOST, "quay.io"])
def test_a_machine_is_entrusted_with_the_users_login_to_the_configured_registry_alone(
    registry: SimpleNamespace, tmp_path: Path, named: str
) -> None:
    def login() -> RegistryLogin:
        raise CredentialsError("there are none")

    registry.login = login
    log_in(tmp_path, HOST, "quay.io", "ghcr.io")
    session = Session(config=Config(docker=DockerConfig(registry=f"{named}/digits")))
    instance: Any = SimpleNamespace(provider="runpod")

    def logins(host: str) -> list[RegistryLogin]:
        container = ContainerSpec(image=f"{host}/digits:1")
        image = RunImage(session, BY_CONFIGURATION, container, tmp_path, instance, None)
        return image._logins(RunSpec("run-1", "train.py", container=container), built_here=False)

    assert logins(named) == [RegistryLogin(named, "ada", "s3cret")]
    assert logins("ghcr.io") == []


def test_no_token_is_asked_for_a_machine_that_is_no_container(registry: SimpleNamespace) -> None:
    kept(f"{HOST}/runctl/digits:1", ability=Unsupported("they are machines"))
    assert registry.given == []
