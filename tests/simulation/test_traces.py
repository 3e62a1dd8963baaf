"""Traces: files of the public form, and random ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runctl.core.errors import UsageError
from runctl.simulation.traces import read_trace, read_traces, synthetic_traces


def written(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def trace(gap: float, *data: float) -> dict[str, Any]:
    return {"metadata": {"gap_seconds": gap}, "data": list(data)}


def test_a_number_above_zero_is_capacity(tmp_path: Path) -> None:
    found = read_trace(written(tmp_path, "zone-a.json", trace(195, 1, 0, 3)))
    assert (found.name, found.gap, found.available) == ("zone-a", 195.0, (True, False, True))
    assert found.share == pytest.approx(2 / 3)


def test_the_opposite_meaning_can_be_stated(tmp_path: Path) -> None:
    found = read_trace(written(tmp_path, "a.json", trace(195, 1, 0, 0)), "preempted")
    assert found.available == (False, True, True)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("not json", "malformed"),
        ('{"metadata": {"gap_seconds": 1', "truncated"),
        ([1, 0], "Expected `object`"),
        ({"data": [1]}, "metadata"),
        ({"metadata": {}, "data": [1]}, "gap_seconds"),
        ({"metadata": {"gap_seconds": 1}, "data": ["x"]}, r"\$.data\[0\]"),
        (trace(0, 1), "gap_seconds"),
        (trace(-5, 1), "gap_seconds"),
        (trace(5), "no probe"),
    ],
)
def test_what_is_not_a_trace_is_refused_by_name(tmp_path: Path, content: Any, says: str) -> None:
    path = written(tmp_path, "bad.json", content)
    with pytest.raises(UsageError, match=says) as caught:
        read_trace(path)
    assert "bad.json is not a trace" in caught.value.message
    assert caught.value.hint is not None


def test_traces_probed_at_different_distances_are_refused(tmp_path: Path) -> None:
    paths = [written(tmp_path, "a.json", trace(60, 1)), written(tmp_path, "b.json", trace(300, 1))]
    with pytest.raises(UsageError, match="a was probed every 60 s, b every 300 s"):
        read_traces(paths)


def test_random_traces_are_as_their_statistics_say() -> None:
    traces = synthetic_traces(
        4, between_interruptions=6 * 3600, availability=0.8, length=400 * 86400, gap=300, seed=3
    )
    for each in traces:
        losses = sum(
            1 for before, after in zip(each.available, each.available[1:], strict=False) if before > after
        )
        assert each.share == pytest.approx(0.8, abs=0.04)
        assert sum(each.available) * each.gap / losses == pytest.approx(6 * 3600, rel=0.15)
    assert len({each.available for each in traces}) == len(traces)


def test_a_seed_gives_the_same_traces_each_time() -> None:
    def made(seed: int) -> Any:
        return synthetic_traces(2, between_interruptions=3600, availability=0.5, length=86400, seed=seed)

    assert made(1) == made(1)
    assert made(1) != made(2)


def test_pools_that_always_have_capacity() -> None:
    (each,) = synthetic_traces(1, between_interruptions=3600, availability=1.0, length=86400)
    assert each.share == 1.0
