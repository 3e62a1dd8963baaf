"""Whether SSH gets in is read from the rules as EC2 writes them."""

from __future__ import annotations

from typing import Any

import pytest

from runctl.providers.aws.ec2.network import lets_ssh_in

ANYWHERE = {"IpRanges": [{"CidrIp": "0.0.0.0/0"}]}


@pytest.mark.parametrize(
    ("rule", "lets_in"),
    [
        ({"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, **ANYWHERE}, True),
        ({"IpProtocol": "tcp", "FromPort": 0, "ToPort": 65535, **ANYWHERE}, True),
        ({"IpProtocol": "-1", **ANYWHERE}, True),
        (
            {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "PrefixListIds": [{"PrefixListId": "pl-1"}]},
            True,
        ),
        ({"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}, True),
        ({"IpProtocol": "udp", "FromPort": 22, "ToPort": 22, **ANYWHERE}, False),
        ({"IpProtocol": "tcp", "FromPort": 80, "ToPort": 443, **ANYWHERE}, False),
        ({"IpProtocol": "icmp", "FromPort": -1, "ToPort": -1, **ANYWHERE}, False),
        # The default group: everything, but only from its own members.
        ({"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": "sg-1"}]}, False),
    ],
)
def test_a_rule_lets_ssh_in_from_addresses_or_not(rule: dict[str, Any], lets_in: bool) -> None:
    assert lets_ssh_in([{"IpPermissions": [rule]}]) is lets_in


def test_without_groups_nothing_gets_in() -> None:
    assert not lets_ssh_in([])
