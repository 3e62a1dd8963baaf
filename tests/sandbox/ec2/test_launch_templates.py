"""Launch templates: one answer for one token, EC2's refusal of what is gone, and every page of a long listing."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.sandbox.account import Account, code_of

pytestmark = pytest.mark.namespaces

NAMES = [f"page-{number:02}" for number in range(17)]
DATA = {"InstanceType": "t3.medium"}
NO_NAME, NO_ID = "InvalidLaunchTemplateName.NotFoundException", "InvalidLaunchTemplateId.NotFound"


def test_a_template_that_is_gone_is_not_found_by_name_and_by_id(account: Account) -> None:
    ec2 = account.ec2
    arguments: dict[str, Any] = {
        "LaunchTemplateName": "once",
        "LaunchTemplateData": DATA,
        "ClientToken": "once",
    }
    first = ec2.create_launch_template(**arguments)["LaunchTemplate"]["LaunchTemplateId"]
    assert ec2.create_launch_template(**arguments)["LaunchTemplate"]["LaunchTemplateId"] == first
    with pytest.raises(ClientError) as refused:
        ec2.create_launch_template(**{**arguments, "ClientToken": "another"})
    assert code_of(refused.value) == "InvalidLaunchTemplateName.AlreadyExistsException"
    ec2.delete_launch_template(LaunchTemplateName="once")

    for call, named, code in (
        (ec2.delete_launch_template, {"LaunchTemplateName": "once"}, NO_NAME),
        (ec2.delete_launch_template, {"LaunchTemplateId": first}, NO_ID),
        (ec2.describe_launch_templates, {"LaunchTemplateNames": ["once"]}, NO_NAME),
        (ec2.describe_launch_templates, {"LaunchTemplateIds": [first]}, NO_ID),
    ):
        with pytest.raises(ClientError) as refused:
            call(**named)
        assert code_of(refused.value) == code


def test_every_template_is_on_some_page(account: Account) -> None:
    for name in NAMES:
        account.ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=DATA)
    try:
        assert len(account.ec2.describe_launch_templates()["LaunchTemplates"]) >= len(NAMES)
        pages = account.ec2.get_paginator("describe_launch_templates").paginate(
            PaginationConfig={"PageSize": 5}
        )
        sizes = [[each["LaunchTemplateName"] for each in page["LaunchTemplates"]] for page in pages]
        assert sorted(name for page in sizes for name in page if name in NAMES) == NAMES
        assert max(map(len, sizes)) == 5
    finally:
        for name in NAMES:
            account.ec2.delete_launch_template(LaunchTemplateName=name)
