"""The decision between transports, by table."""

from __future__ import annotations

import pytest

from runctl.core.errors import Unreachable
from runctl.transport.choice import Choice, NoChoice, SshFacts, SsmFacts, choose

OPEN = SshFacts("203.0.113.5", port_open=True, key="key file ~/.ssh/id")
UNSEEN = SshFacts("203.0.113.5", port_open=None, key="EC2 Instance Connect")
CLOSED = SshFacts("203.0.113.5", port_open=False, key="key file ~/.ssh/id")
KEYLESS = SshFacts("203.0.113.5", port_open=True)
NOWHERE = SshFacts(None, key="key file ~/.ssh/id")
ONLINE, LOST, UNKNOWN = SsmFacts("Online"), SsmFacts("ConnectionLost"), SsmFacts(None)
DENIED = SsmFacts("Online", problem="may not ask (ssm:DescribeInstanceInformation)")


@pytest.mark.parametrize(
    ("requested", "ssh", "ssm", "expected"),
    [
        ("auto", OPEN, ONLINE, "ssh"),
        ("auto", UNSEEN, ONLINE, "ssh"),
        ("auto", CLOSED, ONLINE, "ssm"),
        ("auto", KEYLESS, ONLINE, "ssm"),
        ("auto", NOWHERE, ONLINE, "ssm"),
        ("auto", None, ONLINE, "ssm"),
        ("auto", OPEN, UNKNOWN, "ssh"),
        ("auto", CLOSED, LOST, None),
        ("auto", KEYLESS, DENIED, None),
        ("auto", None, None, None),
        ("ssh", OPEN, ONLINE, "ssh"),
        ("ssh", CLOSED, ONLINE, None),
        ("ssm", OPEN, ONLINE, "ssm"),
        ("ssm", OPEN, LOST, None),
        ("ssm", OPEN, UNKNOWN, None),
        ("local", OPEN, ONLINE, None),
    ],
)
def test_the_way_that_works_is_taken(
    requested: str, ssh: SshFacts | None, ssm: SsmFacts | None, expected: str | None
) -> None:
    choice = choose(requested, ssh=ssh, ssm=ssm)
    assert (choice.name if isinstance(choice, Choice) else None) == expected


def test_the_reason_says_what_was_passed_over() -> None:
    choice = choose("auto", ssh=CLOSED, ssm=ONLINE)
    assert isinstance(choice, Choice)
    assert choice.reason == "the machine's SSM agent is online; ssh: 203.0.113.5 does not answer on port 22"


def test_this_computer_needs_no_network() -> None:
    assert choose("auto", this_computer=True) == Choice("local", "the machine is this computer")


def test_every_reason_is_in_the_error() -> None:
    choice = choose("auto", ssh=KEYLESS, ssm=UNKNOWN)
    assert isinstance(choice, NoChoice)
    error = choice.error("i-0abc")
    assert isinstance(error, Unreachable)
    assert "no key file" in error.message
    assert "has not registered" in error.message
    assert "AmazonSSMManagedInstanceCore" in error.hint


def test_a_word_that_is_no_transport_gets_a_suggestion() -> None:
    choice = choose("shh", ssh=OPEN)
    assert isinstance(choice, NoChoice)
    assert choice.hint == 'did you mean "ssh"?'
