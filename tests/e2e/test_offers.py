"""What machines cost, by the real command line: two regions in one table, one that cannot be read, and it again."""

from __future__ import annotations

import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from runctl.sandbox.connection import SandboxInfo
from tests.e2e.command_line import CommandLine

pytestmark = pytest.mark.namespaces

OFFERS = ("offers", "--gpu", "a100", "--spot", "--region", "us-east-1,eu-west-1,mars-north-1")
JSON = ("--output", "json")


@pytest.fixture
def alone(runctl: CommandLine, tmp_path: Path) -> CommandLine:
    """With a cache of its own."""
    return CommandLine(runctl.cwd, {**runctl.env, "XDG_CACHE_HOME": str(tmp_path / "cache")})


def test_two_regions_are_in_one_table_and_the_third_is_said(
    alone: CommandLine, in_docker_sandbox: SandboxInfo
) -> None:
    runctl = alone
    first = runctl(*OFFERS, *JSON).ok()

    found: dict[str, Any] = first.json
    prices = [Decimal(offer["price"]["usd"]) for offer in found["offers"]]
    assert prices == sorted(prices)
    assert {offer["region"] for offer in found["offers"]} == {"us-east-1", "eu-west-1"}
    assert all(offer["gpu"] == "A100" and len(offer["zones"]) == 1 for offer in found["offers"])
    assert all(
        Decimal(offer["usd_per_gpu"]) * 8 - price < Decimal("0.0001")
        for offer, price in zip(found["offers"], prices, strict=True)
    )
    scored = {offer["region"]: offer["score"] for offer in found["offers"]}
    assert scored == {"us-east-1": 3, "eu-west-1": None}, "fewer than three types always score low"
    assert [(row["provider"], row["region"]) for row in found["unread"]] == [("aws", "mars-north-1")]
    assert "mars-north-1 could not be read" in first.err

    cheapest = found["offers"][0]
    table = runctl(*OFFERS, "--limit", "1").ok()
    plan = runctl(
        *("aws", "create", cheapest["instance_type"], "--spot", "--zone", cheapest["zones"][0]),
        *("--dry-run", "--region", cheapest["region"], *JSON),
    )
    assert table.out.splitlines()[1].split()[2] == cheapest["instance_type"]
    assert f"{len(found['offers']) - 1} more, at no lower prices: " in table.err
    if cheapest["region"] == "us-east-1":
        assert plan.ok().json["price"]["usd"] == cheapest["price"]["usd"]
    refused = runctl("offers", "--provider", "local")
    assert refused.code == 1
    assert "nothing to rent" in refused.err
    nothing = runctl("offers", "--gpu", "A100:64", "--region", "us-east-1", *JSON)
    assert (nothing.code, nothing.error["code"]) == (6, "no-capacity")


def test_a_provider_without_regions_has_its_machines_in_the_table(alone: CommandLine) -> None:
    found = (
        alone("offers", "--gpu", "H100", "--provider", "lyceum", "--sort", "price-per-gpu", *JSON).ok().json
    )

    own = {offer["instance_type"]: offer for offer in found["offers"]}
    assert {offer["gpu_count"] for offer in own.values()} == {1, 2, 4, 8}
    assert own["h100.8x"]["region"] is None
    assert own["h100.8x"]["in_stock"] in {True, False}
    assert len({offer["usd_per_gpu"] for offer in own.values()}) == 1


def test_a_kept_answer_needs_neither_aws_nor_its_library(
    alone: CommandLine, in_docker_sandbox: SandboxInfo
) -> None:
    argv = ["offers", "--gpu", "A10G:1", "--region", "us-east-1", "--limit", "2"]
    first = alone(*argv).ok()
    program = (
        "import sys\n"
        "from runctl.cli.main import main\n"
        f"sys.argv = ['runctl', *{argv!r}]\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print([name for name in ('boto3', 'botocore', 'rich', 'ssl') if name in sys.modules])\n"
    )
    again = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, **alone.env},
        cwd=alone.cwd,
        timeout=60,
        check=True,
    )

    *lines, imported = again.stdout.splitlines()
    assert imported == "[]"
    assert [line.split()[:3] for line in lines] == [line.split()[:3] for line in first.out.splitlines()]
