"""A pull that fails: what is tried again, and what another machine may still get."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from runctl.agent.errors import AgentError
from runctl.agent.images import registry
from runctl.agent.spec import ContainerSpec

DIGEST = "registry.example/team/denied@sha256:" + "0" * 64
BUSY = "Error response from daemon: received unexpected HTTP status: 503 Service Unavailable"
LIMIT = "toomanyrequests: You have reached your unauthenticated pull rate limit."
UNKNOWN = "Error response from daemon: manifest for team/image:2 not found: manifest unknown"
REFUSED = "Error response from daemon: pull access denied for team/image, repository does not exist"


class Pulls:
    """An engine whose pulls end one after the other as the test says; ``None``: well."""

    def __init__(self, patch: pytest.MonkeyPatch, attempt: int, *outcomes: str | None) -> None:
        self.outcomes = [*outcomes]
        self.lines: list[str] = []
        self.stopped = False
        patch.setattr(registry, "PAUSES", (0.01, 0.01))
        patch.setattr(registry, "_docker", self._docker)
        self.attempt = cast(
            "Any",
            SimpleNamespace(
                spec=SimpleNamespace(attempt=attempt, run_id="run-1"),
                phase=lambda _: None,
                log=SimpleNamespace(line=self.lines.append),
                check=self._check,
                children=SimpleNamespace(pause=lambda _: None),
            ),
        )
        self.engine = cast("Any", SimpleNamespace(inspect=lambda *_: (None, "")))

    def _docker(self, *_: object) -> list[str] | None:
        outcome = self.outcomes.pop(0)
        return None if outcome is None else [outcome]

    def _check(self) -> None:
        if self.stopped:
            raise AgentError("stopped", "it is stopped")

    def pull(self, image: str = "team/image:2") -> None:
        registry.pull_image(self.attempt, self.engine, ContainerSpec(image=image), image)


@pytest.mark.parametrize("said", [BUSY, LIMIT, "EOF", "lookup registry.example: no such host"])
def test_what_may_pass_is_tried_again(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    pulls = Pulls(monkeypatch, 1, said, said, None)

    pulls.pull()

    assert pulls.outcomes == []
    told = [line for line in pulls.lines if said in line]
    assert len(told) == 2
    assert "it is tried again in" in told[0]


@pytest.mark.parametrize("said", [UNKNOWN, REFUSED, "no basic auth credentials", "no space left on device"])
def test_what_stays_as_it_is_ends_the_pull_at_once(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    pulls = Pulls(monkeypatch, 2, said)

    with pytest.raises(AgentError, match="could not be pulled") as failed:
        pulls.pull(DIGEST)

    assert failed.value.code == "image-failed"


def test_a_pull_that_makes_no_progress_for_as_long_as_it_may_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pulls = Pulls(monkeypatch, 1)

    def stuck(*given: Any) -> None:
        raise given[-1](2.0)

    monkeypatch.setattr(registry, "_docker", stuck)

    with pytest.raises(AgentError, match="no progress for 2 s"):
        pulls.pull()


@pytest.mark.parametrize(
    ("attempt", "image", "code"),
    [(1, DIGEST, "image-failed"), (2, "team/image:2", "image-failed"), (2, DIGEST, "lost")],
)
def test_an_image_that_an_earlier_attempt_had_may_be_had_elsewhere(
    monkeypatch: pytest.MonkeyPatch, attempt: int, image: str, code: str
) -> None:
    pulls = Pulls(monkeypatch, attempt, BUSY, BUSY, BUSY)

    with pytest.raises(AgentError, match="503") as failed:
        pulls.pull(image)

    assert failed.value.code == code
    assert pulls.outcomes == []


def test_a_stop_ends_the_pause_before_the_next_try(monkeypatch: pytest.MonkeyPatch) -> None:
    pulls = Pulls(monkeypatch, 1, BUSY, None)
    monkeypatch.setattr(registry, "PAUSES", (60.0,))
    pulls.stopped = True

    with pytest.raises(AgentError, match="stopped"):
        pulls.pull()

    assert pulls.outcomes == [None]


def test_an_image_that_is_built_here_otherwise_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pulls = Pulls(monkeypatch, 1, BUSY)
    image = ContainerSpec(image="team/image:2")

    assert not registry.fetch(pulls.attempt, pulls.engine, image, "team/image:2", "here")
