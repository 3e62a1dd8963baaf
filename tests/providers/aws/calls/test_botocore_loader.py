"""Descriptions of AWS's services are botocore's own, however they are read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import UnknownServiceError
from botocore.loaders import create_loader
from botocore.model import ServiceModel

from runctl.providers.aws.calls.botocore_loader import described, loader, without_documentation
from runctl.providers.aws.calls.parse import parse_time
from runctl.providers.aws.calls.session import AwsSession

SERVICES = ["ec2", "ssm", "ecr", "iam", "sts", "s3", "ec2-instance-connect", "pricing"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    described.cache_clear()
    return tmp_path / "cache" / "runctl" / "botocore"


@pytest.mark.parametrize("service", SERVICES)
def test_they_are_the_same_but_for_documentation(service: str) -> None:
    ours, cached, theirs = loader(None), loader(None), create_loader()

    for kind in ("service-2", "endpoint-rule-set-1", "paginators-1", "waiters-2"):
        known = service in theirs.list_available_services(kind)
        assert (service in ours.list_available_services(kind)) is known
        # A comparison of its own: to show how megabytes differ takes pytest minutes.
        wanted = without_documentation(theirs.load_service_model(service, kind)) if known else None
        for which in (ours, cached):
            described.cache_clear()  # as in the next command
            same = not known or without_documentation(which.load_service_model(service, kind)) == wanted
            assert same, kind


def test_a_member_that_is_called_documentation_stays() -> None:
    shape = {
        "documentation": "A text.",
        "members": {"documentation": {"shape": "String"}},
        "list": [{"documentation": "x"}],
    }

    assert without_documentation(shape) == {"members": {"documentation": {"shape": "String"}}, "list": [{}]}


@pytest.mark.parametrize("service", SERVICES)
def test_botocore_finds_what_it_reads_with_the_first_call(service: str) -> None:
    model = ServiceModel(loader(None).load_service_model(service, "service-2"), service)

    assert all(each.documentation for each in model.client_context_parameters)
    assert bool(model.client_context_parameters) is (service == "s3")


def test_what_is_cached_is_used_and_made_anew_when_it_is_damaged_or_old(cache: Path) -> None:
    def next_command() -> Any:
        described.cache_clear()
        return loader(None).load_service_model("ec2", "service-2")

    ec2 = next_command()
    (kept,) = cache.glob("ec2-*-service-2-*")

    kept.write_text('{"mine": true}')
    assert next_command() == {"mine": True}

    kept.write_text('{"mine": tr')
    (cache / "ec2-2016-11-15-service-2-of-another-version.json").write_text("{}")
    os.utime(cache / "ec2-2016-11-15-service-2-of-another-version.json", (0, 0))
    assert next_command() == ec2
    assert [file.name for file in cache.glob("ec2-*-service-2-*")] == [kept.name]
    assert next_command() == ec2


def test_sessions_of_one_process_share_them() -> None:
    assert loader(None).load_service_model("ec2", "service-2") is loader(None).load_service_model(
        "ec2", "service-2"
    )


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("not a folder")

    assert loader(None).load_service_model("sts", "service-2")["metadata"]["serviceId"] == "STS"


@pytest.mark.parametrize("name", ["endpoints", "partitions", "_retry"])
def test_what_belongs_to_no_service_is_the_same(name: str) -> None:
    same = loader(None).load_data(name) == create_loader().load_data(name)
    assert same


def test_the_list_of_all_is_the_same() -> None:
    ours, theirs = (item.list_available_services("service-2") for item in (loader(None), create_loader()))

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


@pytest.mark.parametrize(
    "text",
    [
        "2026-05-01T12:00:00Z",
        "2026-05-01T12:00:00.123Z",
        "2026-05-01T12:00:00.123456Z",
        "2026-05-01T12:00:00+02:00",
        "Fri, 01 May 2026 12:00:00 GMT",
        "1777636800",
        1777636800,
        1777636800.5,
    ],
)
def test_times_in_answers_are_what_botocore_makes_of_them(text: Any) -> None:
    from botocore.utils import parse_timestamp

    assert parse_time(text) == parse_timestamp(text)
    assert parse_time(text).tzinfo is not None
