"""Which images a cleanup of images leaves."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

from runctl.agent.end_reason import EndReason
from runctl.core.config import Config
from runctl.machines.session import Session
from runctl.runs.images.stored import needed_images
from runctl.runs.records.store import run_store
from tests.runs.sample_runs import a_record


def test_the_images_of_runs_that_may_go_on_are_needed(tmp_path: Path) -> None:
    started, ended = "2026-05-01T12:00:00", "2026-05-01T13:00:00"
    with patch("runctl.core.files.state_file", return_value=tmp_path / "state.db"):
        session = Session(config=Config())
        store = run_store(session)
        for number, (end, reason) in enumerate(
            [
                (None, None),
                (ended, EndReason.INTERRUPTED),
                (ended, EndReason.COMPLETED),
                (ended, EndReason.FAILED),
            ]
        ):
            digest = f"sha256:{number}"
            store.put(a_record(f"run-{number}", "i-1", started, end, end_reason=reason, image_digest=digest))
        store.put(a_record("run-host", "i-1", started, None))

        assert needed_images(session) == {"sha256:0", "sha256:1"}
        session.database.close()
