"""Whether a container is given GPUs."""

from __future__ import annotations

import pytest

from runctl.agent.containers.container_gpus import MachineGpus, decide
from runctl.agent.errors import AgentError

NONE, BARE, READY = MachineGpus(), MachineGpus(2), MachineGpus(2, toolkit=True)


@pytest.mark.parametrize(
    ("options", "seen", "value"),
    [
        ("auto", NONE, ""),
        ("auto", READY, "all"),
        ("all", READY, "all"),
        ("2", READY, "2"),
        ("1", READY, "1"),
        ("none", NONE, ""),
        ("none", READY, ""),
    ],
)
def test_a_container_gets_what_was_asked_for_or_all_there_are(
    options: str, seen: MachineGpus, value: str
) -> None:
    created = decide(options, seen)
    assert (created.value, created.warning) == (value, "")


@pytest.mark.parametrize(
    ("options", "seen", "text"),
    [
        ("all", NONE, "no NVIDIA GPU"),
        ("1", NONE, "no NVIDIA GPU"),
        ("all", BARE, "cannot give them"),
        ("3", READY, "only 2 GPUs"),
    ],
)
def test_gpus_that_were_asked_for_and_cannot_be_given_are_an_error(
    options: str, seen: MachineGpus, text: str
) -> None:
    with pytest.raises(AgentError, match=text) as caught:
        decide(options, seen)
    assert caught.value.code == "no-gpu"
    assert caught.value.hint


def test_a_run_without_the_gpus_that_are_there_says_so() -> None:
    created = decide("auto", BARE)
    assert created.value == ""
    assert "the run goes without" in created.warning


@pytest.mark.parametrize("options", ["", "0", "-1", "many"])
def test_a_wish_that_is_none_is_refused(options: str) -> None:
    with pytest.raises(AgentError) as caught:
        decide(options, READY)
    assert caught.value.code == "bad-request"
