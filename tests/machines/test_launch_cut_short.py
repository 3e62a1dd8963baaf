"""``launch`` ended by Ctrl-C at its calls to AWS, before the run has started: no machine is left, and that is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from runctl.core.database import Database
from runctl.core.files import intents_folder, state_file
from runctl.machines.intents import IntentStore
from tests.machines.conftest import Cut, Runctl

pytestmark = [pytest.mark.namespaces, pytest.mark.root]


@pytest.mark.parametrize(
    ("cut", "says"),
    [
        (Cut("RunInstances", before=True), "may exist"),
        (Cut("RunInstances"), "is given back"),
        (Cut("DescribeInstanceInformation"), "is given back"),
        (Cut("SendCommand"), "is given back"),
        (Cut("SendCommand", occurrence=4, before=True), "is given back"),
    ],
    ids=lambda value: f"{value.operation} {value.occurrence}" if isinstance(value, Cut) else "",
)
def test_ctrl_c_before_the_start_leaves_no_machine(runctl: Runctl, cut: Cut, says: str) -> None:
    Path("train.py").write_text("print('trains')\n")

    ended = runctl("aws", "launch", "train.py", "--wait", cut=cut)

    assert cut.made, f"it was not cut short: {ended.calls}\n{ended.err}"
    assert ended.code == 130, ended.err
    assert says in ended.err
    assert runctl.ok("aws", "list").document == []
    assert runctl.ok("runs", "list", "--cached").document == []
    # Whether an unanswered call has made something is known later: run the same command again to check.
    unfinished = IntentStore(Database(state_file()), intents_folder()).unfinished()
    assert len(unfinished) == (0 if says == "is given back" else 1)
