"""Each format says itself whether it was written to its end."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runctl.agent.checkpoints.folders import incomplete
from tests.agent.checkpoints.samples import NOW, WHOLE, archive, pickled, put


@pytest.mark.parametrize("suffix", sorted(WHOLE))
def test_a_whole_file_counts_and_one_cut_off_anywhere_does_not(suffix: str, tmp_path: Path) -> None:
    data = WHOLE[suffix]()
    assert incomplete(put(tmp_path, "new" + suffix, data), NOW) == ""
    near = {*range(40), *range(len(data) - 40, len(data)), *range(0, len(data), 97)}
    for length in sorted(length for length in near if 0 <= length < len(data)):
        assert incomplete(put(tmp_path, "new" + suffix, data[:length]), NOW) != "", length


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".npy"])
def test_bytes_after_the_end_are_no_complete_file(suffix: str, tmp_path: Path) -> None:
    assert incomplete(put(tmp_path, "new" + suffix, WHOLE[suffix]() + b"\0" * 7), NOW) != ""


def test_an_archive_whose_beginning_is_not_there_is_broken(tmp_path: Path) -> None:
    """As a machine that died leaves it: the size is right, and what was not yet on the disk is zero."""
    data = archive()
    assert incomplete(put(tmp_path, "a.pt", data[:2] + b"\0" * 20 + data[22:]), NOW) != ""
    # A new directory over the end of an older, longer file.
    assert incomplete(put(tmp_path, "b.pt", archive(b"x") + data[len(archive(b"x")) :]), NOW) == ""
    assert incomplete(put(tmp_path, "c.pt", archive(b"y" * 9) + b"\0" * 99), NOW) != ""


def test_a_pickle_that_proves_little_must_be_quiet_too(tmp_path: Path) -> None:
    assert incomplete(put(tmp_path, "a.pkl", pickled(), age=0.5), NOW) == "it is still being written"
    assert incomplete(put(tmp_path, "a.pkl", b"\x80\x02}q\x00.", age=5), NOW) == ""
    assert incomplete(put(tmp_path, "a.pkl", b"\x80\x02}q\x00", age=5), NOW) != ""


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([*sorted(WHOLE), ".bin", ".joblib", "/.metadata", "/x.index.json", "/manifest.json"]),
    st.sampled_from([b"", b"PK\x05\x06", b"\x93NUMPY\x01\x00", b"\x89HDF\r\n\x1a\n", b"\x80\x04\x95", b"{"]),
    st.binary(max_size=80),
)
def test_no_bytes_whatever_are_an_error(suffix: str, head: bytes, rest: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = put(Path(name), "step-1" + suffix, head + rest)
        incomplete(path.parent if suffix.startswith("/") else path, NOW)
