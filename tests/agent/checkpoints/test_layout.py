"""The words of a run's prefix, and what pruning takes."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.agent.checkpoints.layout import (
    Manifest,
    StoredFile,
    data_key,
    decode,
    encode,
    end_key,
    is_end_key,
    is_inside,
    log_key,
    log_offset,
    log_prefix,
    newest_first,
    to_prune,
    unused_data,
)

ONE = Manifest("run-1", 1, 7, "a/step-3.pt", 12.5, (StoredFile("a/step-3.pt", 3, "0" * 64),), step=3)


def numbered(attempt: int, number: int, name: str = "x.pt", content: int = 0) -> Manifest:
    return Manifest("run-1", attempt, number, name, 1.0, (StoredFile(name, 1, f"{content:064x}"),))


def test_a_manifest_comes_back_as_it_was() -> None:
    assert decode(encode(ONE)) == ONE
    assert ONE.key == "checkpoints/0001-000007.json"
    assert set(json.loads(encode(ONE))) == {
        *("format", "run_id", "attempt", "number", "name", "step", "created_at", "files")
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 2),
        ("name", "../x"),
        ("name", ""),
        ("files", []),
        ("files", [{"path": "/etc/passwd", "size": 1, "sha256": "0" * 64, "mode": 420}]),
        ("files", [{"path": "a/../../b", "size": 1, "sha256": "0" * 64, "mode": 420}]),
        ("files", [{"path": "a", "size": 1, "sha256": "../../../secret", "mode": 420}]),
        ("files", [{"path": "a", "size": -1, "sha256": "0" * 64, "mode": 420}]),
        ("attempt", "1"),
    ],
)
def test_what_is_not_a_manifest_of_ours_is_refused(key: str, value: object) -> None:
    with pytest.raises(ValueError):
        decode(json.dumps({**json.loads(encode(ONE)), key: value}).encode())


@given(st.text(max_size=12))
def test_a_path_that_is_inside_stays_inside(path: str) -> None:
    if is_inside(path):
        assert not path.startswith("/") and ".." not in path.split("/") and "" not in path.split("/")


def test_the_newest_has_the_greatest_name() -> None:
    keys = [numbered(*each).key for each in ((1, 900_000), (2, 1), (10_000, 1), (1, 1_000_001))]
    assert newest_first([*keys, "checkpoints/x.json", "data/0"]) == [keys[2], keys[1], keys[3], keys[0]]


def test_pruning_keeps_the_last_and_of_each_best_name_the_newest() -> None:
    created = [
        *(numbered(1, 1, "best.pt", 1), numbered(1, 2, "s-2.pt", 2), numbered(1, 3, "best.pt", 3)),
        *(numbered(2, 1, "s-3.pt", 4), numbered(2, 2, "deep/s-4.pt", 5)),
    ]
    assert to_prune(created, 1, ("best*",)) == [created[0], created[1], created[3]]
    assert to_prune(created, 0) == created[:-1]
    assert to_prune(created, None) == []


MADE = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(0, 4)), unique_by=lambda m: m[:2])


@given(MADE, st.integers(0, 4))
def test_no_data_of_a_kept_checkpoint_is_unused(created: list[tuple[int, int, int]], last: int) -> None:
    manifests = [numbered(attempt, number, content=content) for attempt, number, content in created]
    gone = to_prune(manifests, last)
    kept = [each for each in manifests if each not in gone]
    assert not manifests or max(manifests, key=lambda each: each.key) in kept
    unused = unused_data([data_key(f"{content:064x}") for content in range(5)] + ["spec.json"], kept)
    assert not set(unused) & {data_key(file.sha256) for each in kept for file in each.files}
    assert "spec.json" not in unused


def test_a_piece_of_a_log_says_where_it_begins() -> None:
    assert log_key(2, 4096) == "attempts/0002/log/000000004096"
    assert log_offset(log_key(2, 4096)) == 4096
    assert log_offset("attempts/0002/end.json") is None


def test_of_several_machines_each_has_a_log_and_an_end_and_the_attempts_end_is_rank_0s() -> None:
    assert log_key(2, 4096, 3) == "attempts/0002/nodes/0003/log/000000004096"
    assert log_offset(log_key(2, 4096, 3)) == 4096
    assert not log_key(2, 4096, 3).startswith(log_prefix(2))
    assert end_key(2, 3) == "attempts/0002/nodes/0003/end.json"
    assert [is_end_key(key) for key in (end_key(2), end_key(2, 3), log_key(2, 0))] == [True, False, False]


def test_unknown_keys_of_a_later_manifest_are_ignored() -> None:
    assert decode(json.dumps({**json.loads(encode(ONE)), "later": 1}).encode()) == ONE
    assert dataclasses.replace(ONE, step=None) == decode(encode(dataclasses.replace(ONE, step=None)))
