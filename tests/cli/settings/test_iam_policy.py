"""``iam-policy`` prints the whole, a part that IAM takes, or the reasons; without what an administrator keeps back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from runctl.providers import registry
from runctl.providers.aws.account.setup import AwsAccountSetup
from tests.cli.conftest import Invoke, data_of, error_of
from tests.cli.fake_provider import FakeProvider, Script


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = SimpleNamespace(partition="aws", account="123456789012")
    context: Any = SimpleNamespace(session=SimpleNamespace(identity=identity, endpoint=None))
    provider: Any = FakeProvider(Script())
    provider.account = AwsAccountSetup(context)
    monkeypatch.setattr(registry, "load", lambda *_, **__: provider)


def test_the_parts_are_the_whole(invoke: Invoke) -> None:
    whole = data_of(invoke("aws", "iam-policy"))
    parts = [data_of(invoke("aws", "iam-policy", "--part", number)) for number in "12"]

    assert whole["Statement"] == parts[0]["Statement"] + parts[1]["Statement"]
    refused = error_of(invoke("aws", "iam-policy", "--part", "3", "--output", "json"))
    assert refused["message"] == "the policy has 2 parts, and no part 3"
    alone = error_of(invoke("aws", "iam-policy", "--for", "machine", "--part", "2", "--output", "json"))
    assert alone["message"] == "the policy has one part, and no part 2"


def test_a_statement_is_left_out_of_all_that_is_printed(invoke: Invoke) -> None:
    left_out = ("--without", "MakeRoles", "--without", "KeepAlarm")
    for more in ((), ("--part", "1"), ("--part", "2"), ("--explain",)):
        said = invoke("aws", "iam-policy", *left_out, *more).stdout
        assert said
        assert "MakeRoles" not in said and "KeepAlarm" not in said

    refused = error_of(invoke("aws", "iam-policy", "--without", "MakeRole", "--output", "json"))
    assert "MakeRoles" in refused["hint"]
