"""``runctl providers`` shows what each provider can do, from the code that does it."""

from __future__ import annotations

import json

import pytest

from runctl.cli.main import run
from runctl.providers.abilities import ABILITIES
from runctl.testing.contract import ABILITIES as OF_THE_CONTRACT


def test_every_ability_has_its_line() -> None:
    assert set(ABILITIES) == set(OF_THE_CONTRACT)


def test_what_a_provider_cannot_do_is_said_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["providers", "--output", "json"]) == 0
    found = {each["provider"]: each["abilities"] for each in json.loads(capsys.readouterr().out)}
    assert {"aws", "local", "lyceum", "runpod"} <= set(found)
    for abilities in found.values():
        assert {each["ability"] for each in abilities} == set(ABILITIES)
        assert all(each["supported"] == (each["reason"] is None) for each in abilities)
    assert [each["ability"] for each in found["aws"] if not each["supported"]] == [
        "machine_images",
        "lent_bucket",
    ]

    assert run(["providers", "runpod"]) == 0
    said = capsys.readouterr().out
    assert "rent and end machines" in said and "no: RunPod" in said


def test_a_provider_that_is_not_installed_is_not_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["providers", "runpd"]) == 5
    assert "runpod" in capsys.readouterr().err
