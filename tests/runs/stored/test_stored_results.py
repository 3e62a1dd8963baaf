"""Results in a store, brought to this computer: as they are there, whatever was here before."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from runctl.agent.encoding import dumps
from runctl.agent.end_reason import EndReason
from runctl.agent.spec import EndRecord
from runctl.core.database import Database
from runctl.core.errors import Conflict, MachineError
from runctl.core.progress import SILENT
from runctl.machines.session import Session
from runctl.runs.records.store import RunStore
from runctl.runs.records.updates import with_end
from runctl.runs.results import stored_results
from runctl.runs.stored.stored_results import fetch_from_store
from tests.runs.memory_storage import MemoryStorage
from tests.runs.sample_runs import a_run

RECORD = a_run("run-1", results="s3://mine/runs")
END = EndRecord(EndReason.COMPLETED, 0.0, log_bytes=6, log_sha256=hashlib.sha256(b"a line").hexdigest())
OBJECTS = {
    "output/model.pt": b"final weights",
    "checkpoints/last.pt": b"step-9",
    "logs/1.log": b"a line",
    "run.json": b"{}",
}


class Counted(MemoryStorage):
    """Knows what was fetched."""

    def __init__(self, *, keeps_checksums: bool = True) -> None:
        super().__init__(keeps_checksums=keeps_checksums)
        self.data = {f"runs/run-1/{key}": data for key, data in OBJECTS.items()}
        self.fetched: list[str] = []

    def fetch(self, bucket: str, key: str, write: Any, **span: Any) -> None:
        self.fetched.append(key.removeprefix("runs/run-1/"))
        super().fetch(bucket, key, write, **span)


def session(storage: MemoryStorage) -> Session:
    provider = SimpleNamespace(object_storage=storage)
    there = SimpleNamespace(provider=lambda _name: provider)
    return cast(Session, SimpleNamespace(progress=SILENT, in_region=lambda _region: there))


def write(folder: Path, **files: bytes) -> None:
    for name, data in files.items():
        path = folder / name.replace("_", "/", 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".pt").write_bytes(data)


def test_a_file_of_an_earlier_moment_is_replaced_though_it_has_the_same_size(tmp_path: Path) -> None:
    storage = Counted()
    write(tmp_path, output_model=b"FIRST weights", checkpoints_last=b"step-9")

    done = fetch_from_store(session(storage), RECORD, tmp_path)

    assert (tmp_path / "output/model.pt").read_bytes() == b"final weights"
    assert (tmp_path / "checkpoints/last.pt").read_bytes() == b"step-9"
    assert sorted(storage.fetched) == ["logs/1.log", "output/model.pt"]
    assert done == (3, 25, 19)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "1.log",
        "last.pt",
        "model.pt",
    ]


def test_what_is_there_is_not_fetched_again_unless_nobody_knows_whether_it_is_the_same(
    tmp_path: Path,
) -> None:
    fetch_from_store(session(Counted()), RECORD, tmp_path)

    again, without = Counted(), Counted(keeps_checksums=False)
    assert fetch_from_store(session(again), RECORD, tmp_path) == (3, 25, 0)
    assert fetch_from_store(session(without), RECORD, tmp_path) == (3, 25, 25)

    assert again.fetched == []
    assert len(without.fetched) == 3


def test_what_arrives_with_another_checksum_takes_no_files_place(tmp_path: Path) -> None:
    class Damaging(Counted):
        def fetch(self, bucket: str, key: str, write: Any, **span: Any) -> None:
            super().fetch(bucket, key, lambda data: write(data[:-1] + b"?"), **span)

    write(tmp_path, output_model=b"FIRST weights")
    with pytest.raises(MachineError, match="checksum"):
        fetch_from_store(session(Damaging()), RECORD, tmp_path)
    assert (tmp_path / "output/model.pt").read_bytes() == b"FIRST weights"
    assert [path.name for path in tmp_path.rglob("*.part")] == []


def test_a_run_that_has_put_nothing_there_has_no_results(tmp_path: Path) -> None:
    storage = Counted()
    storage.data = {"runs/run-1/run.json": b"{}"}
    assert fetch_from_store(session(storage), RECORD, tmp_path) is None


@pytest.mark.parametrize("link", ["output", "output/a", "output/a/b"])
def test_no_file_of_a_store_comes_to_where_a_link_leads(tmp_path: Path, link: str) -> None:
    target, outside = tmp_path / "results", tmp_path / "outside"
    outside.mkdir()
    (target / link).parent.mkdir(parents=True)
    (target / link).symlink_to(outside)
    storage = Counted()
    storage.data["runs/run-1/output/a/b/x.desktop"] = b"[Desktop Entry]"

    with pytest.raises(Conflict, match="is a link") as refused:
        fetch_from_store(session(storage), RECORD, target)

    assert refused.value.code == "link-in-the-way"
    assert (list(outside.iterdir()), storage.fetched) == ([], [])


@pytest.mark.parametrize("name", ["model.pt", ".model.pt.part"])
def test_a_link_in_a_files_own_place_is_replaced_and_not_followed(tmp_path: Path, name: str) -> None:
    target, outside = tmp_path / "results", tmp_path / "outside.pt"
    # It has the checksum of what is in the store.
    outside.write_bytes(b"final weights" if name == "model.pt" else b"mine")
    before = outside.read_bytes()
    (target / "output").mkdir(parents=True)
    (target / "output" / name).symlink_to(outside)

    fetch_from_store(session(Counted()), RECORD, target)

    model = target / "output/model.pt"
    assert (model.is_symlink(), model.read_bytes()) == (False, b"final weights")
    assert outside.read_bytes() == before
    assert sorted(path.name for path in model.parent.iterdir()) == ["model.pt"]


@pytest.mark.parametrize("has_all", [True, False])
def test_where_results_have_come_to_is_remembered_once_their_end_is_there(
    tmp_path: Path, has_all: bool
) -> None:
    storage, database = Counted(), Database(tmp_path / "state.db")
    if has_all:
        storage.data["runs/run-1/logs/1.end.json"] = dumps(END).encode()
    own = cast(Session, SimpleNamespace(**vars(session(storage)), database=database))
    record = with_end(RECORD, END)
    RunStore(database).put(record)

    stored_results(own, record, tmp_path / "results")

    fetched = RunStore(database).get("run-1").fetched
    database.close()
    assert (fetched is not None) == has_all
    if fetched is not None:
        assert (fetched.folder, fetched.attempt, fetched.files) == (str(tmp_path / "results/run-1"), 1, 3)
