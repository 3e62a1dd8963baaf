"""``aws ebs resize``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runctl.core.errors import Unreachable
from runctl.core.machine_models import InstanceState
from runctl.providers.abilities.volume_plans import ResizePlan, ResizeRequest
from tests.cli.conftest import Invoke, data_of, last_error
from tests.cli.fake_provider import VOLUME_ID, Script, an_instance
from tests.cli.volumes.conftest import ON_IT, PRICE
from tests.rates import monthly


def a_resize_plan(volume: Any = ON_IT, **changes: Any) -> ResizePlan:
    values: dict[str, Any] = {
        "volume": volume,
        "size_gib": 200,
        "type": "gp3",
        "iops": 3000,
        "throughput": 125,
        "changes": ("size 100 → 200 GiB",),
        "pending": None,
        "price_before": PRICE,
        "price_after": monthly(16, "EBS list price"),
        "modifications_today": 1,
        "warnings": ("it cannot be undone: volumes do not shrink",),
    }
    return ResizePlan(**{**values, **changes})


@pytest.fixture
def growing(script: Script) -> Script:
    script.answers.update(
        {
            "plan_resize": a_resize_plan(),
            "resize_volume": replace(ON_IT, size_gib=200),
            "instance": an_instance(),
            "agent": None,
            "agent.grow": {
                "fstype": "ext4",
                "mount_point": "/mnt/data",
                "partition_grown": True,
                "before_bytes": 100 << 30,
                "after_bytes": 200 << 30,
            },
        }
    )
    return script


def test_resize_asks_changes_and_grows_what_is_on_it(invoke: Invoke, growing: Script) -> None:
    result = invoke("aws", "ebs", "resize", "datasets", "--size", "200", "--yes")
    assert growing.only("plan_resize") == ("datasets", ResizeRequest(size_gib=200))
    assert growing.only("agent.grow") == (
        {"volume_id": VOLUME_ID, "size_bytes": 200 << 30, "wait_seconds": 120},
    )
    assert (
        "its partition and its ext4 file system (/mnt/data) grew from 100.00 to 200.00 GiB" in result.stderr
    )
    assert "$8.00 more than now" in result.stderr


def test_resize_without_an_answer_changes_nothing(invoke: Invoke, growing: Script) -> None:
    result = invoke("aws", "ebs", "resize", "datasets", "--size", "200", "--output", "json")
    assert last_error(result)["code"] == "confirmation-needed"
    assert growing.names() == ["plan_resize"]


def test_resize_dry_run_is_a_document(invoke: Invoke, growing: Script) -> None:
    plan = data_of(
        invoke("aws", "ebs", "extend", "datasets", "--size", "200", "--dry-run", "--output", "json")
    )
    assert (plan["size_gib"], plan["changes"]) == (200, ["size 100 → 200 GiB"])
    assert growing.names() == ["plan_resize"]


def test_what_has_its_size_already_only_grows_what_is_on_it_without_asking(
    invoke: Invoke, growing: Script
) -> None:
    growing.answers["plan_resize"] = a_resize_plan(changes=())
    assert invoke("aws", "ebs", "resize", "datasets", "--size", "200").exit_code == 0
    assert "agent.grow" in growing.names()


def test_a_machine_that_cannot_grow_says_that_the_volume_has_its_size(
    invoke: Invoke, growing: Script
) -> None:
    growing.answers["agent.grow"] = Unreachable("no answer")
    result = invoke("aws", "ebs", "resize", "datasets", "--size", "200", "--yes", "--output", "json")
    assert result.exit_code == 7
    assert "repeat the command" in last_error(result)["hint"]


def test_a_volume_on_no_running_machine_is_changed_alone(invoke: Invoke, growing: Script) -> None:
    growing.answers["instance"] = an_instance(state=InstanceState.STOPPED)
    assert invoke("aws", "ebs", "resize", "datasets", "--size", "200", "--yes").exit_code == 0
    assert "agent.grow" not in growing.names()


def test_resize_wants_to_know_what(invoke: Invoke, script: Script) -> None:
    assert invoke("aws", "ebs", "resize", "datasets").exit_code == 2
    assert script.calls == []
