"""The JSON contract's details."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.core.ids import InstanceId, RunId, VolumeId
from runctl.core.machine_models import Mount
from runctl.core.run_models import GitState, Run, RunPhase
from runctl.render.json import document, line, to_builtins


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Decimal("0.15780"), "0.1578"),
        (Decimal("1E+2"), "100.00"),
        (Decimal("0E-10"), "0.00"),
        (datetime(2026, 5, 1, 14, 0, 0, 999999, tzinfo=timezone(timedelta(hours=2))), "2026-05-01T12:00:00Z"),
        (timedelta(minutes=1), 60.0),
        (("a", 1), ["a", 1]),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Path("/a/b"), "/a/b"),
        ({"k": Decimal(1)}, {"k": "1.00"}),
        (True, True),
        (None, None),
        ("bytes \udcff here", "bytes \ufffd here"),
    ],
)
def test_each_kind_of_value_has_its_form(value: object, shown: object) -> None:
    assert json.loads(line(value)) == shown


def test_an_unknown_kind_is_refused_and_not_guessed() -> None:
    with pytest.raises(TypeError, match="set has no JSON form"):
        document({"a": {1, 2}})


def test_fields_keep_their_order() -> None:
    @dataclass(frozen=True)
    class Thing:
        zebra: int
        apple: int

    assert line(Thing(1, 2)) == '{"zebra":1,"apple":2}'


def test_a_run_has_the_promised_shape() -> None:
    run = Run(
        id=RunId("run-1"),
        name="baseline",
        provider="aws",
        region="us-east-1",
        instance_id=InstanceId("i-1"),
        instance_name=None,
        instance_type="g5.xlarge",
        market="spot",
        project="digits-1a2b3c4d",
        script="train.py",
        args=("--epochs", "5"),
        interpreter=(),
        workdir=None,
        state=RunPhase.ENDED,
        attempt=1,
        end_reason="COMPLETED",
        message="",
        exit_code=0,
        created_at=datetime(2026, 5, 1, tzinfo=UTC),
        started_at=datetime(2026, 5, 1, tzinfo=UTC),
        ended_at=None,
        timeout_seconds=None,
        mounts=(Mount("/mnt/data", "/data", False, VolumeId("vol-1"), "--ebs-mount"),),
        image=None,
        image_digest=None,
        variables=("TOKEN",),
        git=GitState("0" * 40, ("train.py",), 1),
        checkpoint_dir=None,
        output_dir=None,
        price_per_hour=Decimal("0.10"),
        cost=Decimal("0.02"),
    )
    shown = json.loads(document(run))
    assert shown["mounts"] == [
        {
            "source": "/mnt/data",
            "target": "/data",
            "read_only": False,
            "volume_id": "vol-1",
            "origin": "--ebs-mount",
        }
    ]
    assert shown["git"] == {"commit": "0" * 40, "changed": ["train.py"], "changed_count": 1}
    assert (shown["state"], shown["started_at"], shown["ended_at"]) == ("ended", "2026-05-01T00:00:00Z", None)
    assert (shown["cost"], shown["variables"], shown["elapsed_seconds"]) == ("0.02", ["TOKEN"], None)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_what_json_has_already_comes_through_unchanged(value: object) -> None:
    assert json.loads(document(value)) == json.loads(line(value)) == to_builtins(value) == value
