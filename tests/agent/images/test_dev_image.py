"""When dev-mode builds."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runctl.agent.errors import AgentError
from runctl.agent.images import credentials, dev_image, image
from runctl.agent.images.dev_image import removed_files, why_build
from runctl.agent.spec import BuildSpec, ContainerSpec

PARTS = {"the Dockerfile": "1", "requirements.txt": "2"}


@pytest.mark.parametrize(
    ("before", "now", "text"),
    [
        (PARTS, PARTS, None),
        (None, PARTS, "no image of this project has been built on this machine"),
        (PARTS, {**PARTS, "requirements.txt": "3"}, "requirements.txt changed"),
        (PARTS, {**PARTS, "uv.lock": "3"}, "uv.lock is new"),
        (PARTS, {"the Dockerfile": "1"}, "requirements.txt is gone"),
        ({}, {str(n): "" for n in range(7)}, "0 is new, 1 is new, 2 is new, 3 is new, 4 is new and 2 more"),
    ],
)
def test_an_image_is_built_again_only_if_something_but_code_has_changed(
    before: dict[str, str] | None, now: dict[str, str], text: str | None
) -> None:
    assert why_build(before, now) == text


def test_files_that_are_no_more_are_named() -> None:
    assert removed_files({"a": 1, "b": 1}, {"b": 2, "c": 1}) == ("a",)


Run = Callable[..., str]
"""Starts an attempt of a run in dev-mode, with options of its build; its image."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs on a machine whose engine builds ``new`` and has all that was built; each is entrusted with a secret."""
    monkeypatch.setattr(credentials, "state_directory", lambda: tmp_path)
    engine: Any = SimpleNamespace(inspect=lambda *_: ({}, ""))

    def start(run_id: str = "run-1", *, fails: bool = False, parts: Any = PARTS, **options: Any) -> str:
        def build(*_: object) -> str:
            if fails:
                raise AgentError("image-failed", "no")
            return "new"

        monkeypatch.setattr(image, "build_image", build)
        container = ContainerSpec(
            dockerfile="Dockerfile", code="mount", dev_parts=parts, build=BuildSpec("new", **options)
        )
        lines: list[str] = []
        attempt: Any = SimpleNamespace(
            spec=SimpleNamespace(run_id=run_id, project="p"),
            log=SimpleNamespace(line=lines.append),
            live=SimpleNamespace(tree=None),
            state=tmp_path,
        )
        secret = {"token": base64.b64encode(b"x").decode()}
        credentials.entrust({"run_id": run_id, "secrets": secret})
        try:
            used = image.ready_image(attempt, engine, container)
        except AgentError:
            used = "none"
        assert not credentials.folder_of(run_id).exists()
        return used + (" built" if any("is built" in line for line in lines) else "")

    first: Any = SimpleNamespace(
        spec=SimpleNamespace(run_id="run-0", project="p"), live=SimpleNamespace(tree=None), state=tmp_path
    )
    dev_image.remember(first, ContainerSpec(dockerfile="Dockerfile", dev_parts=PARTS), "old")
    return start


def test_secrets_are_forgotten_also_where_the_image_is_used_without_a_build(run: Run) -> None:
    assert run() == "old"


@pytest.mark.parametrize("option", ["no_cache", "pull"])
def test_who_asks_for_a_build_gets_one_once(run: Run, option: str) -> None:
    asked = {option: True}

    assert run(fails=True, **asked) == "none built"
    assert run(**asked) == "new built"
    assert run(**asked) == "new"
    assert run("run-2", **asked) == "new built"


def test_a_build_that_another_run_did_not_ask_for_takes_nothing_from_who_did(run: Run) -> None:
    run(pull=True)
    assert run("run-2", parts={"the Dockerfile": "2"}) == "new built"

    assert run(pull=True, parts={"the Dockerfile": "2"}) == "new"
