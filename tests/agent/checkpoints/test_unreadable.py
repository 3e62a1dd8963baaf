"""A folder that cannot be listed is never taken for an empty one."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from runctl.agent.after_run import MachineEnd
from runctl.agent.checkpoint_spec import StoreSpec
from runctl.agent.checkpoints import choosing, folders
from runctl.agent.checkpoints.stores import open_store
from runctl.agent.errors import AgentError
from runctl.agent.records import AttemptFolder
from runctl.agent.spec import RunSpec
from runctl.agent.supervising import results


@pytest.fixture(params=[errno.EIO, errno.EACCES, errno.ESTALE])
def sick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def scandir(path: Any) -> Iterator[os.DirEntry[Any]]:
        if Path(os.fspath(path)).name == "sick":
            raise OSError(request.param, os.strerror(request.param), os.fspath(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)


@pytest.mark.usefixtures("sick")
def test_a_store_that_cannot_be_listed_is_away(tmp_path: Path) -> None:
    (tmp_path / "store" / "run-1" / "sick").mkdir(parents=True)
    store = open_store(StoreSpec(str(tmp_path / "store")), "run-1", {})

    with pytest.raises(AgentError) as caught:
        list(store.keys("sick/"))

    assert caught.value.code in {"store-away", "store-denied"}
    assert list(store.keys("nothing/here/")) == []


@pytest.mark.usefixtures("sick")
def test_a_checkpoint_of_which_a_folder_cannot_be_listed_does_not_count(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-5"
    (folder / "sick").mkdir(parents=True)
    (folder / "weights.txt").write_text("x")

    assert folders.incomplete(folder, 2e9)
    assert choosing._whole(folder).path == folder
    with pytest.raises(OSError, match="sick"):
        folders.files_of(folder)


@pytest.mark.usefixtures("sick")
def test_results_of_which_a_folder_cannot_be_listed_are_not_all_there(tmp_path: Path) -> None:
    (tmp_path / "output" / "sick").mkdir(parents=True)
    live = SimpleNamespace(output_dir=tmp_path / "output", checkpoint_dir=None)
    spec = RunSpec("run-1", "train.py", machine_end=MachineEnd(results_url="s3://b/x"))

    with pytest.raises(OSError, match="sick"):
        list(results._written(cast("AttemptFolder", SimpleNamespace(live=lambda: live)), spec))
