"""What a run on a spot machine loses that saves nothing which outlives it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from runctl.agent.checkpoint_spec import StoreSpec
from runctl.core.errors import UsageError
from runctl.core.machine_models import Market
from runctl.machines.pool_record import USUAL_LIFE, Lifetime
from runctl.runs.mounts.plan import PlannedMount
from runctl.runs.train.spot_risk import check_risk, is_unsaved, risk_text, spot_risk
from tests.runs.launch.test_launch_plan import planned

UNSEEN = Lifetime(USUAL_LIFE)
CENTS = Decimal("0.50")


def test_a_store_or_a_volume_that_outlives_the_machine_keeps_what_is_saved() -> None:
    saves = planned("datasets:/data").saves
    assert saves is not None
    assert saves.volume is not None
    own_disk = replace(saves, volume=replace(saves.volume, ends_with_instance=True))
    cases: list[tuple[Market, StoreSpec | None, PlannedMount | None, bool]] = [
        (Market.SPOT, None, None, True),
        (Market.SPOT, None, own_disk, True),
        (Market.SPOT, None, replace(saves, volume=None), True),
        (Market.SPOT, None, saves, False),
        (Market.SPOT, StoreSpec("s3://mine/runs"), None, False),
        (Market.ON_DEMAND, None, None, False),
    ]
    for market, store, mount, unsaved in cases:
        assert is_unsaved(market, store, None, mount) is unsaved


def test_the_refusal_says_what_going_without_costs_for_an_hour_and_for_eight() -> None:
    with pytest.raises(UsageError) as refused:
        check_risk(spot_risk(UNSEEN, CENTS, None), has_volumes=True)

    assert refused.value.code == "no-checkpoints"
    # (2 h + 3 min) * (e^(1/2) - 1) - 1 h, and the same of e^4 - 1 for eight hours.
    assert refused.value.message.endswith(
        "with an interruption every 2 hours (assumed: none was seen here yet), 60 minutes of training take"
        " 20 minutes longer on average and cost $0.1649 more, 8 hours of training take 102 hours longer on average"
        " and cost $50.94 more"
    )
    assert "--no-checkpoint" in str(refused.value.hint)
    assert "--ebs-volume" in str(refused.value.hint)


def test_a_run_that_is_short_beside_the_time_between_interruptions_is_not_refused() -> None:
    short = spot_risk(UNSEEN, CENTS, timedelta(minutes=10))
    assert short.is_small
    check_risk(short, has_volumes=False)

    for longest, lifetime in (
        (timedelta(hours=1), UNSEEN),
        (timedelta(minutes=10), Lifetime(timedelta(minutes=20), 5)),
        (timedelta(days=30), UNSEEN),
    ):
        with pytest.raises(UsageError) as refused:
            check_risk(spot_risk(lifetime, None, longest), has_volumes=False)
        assert "--ebs-volume" not in str(refused.value.hint)


def test_what_was_measured_is_told_apart_from_what_is_assumed_and_a_year_is_enough() -> None:
    text = risk_text(spot_risk(Lifetime(timedelta(minutes=30), 3), CENTS, timedelta(hours=48)))

    assert text == (
        "with an interruption every 30 minutes (measured over 3 interruptions),"
        " 48 hours of training take more than a year longer"
    )
