"""The decision between transports, by table."""

from __future__ import annotations

import pytest

from runctl.core.errors import Unreachable
from runctl.transport.choice import Candidate, Choice, NoChoice, SshFacts, choose, ssh_candidate

OPEN = ssh_candidate(SshFacts("203.0.113.5", port_open=True, key="key file ~/.ssh/id"))
UNSEEN = ssh_candidate(SshFacts("203.0.113.5", port_open=None, key="EC2 Instance Connect"))
CLOSED = ssh_candidate(SshFacts("203.0.113.5", port_open=False, key="key file ~/.ssh/id"))
KEYLESS = ssh_candidate(SshFacts("203.0.113.5", port_open=True))
PROGRAMLESS = ssh_candidate(
    SshFacts("203.0.113.5", port_open=True, key="key file ~/.ssh/id", missing="ssh-keygen")
)
NOWHERE = ssh_candidate(SshFacts(None, key="key file ~/.ssh/id"))
TUNNEL = Candidate("tunnel", "its relay is online")
BROKEN = Candidate("tunnel", "its relay is online", "its relay is away", "start the relay")


@pytest.mark.parametrize(
    ("requested", "candidates", "expected"),
    [
        ("auto", (OPEN, TUNNEL), "ssh"),
        ("auto", (TUNNEL, OPEN), "tunnel"),
        ("auto", (UNSEEN, TUNNEL), "ssh"),
        ("auto", (CLOSED, TUNNEL), "tunnel"),
        ("auto", (KEYLESS, TUNNEL), "tunnel"),
        ("auto", (NOWHERE, TUNNEL), "tunnel"),
        ("auto", (PROGRAMLESS, TUNNEL), "tunnel"),
        ("ssh", (PROGRAMLESS, TUNNEL), None),
        ("auto", (TUNNEL,), "tunnel"),
        ("auto", (CLOSED, BROKEN), None),
        ("auto", (), None),
        ("ssh", (CLOSED, TUNNEL), None),
        ("ssh", (TUNNEL, OPEN), "ssh"),
        ("tunnel", (OPEN, TUNNEL), "tunnel"),
        ("tunnel", (OPEN, BROKEN), None),
        ("local", (OPEN, TUNNEL), None),
    ],
)
def test_the_first_that_works_is_taken_unless_one_is_asked_for(
    requested: str, candidates: tuple[Candidate, ...], expected: str | None
) -> None:
    choice = choose(requested, candidates)
    assert (choice.name if isinstance(choice, Choice) else None) == expected


def test_the_reason_says_what_was_passed_over() -> None:
    choice = choose("auto", (CLOSED, TUNNEL))
    assert isinstance(choice, Choice)
    assert choice.reason == "its relay is online; ssh: 203.0.113.5 does not answer on port 22"


def test_every_reason_is_in_the_error_and_the_last_hint() -> None:
    choice = choose("auto", (KEYLESS, BROKEN))
    assert isinstance(choice, NoChoice)
    error = choice.error("i-0abc")
    assert isinstance(error, Unreachable)
    assert "ssh: no key is configured" in error.message
    assert "tunnel: its relay is away" in error.message
    assert error.hint == "start the relay"


def test_a_word_that_is_no_transport_gets_a_suggestion() -> None:
    choice = choose("shh", (OPEN,))
    assert isinstance(choice, NoChoice)
    assert choice.hint == 'did you mean "ssh"?'
