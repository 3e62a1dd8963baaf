"""What options and the configuration ask for a run's checkpoints."""

from __future__ import annotations

from datetime import timedelta

import pytest

from runctl.agent.checkpoint_spec import CheckpointSchedule, StoreSpec
from runctl.checkpoints.keeping import NOTHING, Keeping, with_defaults
from runctl.core.config import CheckpointsConfig
from runctl.core.errors import UsageError


def test_a_store_and_a_schedule_are_what_was_asked_for() -> None:
    keeping = Keeping(s3="s3://mine/runs/", every="10m", keep_last=3, keep_best=("best*",))
    assert keeping.store() == StoreSpec("s3://mine/runs", keep_last=3, keep_best=("best*",))
    assert keeping.schedule() == CheckpointSchedule(every_seconds=600.0)
    assert Keeping(every="auto").schedule() == CheckpointSchedule()
    measured = Keeping(every="auto").schedule(timedelta(hours=5))
    assert measured == CheckpointSchedule(between_interruptions=5 * 3600.0)
    assert Keeping(folder="/mnt/shared").store() == StoreSpec("/mnt/shared")
    assert (NOTHING.store(), NOTHING.schedule()) == (None, None)


@pytest.mark.parametrize(
    "keeping",
    [
        Keeping(s3="https://mine/runs"),
        Keeping(folder="relative"),
        Keeping(folder="/mnt/../etc"),
        Keeping(s3="s3://mine", endpoint="minio:9000"),
        Keeping(keep_last=3),
        Keeping(keep_best=("best*",)),
        Keeping(every="soon"),
        Keeping(every="0.1s"),
        Keeping(every="99999999999999d"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_hint(keeping: Keeping) -> None:
    with pytest.raises(UsageError):
        keeping.store()
        keeping.schedule()


def test_the_configuration_fills_in_what_was_not_given() -> None:
    config = CheckpointsConfig(s3="s3://ours/runs", every="auto", keep_last=5)
    assert with_defaults(NOTHING, config) == Keeping(s3="s3://ours/runs", every="auto", keep_last=5)
    given = Keeping(folder="/mnt/shared", every="5m")
    assert with_defaults(given, config) == Keeping(folder="/mnt/shared", every="5m", keep_last=5)
    without = Keeping(without=True)
    assert with_defaults(without, config) == Keeping(every="auto", without=True)
    assert with_defaults(without, config).store() is None


@pytest.mark.parametrize("folder", [None, "/mnt/shared"])
def test_an_endpoint_needs_a_store_that_it_is_of(folder: str | None) -> None:
    given = Keeping(folder=folder, endpoint="https://minio.example")
    with pytest.raises(UsageError, match="none is used"):
        with_defaults(given, CheckpointsConfig())
    assert (
        with_defaults(Keeping(folder=folder), CheckpointsConfig(endpoint="https://minio.example")).s3 is None
    )
