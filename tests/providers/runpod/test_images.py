"""Logins to registries that RunPod keeps, each once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runctl.core.errors import NotFound
from runctl.core.journal import Journal
from runctl.providers.abilities.image_registry import RegistryLogin
from runctl.providers.runpod.api import Pod, Registry
from runctl.providers.runpod.images import RunPodImages

LOGIN = RegistryLogin("ghcr.io", "ada", "s3cret")
IMAGE = "ghcr.io/ada/digits:1"


@dataclass
class Api:
    added: int = 0
    kept: dict[str, str] = field(default_factory=dict)
    found: list[Pod] = field(default_factory=list)
    account: Any = field(default_factory=lambda: SimpleNamespace(key="rpa_mine"))

    def registries(self) -> tuple[Registry, ...]:
        return tuple(Registry(each, name) for each, name in self.kept.items())

    def add_registry(self, name: str, username: str, password: str) -> Registry:
        assert (username, password[:6]) == ("ada", "s3cret")
        self.added += 1
        made = Registry(f"reg{self.added}", name)
        self.kept[made.id] = name
        return made

    def delete_registry(self, login_id: str) -> None:
        del self.kept[login_id]

    def pods(self) -> list[Pod]:
        return self.found


def images(api: Api, folder: Path, registry: str | None = None) -> RunPodImages:
    settings = SimpleNamespace(registry=registry)
    context: Any = SimpleNamespace(
        api=api, state_directory=folder, settings=settings, owner="ada", journal=Journal()
    )
    return RunPodImages(context)


def test_a_login_is_added_once_and_pods_of_that_registry_are_made_by_it(tmp_path: Path) -> None:
    api = Api()
    assert images(api, tmp_path).login_for(IMAGE) is None
    images(api, tmp_path).keep_login(LOGIN)
    images(api, tmp_path).keep_login(LOGIN)
    (made,) = api.kept
    assert images(api, tmp_path).login_for(IMAGE) == made
    assert images(api, tmp_path).login_for("python:3.11-slim") is None
    written = [file.read_text() for file in tmp_path.rglob("*.json")]
    assert len(written) == 1 and "s3cret" not in written[0]
    # Somebody has removed it in the console.
    api.kept.clear()
    assert images(api, tmp_path).login_for(IMAGE) is None
    images(api, tmp_path).keep_login(LOGIN)
    assert images(api, tmp_path).login_for(IMAGE) in api.kept


@pytest.mark.parametrize("used", [False, True])
def test_another_password_takes_the_place_of_the_one_before_unless_a_pod_was_made_by_that(
    tmp_path: Path, used: bool
) -> None:
    api = Api()
    images(api, tmp_path).keep_login(LOGIN)
    (first,) = api.kept
    api.found = [Pod("1", "n", "RUNNING", registry=first)] if used else []
    images(api, tmp_path).keep_login(RegistryLogin("ghcr.io", "ada", "s3cret2"))
    assert (first in api.kept) is used
    assert images(api, tmp_path).login_for(IMAGE) == next(each for each in api.kept if each != first)


def test_the_configured_login_is_taken_by_its_name_or_missed(tmp_path: Path) -> None:
    api = Api(kept={"reg1": "ghcr"})
    assert images(api, tmp_path, "ghcr").login_for("anything") == "reg1"
    with pytest.raises(NotFound, match="by the name of 'other'"):
        images(api, tmp_path, "other").login_for("anything")
