"""What the machines of a further attempt are told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from runctl.agent.spec import MountSpec, RunSpec
from runctl.core.ids import VolumeId
from runctl.runs.recovering import several_machines
from runctl.runs.recovering.several_machines import recover_nodes, with_own_volumes
from runctl.runs.recovery import GiveUp, RecoveryRules
from tests.runs.sample_runs import a_run


def test_a_machine_mounts_the_copies_that_it_has_in_the_place_of_the_runs_volumes() -> None:
    mounts = (
        MountSpec("/mnt/data", "/data", False, "vol-1", "--ebs-mount"),
        MountSpec("/mnt/shared", "/shared", True, "vol-2", "--ebs-mount"),
        MountSpec("/scratch", "/scratch", False, None, "--mount"),
    )
    told = with_own_volumes(RunSpec("run-a", "train.py", mounts=mounts), {"vol-1": VolumeId("vol-9")})
    assert [each.volume_id for each in told.mounts] == ["vol-9", "vol-2", None]
    assert [each.source for each in told.mounts] == [each.source for each in mounts]


@pytest.mark.parametrize("leased", [True, False])
def test_what_another_computer_has_rented_is_given_back_only_with_the_lease(
    monkeypatch: pytest.MonkeyPatch, leased: bool
) -> None:
    given_back: list[str] = []
    nothing = SimpleNamespace(deadline=None, request=None)
    for name in (
        "check_recoverable",
        "give_back_nodes",
        "progress_of",
        "deadline_of",
        "elapsed_of",
        "history",
    ):
        monkeypatch.setattr(several_machines, name, lambda *_, **__: None)
    monkeypatch.setattr(several_machines, "rules_of", lambda _: RecoveryRules(1, 0.0))
    monkeypatch.setattr(several_machines, "decide_next", lambda *_: GiveUp("has ended"))
    monkeypatch.setattr(several_machines, "_give_back_strays", lambda run: given_back.append(run.record.id))
    run: Any = SimpleNamespace(
        record=a_run(), recipe=nothing, clock=None, session=None, lease=object() if leased else None
    )
    run.begin_search = lambda: None

    recover_nodes(run, once=True)

    assert given_back == (["run-aaaa"] if leased else [])
