"""A folder counts when all that its own index names is there, and nothing of it is run to find that out."""

from __future__ import annotations

import hashlib
import json
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from runctl.agent.checkpoints.choosing import newest
from runctl.agent.checkpoints.folders import incomplete
from tests.agent.checkpoints.samples import NOW, archive, put, safetensors


def test_a_folder_counts_when_all_of_it_is_there(tmp_path: Path) -> None:
    old = put(tmp_path, "checkpoint-10/model.safetensors", safetensors(), age=1000).parent
    new = tmp_path / "checkpoint-20"
    put(new, "model-1.safetensors", safetensors())
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    put(new, "model.safetensors.index.json", json.dumps(index).encode())
    assert newest(tmp_path, NOW).chosen == old
    put(new, "model-2.safetensors", safetensors()[:-1])
    assert newest(tmp_path, NOW).chosen == old
    put(new, "model-2.safetensors", safetensors())
    assert newest(tmp_path, NOW).chosen == new
    put(new, "optimizer.pt.tmp", b"x")
    assert newest(tmp_path, NOW).chosen == old


@pytest.mark.parametrize("form", ["json", "sums"])
def test_a_manifest_is_believed(form: str, tmp_path: Path) -> None:
    old = put(tmp_path, "old.pt", archive(), age=1000)
    folder, data = tmp_path / "step-2", b"weights"
    put(folder, "weights.bin", data)
    checksum = hashlib.sha256(data).hexdigest()
    if form == "json":
        put(folder, "manifest.json", json.dumps({"files": {"weights.bin": {"sha256": checksum}}}).encode())
    else:
        put(folder, "SHA256SUMS", f"{checksum}  weights.bin\n".encode())
    assert newest(tmp_path, NOW).chosen == folder
    put(folder, "weights.bin", b"changed")
    assert newest(tmp_path, NOW).chosen == old


CLASSES = """\
class Index:
    def __init__(self, name): self.fqn = name
class Info:
    def __init__(self, path, offset, length):
        self.relative_path, self.offset, self.length = path, offset, length
class Metadata:
    def __init__(self, stored): self.storage_data = stored
"""


def distributed(stored: dict[str, tuple[str, int, int]], monkeypatch: pytest.MonkeyPatch) -> bytes:
    """``.metadata`` as PyTorch pickles it: by classes of a module that its reader has not."""
    module: Any = ModuleType("torch_that_is_not_there")
    exec(CLASSES, module.__dict__)
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, module.__name__, module)
        infos = {module.Index(name): module.Info(*info) for name, info in stored.items()}
        return pickle.dumps(module.Metadata(infos))


def test_a_distributed_checkpoint_has_what_its_metadata_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "step-3"
    first, second = ("__0_0.distcp", 0, 60), ("__0_0.distcp", 60, 40)
    put(folder, "__0_0.distcp", b"x" * 100)
    assert incomplete(folder, NOW) == ".metadata is not there yet"
    index = distributed({"a": first, "b": second}, monkeypatch)
    put(folder, ".metadata", index)
    assert incomplete(folder, NOW) == ""
    put(folder, "__0_0.distcp", b"x" * 99)
    assert incomplete(folder, NOW) == "__0_0.distcp has 99 bytes, and .metadata says 100"
    put(folder, "__0_0.distcp", b"x" * 100)
    put(folder, ".metadata", distributed({"a": first, "c": ("__1_0.distcp", 0, 1)}, monkeypatch))
    assert incomplete(folder, NOW) == ".metadata names __1_0.distcp, which is not there"
    for length in range(len(index)):
        put(folder, ".metadata", index[:length])
        assert incomplete(folder, NOW) != "", length


class Runs:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("import pathlib; pathlib.Path('/tmp/it-ran').touch(); raise SystemExit('it ran')",)


def test_nothing_of_an_index_is_run(tmp_path: Path) -> None:
    put(tmp_path / "step-1", ".metadata", pickle.dumps(Runs()))
    assert incomplete(tmp_path / "step-1", NOW) == ".metadata does not say where anything is stored"


def test_lightnings_sharded_checkpoint_ends_with_its_meta_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "epoch=1-step=9.ckpt"
    put(folder, "__0_0.distcp", b"x")
    put(folder, ".metadata", distributed({"a": ("__0_0.distcp", 0, 1)}, monkeypatch))
    assert incomplete(folder, NOW) == "meta.pt is not there yet"
    put(folder, "meta.pt", archive())
    assert incomplete(folder, NOW) == ""


def test_hugging_faces_trainer_writes_its_state_last(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-40"
    put(folder, "model.safetensors", safetensors())
    put(folder, "training_args.bin", archive())
    assert incomplete(folder, NOW) == "trainer_state.json is not there yet"
    put(folder, "trainer_state.json", b'{"global_step": 4')
    assert incomplete(folder, NOW) != ""
    put(folder, "trainer_state.json", b'{"global_step": 40}')
    assert incomplete(folder, NOW) == ""
    # Of one that has only just got its model, the rest may come yet.
    put(tmp_path / "checkpoint-50", "model.safetensors", safetensors(), age=1)
    assert newest(tmp_path, NOW).chosen == folder
    assert newest(tmp_path, NOW + 2).chosen == tmp_path / "checkpoint-50"
    # The finished model has no state, and needs none.
    put(tmp_path / "final", "model.safetensors", safetensors())
    put(tmp_path / "final", "training_args.bin", archive())
    assert incomplete(tmp_path / "final", NOW) == ""
