"""A run is told to its machine: what is recorded of that, and when."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from runctl.agent.checkpoint_spec import KEYS_FILE, StoreSpec
from runctl.agent.spec import RunSpec
from runctl.core.errors import CredentialsError, ProviderError, RunctlError
from runctl.runs.stored import lent_store
from runctl.runs.train.start import launch
from runctl.testing.clock import ManualClock
from tests.cli.fake_provider import an_instance


@pytest.mark.parametrize("error", [ProviderError("no keys now"), CredentialsError("the key is refused")])
def test_nothing_says_that_a_run_may_have_started_before_its_machine_has_the_stores_keys(
    error: RunctlError,
) -> None:
    store = StoreSpec("s3://bucket/runs", keys_file=KEYS_FILE)
    spec = RunSpec("run-a", "train", is_command=True, store=store)
    plan: Any = SimpleNamespace(
        spec=spec, instance=an_instance(), name=None, git=None, run_id="run-a", results=None
    )
    machine: Any = SimpleNamespace(provider=SimpleNamespace(announces_interruptions=True))
    recorded: list[object] = []
    runs: Any = SimpleNamespace(find=lambda _: None, put=recorded.append)

    with patch.object(lent_store, "bring_keys", side_effect=error), pytest.raises(type(error)):
        launch(plan, machine, runs, sync=None, clock=ManualClock())

    assert recorded == []
