"""``simulate``."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Invoke, data_of, error_of
from tests.docs.pages import blocks

JOB = ("--job", "4h", "--deadline", "5h", "--runs", "5")
DOCUMENT = Path(__file__).parents[2] / "docs" / "json.md"


@pytest.fixture
def traces(tmp_path: Path) -> tuple[str, ...]:
    """Two pools, by turns without capacity for an hour."""
    options: list[str] = []
    for name, phase in (("a", 0), ("b", 1)):
        path = tmp_path / f"{name}.json"
        data = [int((probe // 12) % 3 != phase) for probe in range(288)]
        path.write_text(json.dumps({"metadata": {"gap_seconds": 300}, "data": data}))
        options += ["--trace", str(path)]
    return tuple(options)


def test_the_share_of_time_with_capacity_comes_first(invoke: Invoke, traces: tuple[str, ...]) -> None:
    lines = invoke("simulate", *traces, *JOB).stdout.splitlines()
    assert lines[0] == "Time with capacity: a 66.7%, b 66.7%; in any pool 100.0%."
    assert [line.split()[0] for line in lines[5:]] == [
        "on-demand",
        "spot",
        "spot-then-on-demand",
        "uniform-progress",
        "deadline",
    ]


def test_traces_of_the_opposite_meaning_are_turned(invoke: Invoke, traces: tuple[str, ...]) -> None:
    shown = data_of(invoke("simulate", *traces, *JOB, "--trace-means", "preempted", "--output", "json"))
    assert [pool["available"] for pool in shown["pools"]] == [0.3333, 0.3333]


def test_the_json_is_as_documented(invoke: Invoke, traces: tuple[str, ...]) -> None:
    (documented,) = [
        json.loads(block.body)
        for block in blocks(DOCUMENT.read_text())
        if block.options.get("shape") == "Simulation"
    ]
    shown = data_of(invoke("simulate", *traces, *JOB, "--output", "json"))
    assert shape(shown) == shape(documented)


def shape(value: Any) -> Any:
    """Keys and kinds, of a list those of its first."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(value[0])]
    return "number" if isinstance(value, int | float) else type(value).__name__


def test_prices_decide_what_is_saved(invoke: Invoke, traces: tuple[str, ...]) -> None:
    prices = ("--spot-price", "1.5", "--on-demand-price", "3", "--policy", "deadline")
    (result,) = data_of(invoke("simulate", *traces, *JOB, *prices, "--output", "json"))["policies"]
    assert result["saved"] == pytest.approx(1 - float(result["cost"]) / (3 * 4.05), abs=1e-3)
    assert 0.4 < result["saved"] <= 0.5


def test_random_pools_need_no_files(invoke: Invoke) -> None:
    arguments = ("simulate", *JOB, "--pools", "2", "--seed", "7", "--quiet")
    assert invoke(*arguments).stdout == invoke(*arguments).stdout
    assert invoke(*arguments).stdout.splitlines()[0] == "on-demand=0.0"


def test_the_picture_names_axes_units_and_policies(invoke: Invoke, traces: tuple[str, ...]) -> None:
    assert invoke("simulate", *traces, *JOB, "--plot", "saved.svg").exit_code == 0
    picture = Path("saved.svg").read_text()
    ET.fromstring(picture)
    for label in (
        "saved against on-demand alone, mean (%)",
        "start of the run in the traces (days)",
        "deadline",
    ):
        assert label in picture
    invoke("simulate", *traces, *JOB, "--plot", "again.svg")
    assert Path("again.svg").read_text() == picture


def test_a_picture_may_be_png(invoke: Invoke, traces: tuple[str, ...]) -> None:
    assert invoke("simulate", *traces, *JOB, "--plot", "saved.png").exit_code == 0
    assert Path("saved.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--job", "4h", "--deadline", "4h"), "shorter than the job and one restart"),
        ((*JOB, "--spot-price", "free"), "'free' is not a price; write 1.25, for example"),
        ((*JOB, "--availability", "90"), "'90' is not a share"),
        ((*JOB, "--availability", "nan"), "'nan' is not a share"),
        ((*JOB, "--plot", "saved.gif"), "saved.gif does not end with .svg, .png or .pdf"),
        ((*JOB, "--plot", "nowhere/saved.svg"), "nowhere/saved.svg cannot be written"),
        ((*JOB, "--trace", "missing.json"), "missing.json"),
    ],
)
def test_what_cannot_be_meant_is_refused(invoke: Invoke, arguments: tuple[str, ...], says: str) -> None:
    result = invoke("simulate", *arguments, "--output", "json")
    assert result.exit_code == 2
    assert says in error_of(result)["message"]


def test_without_the_library_a_picture_is_refused_with_what_to_install(
    invoke: Invoke, traces: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = invoke("simulate", *traces, *JOB, "--plot", "saved.svg", "--output", "json")
    assert "runctl[plot]" in error_of(result)["hint"]
    assert not Path("saved.svg").exists()


def test_what_would_have_no_effect_is_refused(invoke: Invoke, traces: tuple[str, ...]) -> None:
    means = error_of(invoke("simulate", *JOB, "--trace-means", "preempted", "--output", "json"))
    seed = error_of(invoke("simulate", *traces, *JOB, "--seed", "7", "--output", "json"))

    assert means["message"] == "--trace-means means nothing without --trace"
    assert seed["message"] == "--trace and --seed contradict each other"
