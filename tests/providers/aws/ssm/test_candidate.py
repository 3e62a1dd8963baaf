"""When Systems Manager leads to a machine, by table."""

from __future__ import annotations

import pytest

from runctl.providers.aws.ssm.candidate import ssm_candidate
from runctl.transport.choice import Choice, NoChoice, SshFacts, choose, ssh_candidate

CLOSED = ssh_candidate(SshFacts("203.0.113.5", port_open=False, key="key file ~/.ssh/id"))
KEYLESS = ssh_candidate(SshFacts("203.0.113.5", port_open=True))


@pytest.mark.parametrize(
    ("ping", "problem", "obstacle"),
    [
        ("Online", "", ""),
        ("ConnectionLost", "", "not online (ConnectionLost)"),
        (None, "", "has not registered"),
        ("Online", "may not ask (ssm:DescribeInstanceInformation)", "may not ask"),
    ],
)
def test_only_an_agent_that_is_online_leads_there(ping: str | None, problem: str, obstacle: str) -> None:
    candidate = ssm_candidate(ping, problem)
    assert (candidate.obstacle == "") == (obstacle == "")
    assert obstacle in candidate.obstacle


def test_the_reason_says_what_was_passed_over() -> None:
    choice = choose("auto", (CLOSED, ssm_candidate("Online")))
    assert isinstance(choice, Choice)
    assert choice.reason == "the machine's SSM agent is online; ssh: 203.0.113.5 does not answer on port 22"


def test_the_hint_says_what_an_agent_that_has_not_registered_needs() -> None:
    choice = choose("auto", (KEYLESS, ssm_candidate(None)))
    assert isinstance(choice, NoChoice)
    assert "AmazonSSMManagedInstanceCore" in choice.hint
