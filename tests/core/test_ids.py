"""What a run may be called."""

from __future__ import annotations

import pytest

from runctl.agent import records
from runctl.core import ids
from runctl.core.ids import is_run_id, new_run_id


def test_this_computer_and_machines_have_the_same_rule() -> None:
    assert ids._RUN_ID.pattern == records.RUN_ID.pattern
    assert is_run_id(new_run_id())


@pytest.mark.parametrize("text", ["", ".", "..", "../x", "a/b", "/x", "-x", "x\n", "x\0", "ä", "x" * 65])
def test_what_a_folder_or_an_option_could_be_is_not_a_run_id(text: str) -> None:
    assert not is_run_id(text)
