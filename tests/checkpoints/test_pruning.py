"""Which checkpoints stay: the newest whole one always, whatever else there is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from runctl.agent.checkpoints.layout import Manifest, StoredFile, to_prune
from runctl.checkpoints.interface import identity
from runctl.checkpoints.pruning import decide, may_be_other, went_on_from
from runctl.core.run_models import Checkpoint, CheckpointFile, CheckpointState

NOW = datetime(2026, 5, 1, tzinfo=UTC)
BROKEN, COMPLETE = CheckpointState.BROKEN, CheckpointState.COMPLETE


def saved(name: str, age: int, state: CheckpointState = COMPLETE, number: int | None = None) -> Checkpoint:
    problem = "it was cut short" if state is BROKEN else ""
    return Checkpoint(name, None, state, problem, NOW - timedelta(minutes=age), 1, "./x", 1, number)


FOUND = st.lists(
    st.tuples(st.sampled_from(["a.pt", "b.pt", "best.pt"]), st.booleans()), min_size=1, max_size=8
).map(
    lambda rows: [
        saved(name, age, BROKEN if broken else COMPLETE, number=len(rows) - age)
        for age, (name, broken) in enumerate(rows)
    ]
)


@given(FOUND, st.integers(1, 4), st.data())
def test_what_may_be_needed_is_never_removed(found: list[Checkpoint], last: int, data: st.DataObject) -> None:
    in_use = {identity(each) for each in data.draw(st.lists(st.sampled_from(found), max_size=2))}

    decisions = decide(found, keep_last=last, keep_best=["best*"], in_use=in_use)

    assert [each.checkpoint for each in decisions] == found
    kept = [each.checkpoint for each in decisions if each.keep]
    whole = [each for each in found if each.state is COMPLETE]
    assert set(map(identity, whole[:last])) | in_use <= set(map(identity, kept))
    best = [each for each in whole if each.name == "best.pt"]
    assert best[:1] == [] or best[0] in kept
    # Broken ones that are newer than all whole ones may be in the middle of being written.
    newest = found.index(whole[0]) if whole else len(found)
    assert all(each in kept for each in found[:newest])
    assert all(each.reason for each in decisions)


@given(FOUND, st.integers(1, 4))
def test_the_machine_and_the_command_line_prune_a_store_alike(found: list[Checkpoint], last: int) -> None:
    whole = [each for each in found if each.state is COMPLETE]
    manifests = [
        Manifest("run-1", 1, each.number or 0, each.name, 1.0, (StoredFile(each.name, 1, "0" * 64),))
        for each in whole
    ]

    decisions = decide(whole, keep_last=last, keep_best=["best*"])

    removed = {each.checkpoint.number for each in decisions if not each.keep}
    assert removed == {each.number for each in to_prune(manifests, last, ["best*"])}


def test_an_attempt_went_on_from_the_newest_whole_one_of_when_it_started() -> None:
    found = [saved("d", 1), saved("c", 5, BROKEN), saved("b", 6), saved("a", 9)]

    assert went_on_from(found, NOW - timedelta(minutes=3)) == identity(found[2])
    assert went_on_from(found, NOW - timedelta(minutes=20)) is None


def test_what_may_not_be_a_checkpoint_stays_and_counts_for_nothing() -> None:
    found = [
        saved("secret.env", 1),
        saved("model-2.pt", 2),
        saved("src/step-1.py", 3),
        saved("model-1.pt", 4),
    ]
    others = {identity(each) for each in found[::2]}

    decisions = decide(found, keep_last=1, others=others)

    assert [each.keep for each in decisions] == [True, True, True, False]
    assert decisions[1].reason == "the newest complete one"


def test_a_folders_files_are_told_from_checkpoints() -> None:
    def holding(name: str, *files: str) -> Checkpoint:
        return replace(saved(name, 1), files=tuple(CheckpointFile(file, 1, None) for file in files or [name]))

    checkpoints = [
        *(
            holding("a/MODEL.PT"),
            holding("x.safetensors"),
            holding("checkpoint-3", "checkpoint-3/pytorch_model.bin"),
        ),
        *(holding("dcp", "dcp/.metadata", "dcp/__0_0.distcp"), holding("step-1", "step-1/rank0/w.npz")),
    ]
    others = [
        *(holding("train.py"), holding("src/model-1.py"), holding("secret.env"), holding("data.zip")),
        *(
            holding("extension", "extension/manifest.json", "extension/main.js"),
            holding("step-1", "step-1/README"),
        ),
    ]

    assert [may_be_other(each) for each in checkpoints] == [False] * len(checkpoints)
    assert [may_be_other(each) for each in others] == [True] * len(others)
