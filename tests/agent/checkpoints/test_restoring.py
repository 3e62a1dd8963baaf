"""What comes back of the checkpoints that are in a store."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from runctl.agent.checkpoints import layout
from runctl.agent.checkpoints.choosing import newest
from runctl.agent.checkpoints.restoring import PARTIAL, restore
from runctl.agent.checkpoints.resume import settled
from runctl.agent.checkpoints.stores import Store
from runctl.agent.disks.run_folders import RunFolders
from runctl.agent.errors import AgentError
from runctl.agent.spec import RunSpec
from runctl.agent.supervising.hand_off import checksum_of as checksum_in_folder
from runctl.agent.supervising.publish_process import checksum_of
from tests.agent.checkpoints.samples import safetensors
from tests.agent.checkpoints.saving import Run


def test_a_machine_that_has_none_gets_the_newest_whole_and_with_its_modes(run: Run, tmp_path: Path) -> None:
    run.save("deep/step-1.pt", age=100)
    new = run.put("checkpoint-2/weights.bin", b"w" * 1000)
    new.chmod(0o600)
    run.put("checkpoint-2/empty.txt", b"")
    publisher = run.publisher()
    publisher.publish_new(time.time() - 50)
    publisher.publish_new(time.time())
    fresh = tmp_path / "fresh"

    restored = restore(run.store, fresh, run.said.append)

    assert restored is not None
    assert restored.manifest.name == "checkpoint-2"
    assert {path.name: path.read_bytes() for path in (fresh / "checkpoint-2").iterdir()} == {
        "weights.bin": b"w" * 1000,
        "empty.txt": b"",
    }
    assert (fresh / "checkpoint-2/weights.bin").stat().st_mode & 0o777 == 0o600
    assert restore(run.store, fresh, run.said.append) is None
    # What is saved from now on is newer.
    assert (fresh / "checkpoint-2/weights.bin").stat().st_mtime < time.time()


def test_a_restored_folder_takes_the_place_of_a_half_of_it_as_a_whole(run: Run, tmp_path: Path) -> None:
    run.put("checkpoint-2/model.safetensors", safetensors())
    run.put("checkpoint-2/trainer_state.json", b'{"global_step": 2}')
    run.publisher().publish_new(time.time())
    fresh = tmp_path / "fresh"
    half = fresh / "checkpoint-2"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(safetensors()[:-5])
    (half / "optimizer.pt").write_bytes(b"of a save that was cut short")

    assert restore(run.store, fresh, run.said.append) is not None

    assert sorted(path.name for path in fresh.rglob("*")) == [
        "checkpoint-2",
        "model.safetensors",
        "trainer_state.json",
    ]
    assert newest(fresh).chosen == half


def test_where_the_newest_is_broken_the_one_before_it_comes_and_that_is_said(
    run: Run, tmp_path: Path
) -> None:
    publisher = run.publisher()
    for number in (1, 2, 3):
        run.save(f"step-{number}.pt", bytes([number]) * 50, age=50 - number)
        publisher.publish_new(time.time())
    _, second, third = run.manifests()
    run.store.delete(layout.data_key(third.files[0].sha256))
    run.store.put(layout.data_key(second.files[0].sha256), b"damaged")

    restored = restore(run.store, tmp_path / "fresh", run.said.append)

    assert restored is not None
    assert restored.manifest.name == "step-1.pt"
    told = next(line for line in run.said if "cannot be used" in line)
    assert told.startswith("checkpoints/0001-000003.json")
    assert [path.name for path in (tmp_path / "fresh").iterdir()] == ["step-1.pt"]


def test_where_none_is_whole_the_run_does_not_begin_from_nothing(run: Run, tmp_path: Path) -> None:
    run.save("step-1.pt")
    run.publisher().publish_new(time.time())
    run.store.delete(next(iter(run.data())))
    with pytest.raises(AgentError) as caught:
        restore(run.store, tmp_path / "fresh", run.said.append)
    assert caught.value.code == "no-checkpoint"
    assert restore(open_empty(run), tmp_path / "fresh", run.said.append) is None


def open_empty(run: Run) -> Store:
    for key in list(run.store.keys("checkpoints/")):
        run.store.delete(key)
    return run.store


def test_a_newer_one_of_the_machine_itself_stays(run: Run) -> None:
    run.save("step-1.pt", age=100)
    run.publisher().publish_new(time.time())
    run.save("step-2.pt", age=10)
    assert restore(run.store, run.folder, run.said.append) is None


def test_what_was_saved_a_moment_ago_can_be_gone_on_from_at_once(run: Run, tmp_path: Path) -> None:
    run.put("step-1/weights.bin", b"w", age=0)
    run.publisher().finish(time.time() + 60)
    fresh = tmp_path / "fresh"
    assert restore(run.store, fresh, run.said.append) is not None
    for folder in (run.folder, fresh):
        spec, _ = settled(
            RunSpec("run-1", "train.py"), RunFolders(folder, folder, "/seen", "", "", None), print
        )
        assert spec.resume_from == "/seen/step-1"
    assert newest(fresh).chosen == fresh / "step-1"


def test_one_is_asked_for_by_name_whatever_the_machine_has_itself(run: Run, tmp_path: Path) -> None:
    run.put("checkpoint-1/model.bin", b"of rank 0", age=100)
    publisher = run.publisher()
    publisher.publish_new(time.time())
    run.put("checkpoint-2/model.bin", b"later", age=50)
    publisher.publish_new(time.time())
    own = Run(tmp_path / "own", run.store)
    own.put("checkpoint-1/rng_state_1.pth", b"of this rank", age=1)
    own.put("own-999.txt", b"999", age=1)

    assert restore(run.store, own.folder, own.said.append, name="checkpoint-1") is not None
    folders = RunFolders(own.folder, own.folder, "/seen", "", "", None)
    for name, seen in (("checkpoint-1", "/seen/checkpoint-1"), ("", None)):
        assert settled(RunSpec("run-1", "train.py"), folders, print, name)[0].resume_from == seen
    assert (own.folder / "checkpoint-1/model.bin").read_bytes() == b"of rank 0"
    assert (own.folder / "own-999.txt").exists()
    with pytest.raises(AgentError, match="the store has no checkpoint-3"):
        restore(run.store, own.folder, own.said.append, name="checkpoint-3")


def test_what_is_saved_into_the_folder_itself_comes_back_too(run: Run, tmp_path: Path) -> None:
    run.put("checkpoint-1/trainer_state.json", b'{"global_step": 1}', age=100)
    publisher = run.publisher(keep_last=1)
    publisher.publish_new(time.time())
    # As `accelerator.save_state(folder)` does.
    run.put("model.safetensors", safetensors())
    publisher.publish_new(time.time())
    fresh = tmp_path / "fresh"

    restored = restore(run.store, fresh, run.said.append)

    assert restored is not None
    assert newest(fresh).chosen == fresh
    assert (fresh / "model.safetensors").read_bytes() == safetensors()
    assert (fresh / "checkpoint-1/trainer_state.json").is_file()
    assert checksum_of(restored.manifest) == checksum_in_folder(fresh, time.time() + 60)


def test_what_does_not_fit_is_not_fetched_and_what_an_earlier_fetch_left_goes(
    run: Run, tmp_path: Path
) -> None:
    run.save("step-1.pt")
    run.publisher().publish_new(time.time())
    left = tmp_path / "fresh" / f"{PARTIAL}of-before"
    left.mkdir(parents=True)
    restore(run.store, tmp_path / "fresh", run.said.append)
    assert [path.name for path in (tmp_path / "fresh").iterdir()] == ["step-1.pt"]

    (small,) = run.manifests()
    huge = replace(small, number=2, files=(replace(small.files[0], size=1 << 60),))
    run.store.put(huge.key, layout.encode(huge))
    with pytest.raises(AgentError) as caught:
        restore(run.store, tmp_path / "other", run.said.append)
    assert caught.value.code == "disk-full"
