"""Whose store may say how a run goes on that is known here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runctl.checkpoints.download import Prefix
from runctl.core.errors import Conflict
from runctl.runs.recovering.adopting import _check_is_its_own
from tests.runs.memory_storage import MemoryStorage
from tests.runs.sample_runs import a_record

KNOWN = replace(a_record("run-a", "i-1", "2026-06-01 12:00", None), store="s3://mine/runs/")


def test_a_store_that_is_not_the_runs_own_says_nothing_of_it() -> None:
    storage = MemoryStorage()
    _check_is_its_own(KNOWN, Prefix(storage, "mine", "runs/run-a"))
    # As a machine has told of it, without its store.
    _check_is_its_own(replace(KNOWN, store=None), Prefix(storage, "mine", "runs/run-a"))

    for bucket, prefix in (("another", "runs/run-a"), ("mine", "elsewhere/run-a")):
        with pytest.raises(Conflict, match=f"its store is s3://mine/runs/run-a, not s3://{bucket}/{prefix}"):
            _check_is_its_own(KNOWN, Prefix(storage, bucket, prefix))
