"""What S3 lists and what a record on a volume says is somebody else's word: it is taken, left out or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.agent.cloud.s3 import _page
from runctl.agent.errors import AgentError
from runctl.agent.fill.record import FILE, Record

LISTING = (
    "<ListBucketResult><Contents><Key>a</Key><Size>{}</Size><ETag>x</ETag></Contents></ListBucketResult>"
)
VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.lists(st.integers())
)


@pytest.mark.parametrize("size", ["x", "", "-1", "1e3", "9" * 5000, "１"])
def test_a_size_that_is_no_number_is_a_bad_listing(size: str) -> None:
    with pytest.raises(AgentError) as caught:
        list(_page(LISTING.format(size).encode())[1])

    assert caught.value.code == "bad-listing"


@given(line=st.dictionaries(st.sampled_from("psemchb"), VALUES, max_size=7) | VALUES)
def test_no_line_of_a_record_stops_its_reading(
    line: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder: Path = tmp_path_factory.mktemp("volume")
    record = Record(folder, "s3://bucket/prefix")
    record.folder.mkdir(parents=True)
    good = {"p": "kept", "s": 1, "e": "x", "m": 1, "c": "y"}
    (record.folder / FILE).write_text(f"{json.dumps(line)}\n{json.dumps(good)}\n")

    record.load()

    assert "kept" in record.files
