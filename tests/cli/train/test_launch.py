"""``aws launch``: what is decided before anything is rented."""

from __future__ import annotations

from pathlib import Path

import pytest

from runctl.core.machine_models import Market
from tests.cli.conftest import Invoke, data_of, error_of
from tests.cli.fake_provider import Script, a_plan

LAUNCH = ("aws", "launch", "train.py", "--wait", "--dry-run", "--output", "json")


@pytest.fixture
def aws(script: Script, invoke: Invoke) -> Script:
    """A plan is all that is asked for."""
    script.answers.update(instances=(), plan_create=a_plan)
    Path("train.py").write_text("print('trains')\n")
    return script


@pytest.mark.usefixtures("aws")
def test_spot_without_checkpoints_that_outlive_the_machine_is_refused_unless_that_is_accepted(
    invoke: Invoke,
) -> None:
    error = error_of(invoke(*LAUNCH, "--spot"))
    assert error["code"] == "no-checkpoints"
    assert "8 hours of training take 102 hours longer on average" in error["message"]

    accepted = data_of(invoke(*LAUNCH, "--spot", "--no-checkpoint"))
    (hour, _) = accepted["run"]["spot_risk"]["costs"]
    assert accepted["machine"]["market"] == Market.SPOT.value
    assert hour["work_seconds"] == 3600
    assert 1000 < hour["extra_seconds"] < 1300

    for enough in (("--checkpoint-s3", "s3://mine/runs"), ("--estimate", "10m"), ("--on-demand",)):
        planned = data_of(invoke(*LAUNCH, *(() if enough[0] == "--on-demand" else ("--spot",)), *enough))
        assert (planned["run"]["spot_risk"] is None) is (enough[0] != "--estimate")


@pytest.mark.usefixtures("aws")
def test_an_estimate_beyond_a_limit_is_warned_of_and_not_paid_for(invoke: Invoke) -> None:
    planned = invoke(*LAUNCH, "--on-demand", "--estimate", "24h", "--timeout", "12h")
    created = invoke("aws", "create", "--ttl", "2h", "--estimate", "24h", "--dry-run", "--output", "json")

    assert "and is ended after 12h00m (--timeout)" in planned.stderr
    assert data_of(planned)["machine"]["costs"]["expected"]["duration"] == 12 * 3600
    assert "and is ended after 2h00m (--ttl)" in created.stderr
    assert data_of(created)["costs"]["expected"]["duration"] == 2 * 3600


@pytest.mark.usefixtures("aws")
def test_no_checkpoint_leaves_out_the_configured_store_and_contradicts_one_that_is_named(
    invoke: Invoke,
) -> None:
    Path(".runctl.toml").write_text('[checkpoints]\ns3 = "s3://ours/runs"\n')
    assert invoke("config", "trust", "--yes").exit_code == 0

    assert data_of(invoke(*LAUNCH, "--spot"))["run"]["store"]["url"] == "s3://ours/runs"
    assert data_of(invoke(*LAUNCH, "--spot", "--no-checkpoint"))["run"]["store"] is None
    both = error_of(invoke(*LAUNCH, "--spot", "--no-checkpoint", "--checkpoint-s3", "s3://mine/runs"))
    assert "cannot be used together" in both["message"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--deadline", "52h", "--spot", "--policy", "on-demand"), "--spot and the policy on-demand"),
        (("--deadline", "52h", "--on-demand"), "--on-demand and the policy deadline contradict"),
        (("--policy", "deadline"), "--deadline"),
        (("--deadline", "soon"), "write 52h or 2026-12-01T08:00"),
        (("--deadline", "52h", "--spot-fallback", "on-demand"), "contradict each other"),
        (("--deadline", "52h", "--no-auto-resume"), "--no-auto-resume forbids that"),
        (("--deadline", "2001-01-01T08:00"), "the deadline has passed"),
        (("--deadline", "10h", "--estimate", "10h"), "cannot be kept"),
        (("--progress-pattern", "step ("), "not a regular expression"),
        (("--progress-pattern", "step (?P<n>[0-9]+)"), "has no group for the progress"),
    ],
)
@pytest.mark.usefixtures("aws")
def test_a_deadline_that_cannot_be_meant_or_kept_is_refused(
    invoke: Invoke, options: tuple[str, ...], problem: str
) -> None:
    assert problem in error_of(invoke(*LAUNCH, "--no-checkpoint", *options))["message"]


@pytest.mark.usefixtures("aws")
def test_a_deadline_is_shown_with_what_each_way_costs(invoke: Invoke) -> None:
    options = ("--checkpoint-s3", "s3://mine/runs", "--deadline", "52h", "--estimate", "48h")
    planned = data_of(invoke(*LAUNCH, *options))
    deadline = planned["deadline"]
    assert (planned["machine"]["market"], deadline["market"]) == ("spot", "spot")
    assert planned["run"]["auto_resume"] is True
    assert float(deadline["expected_usd"]) < float(deadline["on_demand_usd"]) < float(deadline["most_usd"])
