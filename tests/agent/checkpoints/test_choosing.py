"""The newest complete checkpoint: what was cut off, is being written or is damaged never counts."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runctl.agent.checkpoints import folders
from runctl.agent.checkpoints.choosing import belonging, candidates, newest, status_of, step_of
from runctl.agent.checkpoints.folders import Checksums, sha256_of
from runctl.agent.errors import AgentError
from tests.agent.checkpoints.samples import NOW, WHOLE, archive, put, safetensors


@pytest.mark.parametrize(
    "name",
    [".new.pt.x7f", "new.pt.tmp", "new.pt.part", "tmp_new.pt", "new.pt~", "new.partial", "new.pt.tmp-123"],
)
def test_what_will_be_renamed_does_not_count(name: str, tmp_path: Path) -> None:
    old = put(tmp_path, "old.pt", archive(), age=1000)
    put(tmp_path, name, archive())
    assert newest(tmp_path, NOW).chosen == old


def test_a_file_of_an_unknown_kind_counts_when_it_is_quiet(tmp_path: Path) -> None:
    old = put(tmp_path, "old.bin", b"x", age=1000)
    new = put(tmp_path, "new.bin", b"x", age=0.5)
    assert newest(tmp_path, NOW).chosen == old
    assert newest(tmp_path, NOW + 5).chosen == new
    put(tmp_path, "empty.bin", b"")
    assert newest(tmp_path, NOW + 5).chosen == new


def test_of_one_moment_the_highest_number_is_the_newest(tmp_path: Path) -> None:
    for name in ("step-9.pt", "step-100.pt", "step-20.pt"):
        put(tmp_path, name, archive())
    assert newest(tmp_path, NOW).chosen == tmp_path / "step-100.pt"


def test_a_link_is_not_a_checkpoint_of_its_own(tmp_path: Path) -> None:
    new = put(tmp_path, "run/step-1.pt", archive())
    put(tmp_path / "outside", "other.pt", archive(), age=1)
    (tmp_path / "run/latest.pt").symlink_to("step-1.pt")
    (tmp_path / "run/out").symlink_to(tmp_path / "outside")
    assert newest(tmp_path / "run", NOW).chosen == new


def test_checkpoints_deep_in_a_loggers_folders_are_found(tmp_path: Path) -> None:
    put(tmp_path, "lightning_logs/version_0/metrics.csv", b"x", age=2000)
    new = put(tmp_path, "lightning_logs/version_0/checkpoints/epoch=1-step=9.ckpt", archive())
    assert newest(tmp_path, NOW).chosen == new


def test_nothing_is_nothing(tmp_path: Path) -> None:
    assert newest(tmp_path, NOW).chosen is None
    assert newest(tmp_path / "missing", NOW).chosen is None


def test_notes_beside_checkpoints_are_none_and_alone_they_are(tmp_path: Path) -> None:
    state = put(tmp_path, "state.json", b"{}", age=5)
    assert newest(tmp_path, NOW).chosen == state
    new = put(tmp_path, "deep/step-1.pt", archive())
    put(tmp_path, "metrics.csv", b"1", age=5)
    put(tmp_path, "events.out.tfevents.1.host", b"1", age=5)
    assert newest(tmp_path, NOW).chosen == new
    put(tmp_path, "deep/step-1.pt", archive()[:-1])
    assert newest(tmp_path, NOW).chosen is None


def test_files_of_the_same_numbers_and_notes_belong_together(tmp_path: Path) -> None:
    new = put(tmp_path, "model-20.pt", archive())
    expected = [
        put(tmp_path, "config.json", b"{}"),
        new,
        put(tmp_path, "optimizer-20.pt", archive()),
    ]
    put(tmp_path, "model-10.pt", archive())
    put(tmp_path, "big.csv", b"x" * ((1 << 20) + 1))
    put(tmp_path, ".config.json", b"{")
    put(tmp_path, "deep/scheduler-20.pt", archive())
    assert belonging(new, candidates(tmp_path)) == expected
    best = put(tmp_path, "best.pt", archive())
    assert belonging(best, candidates(tmp_path)) == [best, expected[0]]


def test_of_a_folder_all_files_belong_to_it(tmp_path: Path) -> None:
    names = ("checkpoint-5/a.safetensors", "checkpoint-5/global_step5/b.pt")
    files = [put(tmp_path, name, safetensors()) for name in names]
    assert belonging(tmp_path / "checkpoint-5", candidates(tmp_path)) == files


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("epoch=3-step=1200.ckpt", 1200),
        ("checkpoint-500", 500),
        ("ckpt_7.pt", 7),
        ("global_step12", 12),
        ("iter_0000040.pt", 40),
        ("epoch-3.pt", None),
        ("last.ckpt", None),
    ],
)
def test_the_step_is_in_the_name(name: str, step: int | None) -> None:
    assert step_of(Path(name)) == step


def test_hugging_faces_state_says_the_step(tmp_path: Path) -> None:
    put(tmp_path, "last/trainer_state.json", json.dumps({"global_step": 77}).encode())
    assert step_of(tmp_path / "last") == 77
    put(tmp_path, "checkpoint-9/trainer_state.json", b'{"global_step": "x"}')
    assert step_of(tmp_path / "checkpoint-9") == 9


SAVED = st.tuples(
    st.sampled_from(sorted(set(WHOLE) - {".json"})),
    st.integers(10, 100_000),
    st.sampled_from(["whole", "cut", "hidden"]),
    st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(SAVED, max_size=7, unique_by=lambda saved: saved[1]))
def test_what_is_chosen_is_whole_and_nothing_whole_is_newer(saved: list[tuple[str, int, str, bool]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole: dict[int, Path] = {}
        for suffix, age, state, inside in saved:
            data = WHOLE[suffix]()
            stem = f"step-{age}/model" if inside else f"step-{age}"
            path = put(folder, f"{stem}{suffix}{'.tmp' if state == 'hidden' else ''}", data, age=age)
            if state == "cut":
                put(folder, str(path.relative_to(folder)), data[: len(data) * 2 // 3], age=age)
            elif state == "whole":
                whole[age] = path.parent if inside else path
        choice = newest(folder, NOW)
        assert choice.chosen == (whole[min(whole)] if whole else None)
        assert not {checkpoint.path for checkpoint in choice.passed_over} & set(whole.values())


def test_what_an_earlier_look_has_found_is_not_read_once_more(tmp_path: Path) -> None:
    weights = put(tmp_path, "step-1/weights.bin", b"weights")
    checksum = hashlib.sha256(b"weights").hexdigest()
    put(tmp_path, "step-1/SHA256SUMS", f"{checksum}  weights.bin\n".encode())
    found = status_of(tmp_path)
    assert found is not None
    facts = weights.stat()
    weights.write_bytes(b"damaged")
    os.utime(weights, ns=(facts.st_atime_ns, facts.st_mtime_ns))

    assert status_of(tmp_path) is None
    assert status_of(tmp_path, found) == found
    new = put(tmp_path, "step-2.pt", archive(), age=10)
    newer = status_of(tmp_path, found)
    assert newer is not None
    assert newer.path == str(new)


def test_what_does_not_fit_its_checksums_is_read_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def noting(path: Path, may_read: Callable[[], bool]) -> str:
        read.append(path.name)
        return sha256_of(path, may_read)

    monkeypatch.setattr(folders, "sha256_of", noting)
    checksum = hashlib.sha256(b"weights").hexdigest()
    put(tmp_path, "step-1/SHA256SUMS", f"{checksum}  weights.bin\n".encode())
    put(tmp_path, "step-1/weights.bin", b"damaged")
    checksums = Checksums()

    assert status_of(tmp_path, checksums=checksums) is None
    assert status_of(tmp_path, checksums=checksums) is None
    assert read == ["weights.bin"]
    put(tmp_path, "step-1/weights.bin", b"weights", age=5)
    assert status_of(tmp_path, checksums=checksums) is not None
    assert read == ["weights.bin"] * 2


@pytest.mark.parametrize("look", [newest, status_of])
def test_whoever_may_not_read_any_more_reads_no_further(look: Callable[..., object], tmp_path: Path) -> None:
    asked: list[bool] = []

    def may_read() -> bool:
        asked.append(len(asked) < 2)
        return asked[-1]

    for step in (1, 2):
        data = bytes(1 << 20)
        put(
            tmp_path, f"step-{step}/SHA256SUMS", f"{hashlib.sha256(data).hexdigest()}  weights.bin\n".encode()
        )
        put(tmp_path, f"step-{step}/weights.bin", data, age=5)

    with pytest.raises(AgentError):
        look(tmp_path, None, Checksums(may_read))

    assert asked == [True, True, False]


@pytest.mark.parametrize("above", ["", "out/"])
def test_a_trainers_final_model_is_not_what_is_gone_on_from(above: str, tmp_path: Path) -> None:
    for step, age in ((500, 300.0), (1000, 200.0)):
        for name, data in (("model.safetensors", safetensors()), ("trainer_state.json", b"{}")):
            put(tmp_path, f"{above}checkpoint-{step}/{name}", data, age)
    put(tmp_path, f"{above}model.safetensors", safetensors(), 100.0)
    put(tmp_path, f"{above}training_args.bin", archive(), 100.0)
    folder = tmp_path / above

    found = {each.path for each in candidates(tmp_path)}

    assert found == {folder / "checkpoint-500", folder / "checkpoint-1000"}
    assert newest(tmp_path, NOW).chosen == folder / "checkpoint-1000"
    # Where there is nothing else, the model is what there is.
    shutil.rmtree(folder / "checkpoint-500")
    shutil.rmtree(folder / "checkpoint-1000")
    assert newest(tmp_path, NOW).chosen == folder
