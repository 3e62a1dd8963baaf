"""Descriptions of AWS's services are botocore's own, however they are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from botocore.exceptions import UnknownServiceError
from botocore.loaders import create_loader

from runctl.providers.aws.calls.botocore_loader import loader
from runctl.providers.aws.calls.session import AwsSession

SERVICES = ["ec2", "ssm", "ecr", "iam", "sts", "s3", "ec2-instance-connect", "pricing"]


@pytest.mark.parametrize("service", SERVICES)
def test_they_are_the_same(service: str) -> None:
    ours, theirs = loader(None), create_loader()

    for kind in ("service-2", "endpoint-rule-set-1", "paginators-1", "waiters-2"):
        known = service in theirs.list_available_services(kind)
        assert (service in ours.list_available_services(kind)) is known
        # A comparison of its own: to show how megabytes differ takes pytest minutes.
        same = not known or ours.load_service_model(service, kind) == theirs.load_service_model(service, kind)
        assert same, kind


@pytest.mark.parametrize("name", ["endpoints", "partitions", "_retry"])
def test_what_belongs_to_no_service_is_the_same(name: str) -> None:
    same = loader(None).load_data(name) == create_loader().load_data(name)
    assert same


def test_the_list_of_all_is_the_same() -> None:
    ours, theirs = (one.list_available_services("service-2") for one in (loader(None), create_loader()))

    assert list(ours) == theirs
    assert (len(ours), ours[0], "nothing" in ours) == (len(theirs), theirs[0], False)


def test_a_service_that_does_not_exist_is_refused_as_by_botocore() -> None:
    with pytest.raises(UnknownServiceError, match="Valid service names are: accessanalyzer"):
        loader(None).load_service_model("nothing", "service-2")


def test_a_users_own_descriptions_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "models" / "_retry"
    folder.parent.mkdir()
    folder.with_suffix(".json").write_text(json.dumps({"mine": True}))
    monkeypatch.setenv("AWS_DATA_PATH", str(folder.parent))

    found = AwsSession(region="us-east-1", profile=None)._botocore.get_component("data_loader")

    assert found.load_data("_retry") == {"mine": True}
