"""The network that every account has."""

from __future__ import annotations

import pytest

from tests.sandbox.account import Account

pytestmark = pytest.mark.namespaces


def test_the_subnets_of_the_default_vpc_lead_to_the_internet(account: Account) -> None:
    (vpc,) = account.ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    filters = [
        {"Name": "association.main", "Values": ["true"]},
        {"Name": "vpc-id", "Values": [vpc["VpcId"]]},
    ]

    (table,) = account.ec2.describe_route_tables(Filters=filters)["RouteTables"]

    (gateway,) = account.ec2.describe_internet_gateways()["InternetGateways"]
    assert gateway["Attachments"] == [{"State": "available", "VpcId": vpc["VpcId"]}]
    routes = {route["DestinationCidrBlock"]: route["GatewayId"] for route in table["Routes"]}
    assert routes == {vpc["CidrBlock"]: "local", "0.0.0.0/0": gateway["InternetGatewayId"]}
