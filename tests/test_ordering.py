"""What takes long comes first, and everything once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.ordering import LONGEST, shares

FILES = st.lists(st.sampled_from([*(f"/x/tests/{name}" for name in LONGEST), "/x/tests/core/test_a.py"]))


@given(FILES, st.integers(1, 6))
def test_every_test_runs_once(files: list[str], workers: int) -> None:
    assert sorted(shares(files, workers)) == list(range(len(files)))


def test_every_workers_share_begins_with_a_long_file() -> None:
    files = ["tests/core/test_a.py"] * 28 + [f"tests/{LONGEST[0]}", f"tests/{LONGEST[1]}"]
    order = shares(files, 2)
    assert (order[0], order[15]) == (28, 29)
