"""Images that the agent builds: once for the same inputs, with what was entrusted to it, which it forgets."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from runctl.agent.end_reason import EndReason
from tests.agent import engine as engines
from tests.agent.driver import Agent
from tests.agent.engine import Engine

pytestmark = [pytest.mark.linux, pytest.mark.root, pytest.mark.docker]

BASE = "base:py"
DOCKERFILE = f"""\
FROM {BASE} AS deps
ARG MARK=none
RUN --mount=type=secret,id=token read t < /run/secrets/token || :; echo $MARK ${{#t}} > /mark
FROM deps AS last
COPY . /workspace
FROM deps
RUN exit 3
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    item = engines.start(tmp_path_factory.mktemp("engine"), bridge=True)
    try:
        engines.python_image(item, BASE)
        yield item
    finally:
        engines.stop(item)


@pytest.fixture
def machine(agent: Agent, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Agent:
    """An agent whose docker is one that has BuildKit."""
    agent.env = {"DOCKER_HOST": engine.host, "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}
    return agent


def container(tag: str, **more: Any) -> dict[str, Any]:
    return {
        "dockerfile": "Dockerfile",
        "build": {
            "tag": tag,
            "inputs": "0" * 64,
            "project": "digits",
            "target": "last",
            "args": {"MARK": "one"},
            **more,
        },
    }


def test_an_image_is_built_once_with_its_arguments_and_secrets(machine: Agent, engine: Engine) -> None:
    machine.sync({"Dockerfile": DOCKERFILE, "train.py": "print(open('/mark').read())\n"})
    secret = base64.b64encode(b"hidden-words").decode()
    assert machine.call("entrust", {"run_id": "first", "secrets": {"token": secret}}).ok == {}
    kept = machine.state / "entrusted" / "first"
    assert (kept.stat().st_mode & 0o777, (kept / "secrets/token").stat().st_mode & 0o777) == (0o700, 0o600)

    machine.start("first", "train.py", container=container("runctl/digits:1", secrets=["token"]))
    first = machine.ended("first")
    machine.start("second", "train.py", container=container("runctl/digits:1", secrets=["token"]))
    second = machine.ended("second")

    assert first.reason is EndReason.COMPLETED, machine.log("first")
    assert "one 12" in machine.output("first")
    assert not kept.exists()
    assert second.reason is EndReason.COMPLETED, machine.log("second")
    assert "runctl/digits:1 is on the machine: there is nothing to build" in machine.log("second")
    assert "hidden-words" not in machine.log("first")
    labels = engine.docker("image", "inspect", "--format", "{{json .Config.Labels}}", "runctl/digits:1")
    assert '"runctl.project":"digits"' in labels
    assert machine.call("image", {"reference": "runctl/digits:1"}).ok == {"present": True, "reason": ""}
    assert machine.call("image", {"reference": "runctl/digits:2"}).ok["present"] is False


def test_what_was_sent_later_than_the_name_was_made_is_built_under_another(
    machine: Agent, engine: Engine
) -> None:
    before = machine.sync({"Dockerfile": f"FROM {BASE}\nCOPY . /workspace\n", "train.py": "print('old')\n"})
    how = {"dockerfile": "Dockerfile", "build": {"tag": "runctl/digits:old", "tree": before}}
    machine.start("old", "train.py", container=how)
    assert machine.ended("old").reason is EndReason.COMPLETED
    machine.sync({"Dockerfile": f"FROM {BASE}\nCOPY . /workspace\n", "train.py": "print('new')\n"})

    machine.start("new", "train.py", container=how)
    end = machine.ended("new")

    assert end.reason is EndReason.COMPLETED, machine.log("new")
    assert "new" in machine.output("new")
    assert machine.status("new").image != "runctl/digits:old"


def test_a_secret_that_was_not_entrusted_ends_the_run(machine: Agent) -> None:
    machine.sync({"Dockerfile": DOCKERFILE, "train.py": ""})

    machine.start("r", "train.py", container=container("runctl/digits:3", secrets=["token"]))
    end = machine.ended("r")

    assert end.reason is EndReason.IMAGE_FAILED
    assert "secret token is not on the machine" in end.message


def test_a_build_that_fails_ends_the_run_and_nothing_entrusted_is_left(machine: Agent) -> None:
    machine.sync({"Dockerfile": DOCKERFILE, "train.py": ""})
    assert (
        machine.call("entrust", {"run_id": "r", "secrets": {"token": base64.b64encode(b"x").decode()}}).ok
        == {}
    )

    machine.start("r", "train.py", container=container("runctl/digits:4", target=None, secrets=["token"]))
    end = machine.ended("r")

    assert end.reason is EndReason.IMAGE_FAILED, machine.log("r")
    assert not (machine.state / "entrusted" / "r").exists()


def test_what_was_entrusted_is_forgotten_on_request_and_never_half_kept(machine: Agent) -> None:
    assert machine.call("entrust", {"run_id": "r", "secrets": {"token": ""}}).ok == {}
    assert machine.call("entrust", {"run_id": "r", "forget": True}).ok == {}
    bad = machine.call("entrust", {"run_id": "r", "secrets": {"../x": ""}}).error
    login = {"host": "127.0.0.1:1", "username": "a", "password": "hidden-words"}
    refused = machine.call("entrust", {"run_id": "r", "logins": [login]}).error

    assert bad["code"] == "bad-request"
    assert refused["code"] == "registry-login"
    assert "hidden-words" not in str(refused)
    assert not (machine.state / "entrusted" / "r").exists()


def test_a_build_without_a_dockerfile_is_refused(machine: Agent) -> None:
    machine.sync({"train.py": ""})

    error = machine.refused("r", "train.py", container={"image": BASE, "build": {"tag": "x:1"}})

    assert error["code"] == "bad-request"
