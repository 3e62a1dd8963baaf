"""What becomes known of a run by its prefix: whether a group continues it, and whose store may say how it goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runctl.agent.after_run import GroupEnd, MachineEnd
from runctl.agent.spec import RunSpec
from runctl.agent.stored_run import StoredMachine
from runctl.checkpoints.download import Prefix
from runctl.core.errors import Conflict
from runctl.runs.recovering import adopting
from runctl.runs.recovering.adopting import _check_is_its_own
from runctl.runs.stored.elsewhere import StoredAttempt
from runctl.runs.stored.recipe import Recipe
from runctl.runs.stored.stored_run import RunFacts
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


@pytest.mark.parametrize(
    ("end", "group"),
    [
        (MachineEnd(group=GroupEnd("runctl-run-1", "runctl-run-1")), "runctl-run-1"),
        # A computer has recovered it since: its group is gone.
        (MachineEnd(), None),
        (None, None),
    ],
)
def test_whose_group_may_rent_the_next_machine_is_known_to_have_one(
    monkeypatch: pytest.MonkeyPatch, end: MachineEnd | None, group: str | None
) -> None:
    monkeypatch.setattr(adopting, "read", lambda *_: StoredMachine("i-1", 1.0))
    monkeypatch.setattr(adopting, "read_attempt", lambda _, number: StoredAttempt(number))
    at: Any = "s3://mine/runs/run-1"
    recipe = Recipe(RunSpec("run-1", "train.py", machine_end=end), "aws", None)

    record = adopting._first(at, recipe, RunFacts())

    assert (record.unattended.group if record.unattended is not None else None) == group
    assert record.needs_refresh is (group is not None)
