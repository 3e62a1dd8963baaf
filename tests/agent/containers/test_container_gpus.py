"""Whether a container is given GPUs."""

from __future__ import annotations

import pytest

from runctl.agent.containers.container_gpus import MachineGpus, decide
from runctl.agent.errors import AgentError

NONE, BARE, READY = MachineGpus(), MachineGpus(2), MachineGpus(2, toolkit=True)


@pytest.mark.parametrize(
    ("wish", "seen", "value"),
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
    wish: str, seen: MachineGpus, value: str
) -> None:
    made = decide(wish, seen)
    assert (made.value, made.warning) == (value, "")


@pytest.mark.parametrize(
    ("wish", "seen", "words"),
    [
        ("all", NONE, "no NVIDIA GPU"),
        ("1", NONE, "no NVIDIA GPU"),
        ("all", BARE, "cannot give them"),
        ("3", READY, "only 2 GPUs"),
    ],
)
def test_gpus_that_were_asked_for_and_cannot_be_given_are_an_error(
    wish: str, seen: MachineGpus, words: str
) -> None:
    with pytest.raises(AgentError, match=words) as caught:
        decide(wish, seen)
    assert caught.value.code == "no-gpu"
    assert caught.value.hint


def test_a_run_without_the_gpus_that_are_there_says_so() -> None:
    made = decide("auto", BARE)
    assert made.value == ""
    assert "the run goes without" in made.warning


@pytest.mark.parametrize("wish", ["", "0", "-1", "many"])
def test_a_wish_that_is_none_is_refused(wish: str) -> None:
    with pytest.raises(AgentError) as caught:
        decide(wish, READY)
    assert caught.value.code == "bad-request"
